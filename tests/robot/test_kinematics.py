"""Forward kinematics against the published golden poses; inverse kinematics against forward."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.config import load_robot
from robot.errors import UnreachableError
from robot.kinematics import GRASP_HEIGHT_M, Kinematics, rad_to_user, user_to_rad

GOLDEN = [
    # six joints rad -> gripperframe xyz m, gravity torque lift/elbow/wrist
    ((0, 0, 0, 0, 0, 0), (0.391362, -0.000011, 0.226469), (-0.5386, -0.4527, -0.1171)),
    ((0, 1.5708, -1.5708, 0, 0, 0), (0.475932, -0.000011, 0.085898), (-0.8549, -0.4527, -0.1171)),
    ((0, 0, -1.57, 0, 0, 0), (0.100170, -0.000011, 0.523295), (-0.0714, 0.0145, 0.0024)),
    ((0.5, -0.5, 0.5, 0.5, 0.5, 0.5), (0.275948, -0.133888, 0.151520), (-0.3224, -0.4398, -0.1042)),
    ((-1, 0.3, -0.8, 1.2, -1.5, 1.0), (0.209475, 0.280036, 0.182228), (-0.5782, -0.3772, -0.0886)),
    ((0, 0, 0.4735, 1.177, 1.584, 0.7277), (0.206924, -0.008081, 0.013566), (-0.3811, -0.2952, 0.0092)),
    (
        (-0.0936, -1.6632, 1.4684, 0.58, 0.7227, 0.0184),
        (0.230846, 0.012723, 0.099885),
        (-0.0276, -0.4361, -0.1092),
    ),
]


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(load_robot("twin")[0].workspace)


@pytest.mark.parametrize(("q", "xyz", "torque"), GOLDEN)
def test_forward_kinematics_is_the_published_models(kinematics, q, xyz, torque):
    user = rad_to_user(np.array(q, dtype=float))
    assert kinematics.site_position_m("gripperframe", user) == pytest.approx(xyz, abs=0.0005)
    assert kinematics.gravity_torque_nm(np.array(q, dtype=float))[1:4] == pytest.approx(torque, abs=0.001)


def test_joints_have_lerobots_names_in_order(kinematics):
    names = [kinematics.model.joint(i).name for i in range(kinematics.model.njnt)]
    assert names == ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
    assert kinematics.model.site("gripperframe").id >= 0


def test_positive_pan_turns_towards_minus_y(kinematics):
    left = kinematics.tool_position_m(np.array([30.0, 0, 0, 0, 0, 0]))
    assert left[1] < -0.05


@given(st.lists(st.floats(-150, 150), min_size=6, max_size=6))
def test_units_round_trip(values):
    user = np.array(values)
    assert rad_to_user(user_to_rad(user)) == pytest.approx(user, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(x=st.floats(0.18, 0.30), y=st.floats(-0.15, 0.15), yaw=st.floats(-math.pi / 4, math.pi / 4))
def test_every_point_of_the_field_has_a_grasp_that_is_there(x, y, yaw):
    kinematics = Kinematics(load_robot("twin")[0].workspace)
    rad, pitch_deg = kinematics.grasp(x, y, yaw)
    user = rad_to_user(rad)
    assert kinematics.tool_position_m(user) == pytest.approx([x, y, GRASP_HEIGHT_M], abs=0.0016)
    assert kinematics.lowest_point_m(user) > 0.0
    assert 50 <= pitch_deg <= 90
    assert (rad >= kinematics.min_rad - 1e-6).all()
    assert (rad <= kinematics.max_rad + 1e-6).all()


@pytest.mark.parametrize(
    ("point", "why"),
    [
        ((0.0, 0.0), "inside the robot's base"),
        ((0.12, 0.0), "too close"),
        ((0.60, 0.0), "too far"),
        ((-0.20, 0.10), "round"),
        ((math.nan, 0.0), "finite"),
        ((0.2, math.inf), "finite"),
    ],
)
def test_points_that_cannot_be_picked_say_why(kinematics, point, why):
    with pytest.raises(UnreachableError, match=why):
        kinematics.check_pickup(*point)


def test_many_poses_at_once_are_each_where_one_is(kinematics):
    rng = np.random.default_rng(1)
    poses = rad_to_user(rng.uniform(kinematics.min_rad, kinematics.max_rad, (50, 6)))
    one_by_one = np.array([kinematics.tool_position_m(pose) for pose in poses])
    np.testing.assert_allclose(kinematics.tool_positions_m(poses), one_by_one, atol=1e-12)
    assert kinematics.tool_positions_m(poses[:0]).shape == (0, 3)
