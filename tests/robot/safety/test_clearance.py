"""Clearances of the arm's own model: against points on its shapes, in known poses, and through the gate."""

from __future__ import annotations

import itertools
from typing import Any

import mujoco
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robot.config import GateConfig, ToolBox, load_robot
from robot.errors import ConfigError, UnreachableError
from robot.kinematics import PAN_AXIS_X_M, Kinematics, rad_to_user, user_to_rad
from robot.model import ARM_XML, load_arm
from robot.safety.clearance import FINGERS, SEEN_M, ArmClearance, Clearances, unlimited
from robot.safety.gate import MAX_LOSS_M, Gate
from robot.seams import FloatArray

CONFIG = load_robot("twin")[0]
LOW, HIGH = CONFIG.gate.min_position.array(), CONFIG.gate.max_position.array()
READY, PARK = CONFIG.ready_pose.array(), CONFIG.park_pose.array()
BOX = ToolBox(min_m=(0.08, -0.22, 0.02), max_m=(0.38, 0.25, 0.32))
BOXED = CONFIG.gate.model_copy(update={"tool_box": BOX})
MODEL = load_arm()
CLEARANCE, CLEARANCE_BOXED = ArmClearance(MODEL, CONFIG.gate), ArmClearance(MODEL, BOXED)
KINEMATICS = Kinematics(CONFIG.workspace)
BURIED = np.array([0.0, 95.0, 30.0, 0.0, 0.0, 10.0])
"""Leads through the table."""
FOLDED_IN = np.array([0.0, -99.0, 96.0, 94.0, 0.0, 10.0])
"""Leads through the arm's own shoulder."""
IN_BOX = [np.array(pose, dtype=float) for pose in ([0, -40, 60, 60, 0, 30], [30, -40, 50, 60, 90, 80])]
EXACT = 1e-8

poses = st.lists(st.floats(0, 1), min_size=6, max_size=6).map(lambda s: LOW + np.array(s) * (HIGH - LOW))
legal = poses.filter(lambda pose: min(CLEARANCE(pose)) >= 0)


def margin_of(geom: int, config: GateConfig = CONFIG.gate) -> float:
    return config.table_margin_m if MODEL.geom(geom).name in FINGERS else config.link_margin_m


def lowest_corner_m(geom: int, data: Any) -> float:
    """By its corners, or the ends of its axis: another way than the one under test."""
    size, kind = MODEL.geom_size[geom], int(MODEL.geom_type[geom])
    sphere, capsule = int(mujoco.mjtGeom.mjGEOM_SPHERE), int(mujoco.mjtGeom.mjGEOM_CAPSULE)
    half = {sphere: np.zeros(3), capsule: np.array([0, 0, size[1]])}.get(kind, size)
    corners = np.array(list(itertools.product((-1, 1), repeat=3))) * half
    heights = corners @ data.geom_xmat[geom].reshape(3, 3)[2] + data.geom_xpos[geom][2]
    return float(heights.min() - (size[0] if kind in (sphere, capsule) else 0.0))


@given(poses)
def test_room_over_the_table_is_that_of_the_lowest_corner_of_all_moving_links(pose: FloatArray) -> None:
    data = mujoco.MjData(MODEL)
    data.qpos[:] = user_to_rad(pose)
    mujoco.mj_kinematics(MODEL, data)
    moving = range(int(MODEL.body("upper_arm").geomadr[0]), MODEL.ngeom)
    expected = min(lowest_corner_m(geom, data) - margin_of(geom) for geom in moving)
    assert CLEARANCE(pose).table_m == pytest.approx(expected, abs=1e-9)


