"""Properties of the gate: whatever comes in, what goes out is inside every limit."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.config import GateConfig, JointValues
from robot.joints import JOINTS
from robot.safety.clearance import Clearance, Clearances, unlimited
from robot.safety.gate import Gate
from robot.seams import FloatArray

DT_S = 1 / 60
LOW, HIGH, SPEED, ACCELERATION = (
    np.array(values)
    for values in (
        [-110.0, -100.0, -95.0, -95.0, -160.0, 0.0],
        [110.0, 100.0, 95.0, 95.0, 160.0, 100.0],
        [180.0, 120.0, 150.0, 200.0, 250.0, 300.0],
        [900.0, 600.0, 800.0, 1000.0, 1200.0, 2500.0],
    )
)
MARGIN_M = 0.002
EXACT = 1e-6


def joints(values: FloatArray) -> JointValues:
    return JointValues(**dict(zip(JOINTS, values.tolist(), strict=True)))


CONFIG = GateConfig(
    min_position=joints(LOW),
    max_position=joints(HIGH),
    max_velocity=joints(SPEED),
    max_acceleration=joints(ACCELERATION),
    table_margin_m=MARGIN_M,
)


def planar(pose: FloatArray) -> float:
    """Lowest tip of a planar three-link arm on a 0.1 m post; the gripper's opening lowers it a little."""
    a, b, c = np.cumsum(np.radians(pose[1:4]))
    return float(
        0.1 + 0.11 * math.sin(a + 0.8) + 0.13 * math.sin(b - 0.4) + 0.1 * math.sin(c - 0.8) - 2e-4 * pose[5]
    )


def over_table(pose: FloatArray) -> Clearances:
    return Clearances(table_m=planar(pose) - MARGIN_M)


def gate_at(position: FloatArray, clearance: Clearance = unlimited) -> Gate:
    gate = Gate(CONFIG, DT_S, clearance)
    gate.reset(position)
    return gate


any_float32 = st.floats(width=32)
anything = st.lists(any_float32, min_size=6, max_size=6).map(lambda v: np.array(v, np.float32))
inside = st.lists(st.floats(0, 1), min_size=6, max_size=6).map(lambda s: LOW + np.array(s) * (HIGH - LOW))
plausible = st.lists(st.floats(-0.2, 1.2), min_size=6, max_size=6).map(
    lambda s: LOW + np.array(s) * (HIGH - LOW)
)
target = st.one_of(anything, plausible, plausible, st.none())
runs = st.lists(st.tuples(target, st.integers(1, 30)), min_size=1, max_size=8)


def commands(gate: Gate, run: list[tuple[Any, int]]) -> FloatArray:
    """All commands of a run, the pose before it first."""
    rows = [gate.position]
    for value, ticks in run:
        rows.extend(gate.check(value).command for _ in range(ticks))
    return np.array(rows)


@given(inside, runs)
def test_any_float32_gives_commands_inside_position_speed_and_acceleration_limits(
    start: FloatArray, run: list[tuple[Any, int]]
) -> None:
    path = commands(gate_at(start), run)
    velocity = np.diff(path, axis=0, prepend=path[:1]) / DT_S
    acceleration = np.diff(velocity, axis=0, prepend=velocity[:1]) / DT_S
    assert np.isfinite(path).all()
    assert ((path >= LOW - EXACT) & (path <= HIGH + EXACT)).all()
    assert (np.abs(velocity) <= SPEED + EXACT).all()
    assert (np.abs(acceleration) <= ACCELERATION + 1e-4).all()


@given(inside, inside, runs)
@settings(max_examples=60)
def test_constant_target_is_reached_and_never_overshot(
    start: FloatArray, goal: FloatArray, before: list[tuple[Any, int]]
) -> None:
    gate = gate_at(start)
    commands(gate, before)
    commands(gate, [(None, 200)])  # from rest, anywhere
    path = commands(gate, [(goal, 400)])
    assert path[-1] == pytest.approx(goal, abs=1e-9)
    side = np.sign(goal - path[0])
    assert (side * (goal - path) >= -EXACT).all()
    assert (side * np.diff(path, axis=0) >= -EXACT).all()  # never backwards


@given(inside, inside, inside, st.integers(3, 30))
def test_moving_joint_that_can_stop_before_a_new_target_does(
    start: FloatArray, former: FloatArray, goal: FloatArray, ticks: int
) -> None:
    gate = gate_at(start)
    commands(gate, [(former, ticks)])
    at, stop = gate.position, gate.stop_position
    path = commands(gate, [(goal, 300)])
    for joint in range(6):
        for side in (1, -1):
            if side * (stop[joint] - at[joint]) > 0 and side * (goal[joint] - stop[joint]) >= 0:
                assert (side * (goal[joint] - path[:, joint]) >= -EXACT).all()


@pytest.mark.parametrize("ticks", [3, 5, 8, 11, 20])
def test_target_that_jumps_to_the_nearest_point_of_rest_is_not_overshot(ticks: int) -> None:
    gate = gate_at(np.zeros(6))
    commands(gate, [(HIGH, ticks)])
    goal = np.minimum(gate.stop_position + 1e-3, HIGH)
    path = commands(gate, [(goal, 100)])
    assert (path <= goal + EXACT).all()
    assert path[-1] == pytest.approx(goal)


