from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robot.config import load_robot
from robot.errors import UnreachableError
from robot.hand_ik import HandIk
from robot.kinematics import Kinematics

CONFIG, _ = load_robot("twin")
LOW, HIGH = CONFIG.gate.min_position.array(), CONFIG.gate.max_position.array()
ARM = Kinematics()
OVER_THE_TABLE = np.array([5.0, -20.0, 40.0, 70.0, 30.0, 20.0])


@settings(max_examples=50)
@given(hnp.arrays(float, 6, elements=st.floats(0, 1)), hnp.arrays(float, 3, elements=st.floats(-0.1, 0.1)))
def test_the_tool_is_where_it_should_be_and_the_hand_as_it_was(share: np.ndarray, way_m: np.ndarray) -> None:
    pose = LOW + share * (HIGH - LOW)
    wanted_m = ARM.tool_position_m(pose) + way_m
    try:
        found, exact = HandIk(ARM, pose, LOW, HIGH).solve(wanted_m)
    except UnreachableError:
        assume(False)
    assert (found >= LOW).all() and (found <= HIGH).all()
    if exact:
        np.testing.assert_allclose(ARM.tool_position_m(found), wanted_m, atol=5e-4)
        assert found[1:4].sum() == pytest.approx(pose[1:4].sum(), abs=0.2)
    np.testing.assert_array_equal(found[4:], pose[4:])


def test_beyond_the_reach_the_arm_is_stretched_towards_it() -> None:
    ik = HandIk(ARM, OVER_THE_TABLE, LOW - 60.0, HIGH + 60.0)
    begin_m = ARM.tool_position_m(OVER_THE_TABLE)
    reached = [ik.solve(begin_m + np.array([far, 0.0, 0.2])) for far in np.linspace(0.0, 0.5, 200)]
    assert not reached[-1][1]
    poses = np.array([pose for pose, _ in reached])
    tools_m = np.array([ARM.tool_position_m(pose) for pose in poses])
    assert np.linalg.norm(np.diff(tools_m, axis=0), axis=1).max() < 0.006  # never a jump
    assert tools_m[-1, 0] > 0.3


def test_a_joint_at_its_limit_and_a_pose_behind_the_arm_are_refused() -> None:
    ik = HandIk(ARM, OVER_THE_TABLE, LOW, HIGH)
    with pytest.raises(UnreachableError, match="with this hand"):
        ik.solve(np.array([0.2, 0.0, 0.45]))
    with pytest.raises(UnreachableError, match="in front of the arm"):
        HandIk(ARM, np.array([0.0, -99.0, -90.0, -90.0, 0.0, 0.0]), LOW, HIGH)