@given(poses)
@settings(max_examples=60)
def test_room_between_links_is_that_of_the_nearest_pair_two_joints_apart(pose: FloatArray) -> None:
    data = mujoco.MjData(MODEL)
    data.qpos[:] = user_to_rad(pose)
    mujoco.mj_kinematics(MODEL, data)
    order = ["base", "shoulder", "upper_arm", "lower_arm", "wrist", "gripper", "moving_jaw"]
    place = [order.index(MODEL.body(int(body)).name) for body in MODEL.geom_bodyid]
    expected = min(
        mujoco.mj_geomDistance(MODEL, data, a, b, SEEN_M, None)
        for a, b in itertools.combinations(range(MODEL.ngeom), 2)
        if abs(place[a] - place[b]) >= 2
    )
    room_m = CLEARANCE(pose).self_m + CONFIG.gate.self_margin_m
    assert room_m <= SEEN_M
    assert room_m == pytest.approx(expected, abs=2e-5)


@given(poses, st.integers(0, 5), st.floats(-1, 1))
def test_no_clearance_is_lost_faster_than_the_gate_counts_on(
    pose: FloatArray, joint: int, step: float
) -> None:
    turned = pose.copy()
    turned[joint] += step
    for before, after in zip(CLEARANCE_BOXED(pose), CLEARANCE_BOXED(turned), strict=True):
        assert abs(after - before) <= MAX_LOSS_M * abs(step) + 1e-4


def test_poses_of_every_day_have_room() -> None:
    assert min(CLEARANCE(READY)) > 0.015
    assert min(CLEARANCE(PARK)) > 0.001
    for opening in np.linspace(0, 100, 5):
        wide = READY.copy()
        wide[5] = opening
        assert min(CLEARANCE(wide)) > 0.01


@pytest.mark.parametrize("jaw_yaw_rad", [None, -0.7, 0.7])
def test_grasps_all_over_the_workspace_have_room(jaw_yaw_rad: float | None) -> None:
    found = 0
    for radius_m, pan_rad in itertools.product((0.16, 0.22, 0.28, 0.32), (-1.2, -0.5, 0.0, 0.6, 1.2)):
        x_m, y_m = PAN_AXIS_X_M + radius_m * np.cos(pan_rad), radius_m * np.sin(pan_rad)
        for gripper_rad in (0.1, 0.5):
            try:
                rad, pitch_deg = KINEMATICS.grasp(x_m, y_m, jaw_yaw_rad, gripper_rad)
            except UnreachableError:
                continue
            found += 1
            room = CLEARANCE(rad_to_user(rad))
            assert room.self_m > 0.005
            # A gripper that reaches out flat comes lower; the grasp is then that much higher.
            assert room.table_m > (0.0 if pitch_deg > 80 else -0.004)
    assert found > 20


def test_folded_arm_meets_itself_and_a_stretched_one_the_table() -> None:
    assert CLEARANCE(FOLDED_IN).self_m < -0.005
    assert CLEARANCE(BURIED).table_m < -0.05


def test_wrist_under_the_table_counts_though_the_fingertips_are_above_it() -> None:
    pose = np.array([0.0, 93.0, -32.0, -93.0, 0.0, 10.0])
    assert KINEMATICS.lowest_point_m(pose) > 0.04
    assert CLEARANCE(pose).table_m < -0.01


def test_fingers_are_all_that_grasps_but_for_palm_heel_and_root() -> None:
    names = {MODEL.geom(geom).name for geom in range(MODEL.ngeom)}
    hand = {name for name in names if name.startswith(("fixed_", "jaw_"))}
    assert hand - {"fixed_palm", "fixed_heel", "jaw_root"} == FINGERS


def test_margins_are_those_of_the_configuration() -> None:
    changed = {"table_margin_m": 0.012, "link_margin_m": 0.015, "self_margin_m": 0.013}
    wider = ArmClearance(MODEL, CONFIG.gate.model_copy(update=changed))
    assert wider(PARK).table_m == pytest.approx(CLEARANCE(PARK).table_m - 0.010)
    assert wider(PARK).self_m == pytest.approx(CLEARANCE(PARK).self_m - 0.010)


@given(poses)
def test_box_is_measured_from_the_tool_point_to_the_nearest_face(pose: FloatArray) -> None:
    tool = KINEMATICS.tool_position_m(pose)
    expected = min((tool - BOX.min_m).min(), (np.array(BOX.max_m) - tool).min())
    assert CLEARANCE_BOXED(pose).box_m == pytest.approx(expected, abs=1e-12)