def test_constant_target_is_reached_about_as_fast_as_the_limits_allow() -> None:
    gate = gate_at(np.zeros(6))
    distance, speed, acceleration = 90.0, SPEED[0], ACCELERATION[0]
    goal = np.array([distance, 0, 0, 0, 0, 0])
    ticks = 0
    while gate.position[0] != distance and ticks < 1000:
        gate.check(goal)
        ticks += 1
    ideal_s = distance / speed + speed / acceleration
    assert ideal_s - 2 * DT_S <= ticks * DT_S <= ideal_s + 2 * DT_S


def test_smooth_target_is_followed_without_lag() -> None:
    gate = gate_at(np.zeros(6))
    for tick in range(1, 300):
        goal = np.zeros(6)
        goal[0] = 30.0 * (1 - math.cos(2 * tick * DT_S))  # up to 60 degrees per second
        result = gate.check(goal)
        assert result.command[0] == pytest.approx(goal[0], abs=0.012)
        assert not result.rate_limited


@pytest.mark.parametrize(
    "bad",
    [
        np.full(6, np.nan),
        np.array([0, 0, 0, np.inf, 0, 0]),
        np.array([0, -np.inf, 0, 0, 0, 0]),
        np.zeros(5),
        np.zeros((1, 6)),
        np.zeros(0),
        "zeros!",
        ["a"] * 6,
        3.0,
        [[1], [2, 3]],
    ],
)
def test_what_is_not_six_finite_numbers_is_rejected_whole_and_the_arm_brakes(bad: Any) -> None:
    gate = gate_at(np.zeros(6))
    commands(gate, [(HIGH, 20)])
    expected = gate.stop_position
    assert not gate.at_rest
    result = gate.check(bad)
    assert result.rejected
    assert not result.clamped
    commands(gate, [(bad, 60)])
    assert gate.at_rest
    assert gate.position == pytest.approx(expected)


def test_counts_what_it_did() -> None:
    gate = gate_at(np.zeros(6))
    free = gate.check(np.full(6, 0.01))
    assert (free.clamped, free.rate_limited, free.table_limited, free.rejected) == (False,) * 4
    far = gate.check(np.array([500.0, 0, 0, 0, 0, 0]))
    held = gate.check(None)
    assert (held.clamped, held.rate_limited, held.table_limited, held.rejected) == (False,) * 4
    assert (far.clamped, far.rate_limited, far.table_limited, far.rejected) == (True, True, False, False)


def test_speed_scale_slows_down_without_breaking_the_acceleration_limit() -> None:
    gate = gate_at(LOW.copy())
    fast = commands(gate, [(HIGH, 40)])
    gate.speed_scale = 0.25
    slow = commands(gate, [(HIGH, 60)])
    velocity = np.diff(np.vstack([fast, slow[1:]]), axis=0) / DT_S
    assert (np.abs(np.diff(velocity, axis=0)) / DT_S <= ACCELERATION + 1e-4).all()
    assert (velocity[-1] <= 0.25 * SPEED + EXACT).all()


def test_start_outside_the_limits_leads_back_inside_without_a_jump() -> None:
    start = HIGH + 15.0
    path = commands(gate_at(start), [(np.full(6, 1e9), 5), (HIGH + 40, 200)])
    steps = np.diff(path, axis=0)
    assert (steps <= EXACT).all()
    assert (np.abs(steps) <= SPEED * DT_S + EXACT).all()
    assert path[-1] == pytest.approx(HIGH)


@given(inside, runs)
@settings(max_examples=60)
def test_no_command_lowers_a_fingertip_under_the_table_margin(
    start: FloatArray, run: list[tuple[Any, int]]
) -> None:
    gate = gate_at(start, over_table)
    path = commands(gate, run)
    heights = np.array([planar(pose) for pose in path])
    for before, after in itertools.pairwise(heights):
        assert after >= min(MARGIN_M, before) - EXACT


def pressing_pose(gate: Gate) -> FloatArray:
    """A target under the table, straight below."""
    goal = gate.position
    goal[1] -= 60.0
    return goal


def test_table_stops_the_joint_that_leads_down_smoothly_and_lets_the_others_go_on() -> None:
    start = np.array([0.0, 20.0, 0.0, 0.0, 0.0, 0.0])
    assert planar(start) > 0.05
    gate = gate_at(start, over_table)
    goal = pressing_pose(gate)
    goal[0] = 45.0
    assert planar(goal) < -0.05
    path = commands(gate, [(goal, 120)])
    result = gate.check(goal)
    assert result.table_limited
    assert result.command[0] == pytest.approx(45.0)  # the pan does not change the height
    assert MARGIN_M - EXACT <= planar(result.command) < MARGIN_M + 0.003
    acceleration = np.diff(path, n=2, axis=0) / DT_S**2
    assert (np.abs(acceleration) <= ACCELERATION + 1e-4).all()


