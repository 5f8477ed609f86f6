"""Ways to the ready and park poses: with room all along, on the arm's own model."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.config import load_robot
from robot.kinematics import Kinematics, rad_to_user
from robot.model import load_arm
from robot.safety.clearance import ArmClearance, Clearance, Clearances, unlimited
from robot.safety.gate import Gate
from robot.seams import ArmState, FloatArray
from robot.sources import RampSource
from robot.way import BUDGET, COMFORT_M, Planner, safe_way

CONFIG = load_robot("twin")[0]
LOW, HIGH = CONFIG.gate.min_position.array(), CONFIG.gate.max_position.array()
READY, PARK = CONFIG.ready_pose.array(), CONFIG.park_pose.array()
CLEARANCE = ArmClearance(load_arm(), CONFIG.gate)
ZEROS = np.zeros(6)
STATE = ArmState(0.0, ZEROS, ZEROS, ZEROS, ZEROS, ZEROS, ZEROS, np.zeros(6, np.uint8))
poses = st.lists(st.floats(0, 1), min_size=6, max_size=6).map(lambda s: LOW + np.array(s) * (HIGH - LOW))
legal = poses.filter(lambda pose: min(CLEARANCE(pose)) >= 0)


def least(waypoints: list[FloatArray]) -> FloatArray:
    """The least of each clearance on a way."""
    legs = (np.linspace(a, b, 60) for a, b in itertools.pairwise(waypoints))
    return np.array([CLEARANCE(pose) for leg in legs for pose in leg]).min(axis=0)


def floor(start: FloatArray, goal: FloatArray) -> FloatArray:
    return np.min([CLEARANCE(start), CLEARANCE(goal), COMFORT_M], axis=0)


@given(legal, st.sampled_from([READY, PARK]))
@settings(max_examples=60)
def test_way_from_any_legal_pose_keeps_its_room(start: FloatArray, goal: FloatArray) -> None:
    waypoints = safe_way(start, goal, CLEARANCE, LOW, HIGH)
    assert (waypoints[0] == start).all()
    assert (waypoints[-1] == goal).all()
    assert all(((pose >= LOW) & (pose <= HIGH)).all() for pose in waypoints)
    assert all((a != b).any() for a, b in itertools.pairwise(waypoints))
    assert (least(waypoints) >= floor(start, goal) - 0.002).all()


def test_low_gripper_parks_through_the_gate_without_being_held_back() -> None:
    start = rad_to_user(Kinematics().grasp(0.25, 0.1)[0])
    gate = Gate(CONFIG.gate, CONFIG.dt_s, CLEARANCE)
    gate.reset(start)
    ramp = RampSource(safe_way(start, PARK, CLEARANCE, LOW, HIGH), CONFIG.ramp_velocity_dps, CONFIG.dt_s)
    while not ramp.done:
        result = gate.check(ramp.target(0, STATE))
        assert not (result.table_limited or result.self_limited)
    for _ in range(60):
        gate.check(ramp.goal)
    assert gate.position == pytest.approx(PARK, abs=0.01)


def wall(joint: int, value: float, half: float = 10.0) -> Clearance:
    """Clear but for a wall across shoulder_pan 0 with a gap where another joint is past a value."""

    def clearance(pose: FloatArray) -> Clearances:
        blocked = abs(pose[0]) < half and pose[joint] < value
        return Clearances(table_m=-1.0 if blocked else 1.0)

    return clearance


LEFT, RIGHT = np.array([-50.0, 0, 0, 0, 0, 50]), np.array([50.0, 0, 0, 0, 0, 50])


def crosses_free(waypoints: list[FloatArray], clearance: Clearance) -> bool:
    legs = (np.linspace(a, b, 200) for a, b in itertools.pairwise(waypoints))
    return all(clearance(pose).table_m > 0 for leg in legs for pose in leg)


def test_straight_way_is_taken_where_it_is_free() -> None:
    assert len(safe_way(LEFT, RIGHT, unlimited, LOW, HIGH)) == 2
    assert len(safe_way(LEFT, LEFT, unlimited, LOW, HIGH)) == 1


def test_hand_is_raised_where_that_is_the_way_round() -> None:
    clearance = wall(3, 20.0)  # wrist_flex: all but one of the folds are through this gap
    waypoints = safe_way(LEFT, RIGHT, clearance, LOW, HIGH)
    assert len(waypoints) == 4
    assert crosses_free(waypoints, clearance)


@pytest.mark.parametrize("gap", [(4, 20.0), (5, 60.0), (1, 15.0)])
def test_search_finds_a_gap_that_no_fold_leads_through(gap: tuple[int, float]) -> None:
    joint, value = gap
    clearance = wall(joint, value)
    seen = wall(joint, value - 6.0, 4.0)  # corners are cut by as much as lies between two looks
    for start, goal in ((LEFT, RIGHT), (RIGHT, LEFT)):
        waypoints = safe_way(start, goal, clearance, LOW, HIGH)
        assert (waypoints[0] == start).all()
        assert (waypoints[-1] == goal).all()
        assert len(waypoints) <= 8
        assert crosses_free(waypoints, seen)
        again = safe_way(start, goal, clearance, LOW, HIGH)
        assert np.array_equal(waypoints, again)


def test_where_there_is_no_way_planning_ends_within_its_budget() -> None:
    planner = Planner(LEFT, RIGHT, wall(5, 1000.0), LOW, HIGH)
    assert planner.way() is None
    assert planner.looks <= BUDGET
    assert np.array_equal(safe_way(LEFT, RIGHT, wall(5, 1000.0), LOW, HIGH), [LEFT, RIGHT])