def test_without_a_box_the_tool_point_may_be_anywhere() -> None:
    assert CLEARANCE(READY).box_m == np.inf
    assert unlimited(READY) == (np.inf, np.inf, np.inf)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_box_without_an_inside_is_refused_by_name(axis: int) -> None:
    low, high = [0.1, 0.1, 0.1], [0.2, 0.2, 0.2]
    low[axis] = 0.2
    with pytest.raises(ValueError, match=f"below max_m for {'xyz'[axis]}"):
        ToolBox(min_m=tuple(low), max_m=tuple(high))


def test_shape_that_cannot_be_measured_is_refused_by_name() -> None:
    text = ARM_XML.read_text(encoding="utf-8").replace(
        'name="jaw_root" type="box"', 'name="jaw_root" type="ellipsoid"'
    )
    with pytest.raises(ConfigError, match=r"shape jaw_root .* box, capsule or sphere"):
        ArmClearance(mujoco.MjModel.from_xml_string(text), CONFIG.gate)


# -- through the gate ------------------------------------------------------------------------------------

anything = st.lists(st.floats(width=32), min_size=6, max_size=6).map(lambda v: np.array(v, np.float32))
target = st.one_of(poses, poses, st.sampled_from([BURIED, FOLDED_IN, READY, PARK]), anything, st.none())
runs = st.lists(st.tuples(target, st.integers(1, 40)), min_size=1, max_size=5)


def drive(clearance: ArmClearance, start: FloatArray, run: list[tuple[Any, int]]) -> list[Clearances]:
    """The clearances of all commands of a run, and of its last braking."""
    gate = Gate(CONFIG.gate, CONFIG.dt_s, clearance)
    gate.reset(start)
    found = [clearance(start)]
    for value, ticks in [*run, (None, 20)]:
        for _ in range(ticks):
            found.append(clearance(gate.check(value).command))
    assert gate.at_rest
    return found


@given(legal, runs)
@settings(max_examples=40)
@example(READY, [(BURIED, 60)])
@example(READY, [(FOLDED_IN, 60)])
def test_no_targets_bring_a_legal_arm_into_the_table_or_into_itself(
    start: FloatArray, run: list[tuple[Any, int]]
) -> None:
    assert min(min(room) for room in drive(CLEARANCE, start, run)) >= -EXACT


@given(st.sampled_from(IN_BOX), runs)
@settings(max_examples=15)
def test_no_targets_bring_the_tool_point_out_of_its_box(
    start: FloatArray, run: list[tuple[Any, int]]
) -> None:
    assert min(min(room) for room in drive(CLEARANCE_BOXED, start, run)) >= -EXACT


@given(poses, runs)
@settings(max_examples=30)
def test_no_targets_make_a_clearance_worse_that_is_negative(
    start: FloatArray, run: list[tuple[Any, int]]
) -> None:
    for before, after in itertools.pairwise(drive(CLEARANCE_BOXED, start, run)):
        for had, has in zip(before, after, strict=True):
            assert has >= min(0.0, had) - EXACT


@pytest.mark.parametrize(
    ("start", "goal", "limited"),
    [
        (READY, BURIED, "table"),
        (READY, FOLDED_IN, "self"),
        ([0, -40, 60, 60, 0, 30], [0, 60, -60, 0, 0, 30], "box"),
    ],
)
def test_limit_that_holds_the_arm_back_is_named(start: Any, goal: Any, limited: str) -> None:
    clearance = CLEARANCE_BOXED if limited == "box" else CLEARANCE
    gate = Gate(CONFIG.gate, CONFIG.dt_s, clearance)
    gate.reset(np.array(start, dtype=float))
    assert min(clearance(gate.position)) > 0
    for _ in range(240):
        result = gate.check(np.array(goal, dtype=float))
    assert getattr(result, f"{limited}_limited")
    assert [name for name in ("table", "self", "box") if getattr(result, f"{name}_limited")] == [limited]
    assert 0.0 <= getattr(clearance(gate.position), f"{limited}_m") < 0.01
    assert not gate.check(None).table_limited
