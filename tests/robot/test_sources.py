"""Ramps, and the way to a pose that stays above the table, on the arm's own kinematics."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.config import load_robot
from robot.joints import N_JOINTS
from robot.kinematics import Kinematics, rad_to_user
from robot.safety.gate import Gate
from robot.seams import ArmState, FloatArray
from robot.sources import Ending, HoldSource, RampSource, safe_way

CONFIG = load_robot("twin")[0]
LOW, HIGH = CONFIG.gate.min_position.array(), CONFIG.gate.max_position.array()
READY, PARK = CONFIG.ready_pose.array(), CONFIG.park_pose.array()
DT_S = CONFIG.dt_s
ZEROS = np.zeros(N_JOINTS)
STATE = ArmState(0.0, ZEROS, ZEROS, ZEROS, ZEROS, ZEROS, ZEROS, np.zeros(N_JOINTS, np.uint8))
KINEMATICS = Kinematics()
poses = st.lists(st.floats(0, 1), min_size=6, max_size=6).map(lambda s: LOW + np.array(s) * (HIGH - LOW))


def path_of(ramp: RampSource, start: FloatArray) -> FloatArray:
    rows = [start]
    while not ramp.done:
        rows.append(ramp.target(0, STATE))
    return np.array(rows)


def test_hold_stays() -> None:
    pose = np.arange(6.0)
    source = HoldSource(pose)
    pose[:] = 0
    assert (source.target(3, STATE) == np.arange(6.0)).all()


@given(poses, poses)
def test_ramp_begins_and_ends_at_rest_and_keeps_its_speed(start: FloatArray, goal: FloatArray) -> None:
    ramp = RampSource([start, goal], 60.0, DT_S)
    path = path_of(ramp, start)
    speed = np.abs(np.diff(path, axis=0)) / DT_S
    assert path[-1] == pytest.approx(goal)
    assert speed.max(initial=0) <= 60.0 + 1e-6
    assert speed[[0, -1]].max() <= 15.0
    assert isinstance(ramp, Ending)
    assert ramp.target(0, STATE) == pytest.approx(goal)


def test_ramp_goes_on_where_it_was_after_missed_ticks() -> None:
    ramp = RampSource([ZEROS, np.full(6, 30.0)], 60.0, DT_S)
    before = ramp.target(10, STATE)
    after = ramp.target(500, STATE)
    assert np.abs(after - before).max() < 1.0


def test_ramp_rests_at_each_waypoint() -> None:
    middle, end = np.full(6, 20.0), np.full(6, -10.0)
    path = path_of(RampSource([ZEROS, middle, end], 60.0, DT_S), ZEROS)
    closest = int(np.abs(path - middle).sum(axis=1).argmin())
    assert path[closest] == pytest.approx(middle)
    assert np.abs(path[closest + 1] - middle).max() < 0.1


def lowest(way: list[FloatArray]) -> float:
    legs = (np.linspace(a, b, 60) for a, b in itertools.pairwise(way))
    return min(KINEMATICS.lowest_point_m(pose) for leg in legs for pose in leg)


@given(poses, st.sampled_from([READY, PARK]))
@settings(max_examples=60)
def test_way_to_a_rest_pose_stays_above_the_table(start: FloatArray, goal: FloatArray) -> None:
    height_m = KINEMATICS.lowest_point_m(start)
    way = safe_way(start, goal, KINEMATICS.lowest_point_m, LOW, HIGH)
    assert (way[0] == start).all()
    assert (way[-1] == goal).all()
    assert all(((pose >= LOW) & (pose <= HIGH)).all() for pose in way)
    # Poses with the gripper folded under the arm, pointing back at the base, may have no way out.
    if height_m > 0.0 and start[1:4].sum() < 120.0:
        assert lowest(way) >= min(height_m, KINEMATICS.lowest_point_m(goal), 0.03) - 0.005


def test_low_gripper_is_lifted_before_it_travels() -> None:
    rad, _ = KINEMATICS.grasp(0.25, 0.1)
    start = rad_to_user(rad)
    assert KINEMATICS.lowest_point_m(start) < 0.02
    way = safe_way(start, PARK, KINEMATICS.lowest_point_m, LOW, HIGH)
    gate = Gate(CONFIG.gate, DT_S, KINEMATICS.lowest_point_m)
    gate.reset(start)
    heights = []
    ramp = RampSource(way, CONFIG.ramp_velocity_dps, DT_S)
    while not ramp.done:
        result = gate.check(ramp.target(0, STATE))
        assert not result.table_limited
        heights.append(KINEMATICS.lowest_point_m(result.command))
    assert min(heights) >= min(heights[0], 0.01) - 1e-3
    for _ in range(60):
        gate.check(ramp.goal)
    assert gate.position == pytest.approx(PARK, abs=0.01)
