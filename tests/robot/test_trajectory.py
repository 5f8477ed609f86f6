"""Curves start and end at rest, pass their waypoints and never overshoot them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.trajectory import Trajectory, min_jerk

POINTS = st.lists(st.floats(-100, 100), min_size=2, max_size=6)


@given(POINTS, st.floats(0.1, 3.0))
def test_waypoints_are_passed_and_never_overshot(points, leg_s):
    stack = np.array(points)[:, None]
    curve = Trajectory.through(stack, np.full(len(points) - 1, leg_s))
    for time_s, point in zip(curve.times_s, stack, strict=True):
        assert curve.at(float(time_s)) == pytest.approx(point, abs=1e-6)
    for i in range(len(points) - 1):
        low, high = sorted((points[i], points[i + 1]))
        for t in np.linspace(i * leg_s, (i + 1) * leg_s, 11):
            assert low - 1e-6 <= curve.at(float(t))[0] <= high + 1e-6


@given(POINTS)
def test_it_starts_and_ends_at_rest(points):
    curve = Trajectory.through(np.array(points)[:, None], np.ones(len(points) - 1))
    reach = max(abs(a - b) for a, b in pairwise(points)) + 1e-6  # rounding
    step = 1e-4
    assert abs(curve.at(step)[0] - points[0]) / step < 0.01 * reach
    end = curve.duration_s
    assert abs(curve.at(end)[0] - curve.at(end - step)[0]) / step < 0.01 * reach


@given(POINTS, st.floats(-300, 300), st.floats(0.1, 3.0))
def test_a_moving_start_goes_on_towards_the_next_point_and_never_overshoots(points, velocity, leg_s):
    stack = np.array(points)[:, None]
    curve = Trajectory.through(stack, np.full(len(points) - 1, leg_s), np.array([velocity]))
    low, high = sorted(points[:2])
    for t in np.linspace(0, leg_s, 21):
        assert low - 1e-6 <= curve.at(float(t))[0] <= high + 1e-6
    step = points[1] - points[0]
    if abs(step) > 1.0:
        expected = np.sign(step) * min(abs(velocity), 3 * abs(step) / leg_s) if velocity * step > 0 else 0.0
        assert (curve.at(1e-6)[0] - points[0]) / 1e-6 == pytest.approx(expected, rel=0.01, abs=0.5)


def test_min_jerk_is_monotone_from_nought_to_one():
    values = min_jerk(np.linspace(-0.5, 1.5, 101))
    assert values[0] == 0.0
    assert values[-1] == 1.0
    assert (np.diff(values) >= 0).all()