def test_joints_that_do_not_lead_down_keep_their_speed_while_one_presses_on_the_table() -> None:
    gate = gate_at(np.array([-90.0, 20.0, 0.0, 0.0, 0.0, 0.0]), over_table)
    pressed = pressing_pose(gate)
    commands(gate, [(pressed, 120)])
    assert gate.check(pressed).table_limited
    away = np.array([90.0, *pressed[1:]])
    path, limited = [gate.position], []
    for _ in range(80):
        result = gate.check(away)
        path.append(result.command)
        limited.append(result.table_limited)
        assert planar(result.command) >= MARGIN_M - EXACT
    assert all(limited)
    assert path[-1][0] == pytest.approx(90.0)
    assert np.diff(np.array(path)[:, 0]).max() == pytest.approx(SPEED[0] * DT_S)


@pytest.mark.parametrize("speed", [30.0, 90.0, 170.0])
def test_target_that_runs_through_a_limit_is_stopped_for_smoothly(speed: float) -> None:
    gate = gate_at(np.zeros(6))
    path = [gate.position]
    for tick in range(1, 400):
        goal = np.zeros(6)
        goal[0] = speed * tick * DT_S
        path.append(gate.check(goal).command)
    acceleration = np.diff(np.array(path)[:, 0], n=2) / DT_S**2
    assert np.abs(acceleration).max() <= ACCELERATION[0] + 1e-4
    assert max(pose[0] for pose in path) <= HIGH[0]
    assert path[-1][0] == pytest.approx(HIGH[0])


def test_motion_that_raises_the_lowest_point_is_allowed_from_under_the_margin() -> None:
    start = np.array([0.0, -20.0, 0.0, 0.0, 0.0, 0.0])
    while planar(start) > -0.01:
        start[1] -= 1.0
    gate = gate_at(start, over_table)
    down = gate.check(start - np.array([0, 20.0, 0, 0, 0, 0]))
    assert down.table_limited
    assert (down.command == start).all()
    up = commands(gate, [(start + np.array([0, 60.0, 0, 0, 0, 0]), 200)])
    heights = [planar(pose) for pose in up]
    assert heights == sorted(heights)
    assert heights[-1] > MARGIN_M


def test_hold_brakes_to_the_announced_stop_and_stays() -> None:
    gate = gate_at(np.zeros(6))
    commands(gate, [(HIGH, 15)])
    stop = gate.stop_position
    path = commands(gate, [(None, 100)])
    assert path[-1] == pytest.approx(stop)
    assert (np.diff(path, axis=0) >= 0).all()
    assert gate.at_rest


def test_top_speed_holds_for_the_way_to_a_target_and_for_catching_up() -> None:
    gate = gate_at(np.zeros(6))
    gate.top_speed = 60.0
    before = gate.position
    for target in ([60.0, -50.0, 50.0, 90.0, -150.0, 90.0],) * 240:
        command = gate.check(target).command
        assert np.abs(command - before).max() <= 60.0 * DT_S + EXACT
        before = command
    assert before == pytest.approx([60.0, -50.0, 50.0, 90.0, -150.0, 90.0])


def test_target_of_a_number_that_no_float_holds_is_rejected() -> None:
    assert gate_at(np.zeros(6)).check([10**400, 0, 0, 0, 0, 0]).rejected


@pytest.mark.parametrize("beyond", [-1.0, 1.0])
def test_a_target_beyond_either_limit_counts_as_clamped(beyond: float) -> None:
    gate = gate_at((LOW + HIGH) / 2.0)
    target = (LOW + HIGH) / 2.0
    target[2] = (LOW if beyond < 0 else HIGH)[2] + beyond
    assert gate.check(target).clamped
    target[2] -= 2.0 * beyond
    assert not gate.check(target).clamped


def moving_gate() -> Gate:
    """A gate in the middle of a fast motion of all joints."""
    gate = gate_at(LOW + 0.2 * (HIGH - LOW))
    for _ in range(20):
        gate.check(HIGH)
    assert not gate.at_rest
    return gate


def test_a_joint_that_yields_stands_where_it_was_met_and_the_others_brake() -> None:
    gate = moving_gate()
    place = gate.position[3] - 4.0
    gate.yield_to(3, place)
    positions = commands(gate, [(None, 60)])
    assert (positions[:, 3] == place).all()
    assert gate.at_rest
    gate = moving_gate()
    for joint in range(6):
        gate.yield_to(joint, gate.position[joint])
    assert gate.at_rest


def test_a_frozen_gate_stands_at_once_and_begins_again_from_rest() -> None:
    gate = moving_gate()
    before = gate.position
    gate.freeze()
    assert gate.at_rest
    assert (gate.check(None).command == before).all()
    first = gate.check(HIGH).command - before
    assert (np.abs(first) <= ACCELERATION * DT_S**2 + EXACT).all()


def test_what_moved_before_a_stop_is_not_taken_for_the_motion_of_a_target_after_it() -> None:
    gate = moving_gate()
    gate.freeze()
    before = gate.position
    near = before + 0.05  # a step, not a motion: it is braked for, not followed
    gate.check(near)
    positions = commands(gate, [(near, 60)])
    assert (positions <= near + EXACT).all() and (positions >= before - EXACT).all()
