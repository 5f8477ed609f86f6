"""Ramps and holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.config import load_robot
from robot.joints import N_JOINTS
from robot.seams import ArmState, FloatArray
from robot.sources import Ending, HoldSource, RampSource

CONFIG = load_robot("twin")[0]
LOW, HIGH = CONFIG.gate.min_position.array(), CONFIG.gate.max_position.array()
DT_S = CONFIG.dt_s
ZEROS = np.zeros(N_JOINTS)
STATE = ArmState(0.0, ZEROS, ZEROS, ZEROS, ZEROS, ZEROS, ZEROS, np.zeros(N_JOINTS, np.uint8))
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
