"""Sources that need nobody: hold, ramps, and the planned way to the ready and park poses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from robot.joints import JOINTS
from robot.seams import ArmState, FloatArray
from robot.trajectory import min_jerk

MIN_JERK_PEAK = 1.875
"""Peak speed of a minimum-jerk motion over its mean speed: 30 s^2 (1 - s)^2 at s = 1/2."""

SHORTEST_S = 0.3
"""Duration of the smallest ramp, so that tiny ones are not jerks."""

CLEARANCES_M = (0.03, 0.06, 0.10, 0.15)
"""Heights over the table to which a fingertip is lifted before it travels, tried in this order."""

_LIFT_JOINTS = tuple(JOINTS.index(name) for name in ("shoulder_lift", "elbow_flex", "wrist_flex"))
_LIFT_STEP = 3.0
_LIFT_STEPS = 60
_PATH_SAMPLES = 25
_TOLERANCE_M = 1e-4

Height = Callable[[FloatArray], float]
"""Height of the lowest fingertip over the table in metres, for a pose in user units."""


@runtime_checkable
class Ending(Protocol):
    """A source that comes to an end by itself, such as a ramp or a replay."""

    @property
    def done(self) -> bool:
        """Whether the last target has been given."""


@runtime_checkable
class Aged(Protocol):
    """A source that executes chunks of a policy."""

    @property
    def chunk_age_ticks(self) -> int:
        """Ticks since the observation of the newest chunk; -1 without one."""


@runtime_checkable
class Closable(Protocol):
    """A source that holds something, such as a socket, until its run ends."""

    def close(self) -> None:
        """Let go of it."""


class HoldSource:
    """Stays at one pose."""

    def __init__(self, pose: FloatArray) -> None:
        self._pose = pose.copy()

    def target(self, tick: int, state: ArmState) -> FloatArray:
        """See Source."""
        return self._pose.copy()


class RampSource:
    """Minimum-jerk motion in joint space through waypoints, at rest in each of them.

    It advances by one tick per call and not with the clock: after ticks that were missed it goes on where it
    was instead of jumping ahead.
    """

    def __init__(self, waypoints: Sequence[FloatArray], max_velocity: float, dt_s: float) -> None:
        """Plan the ramp.

        Args:
            waypoints: poses in user units, the present one first.
            max_velocity: speed of the fastest joint at its peak, user units per second.
            dt_s: length of a tick.
        """
        self._waypoints = [np.asarray(pose, dtype=np.float64) for pose in waypoints]
        self._ticks: list[int] = []
        for start, end in itertools.pairwise(self._waypoints):
            way = float(np.abs(end - start).max())
            duration_s = max(MIN_JERK_PEAK * way / max_velocity, SHORTEST_S) if way > 0.0 else dt_s
            self._ticks.append(max(1, math.ceil(duration_s / dt_s)))
        self._call = 0

    @property
    def duration_ticks(self) -> int:
        """Calls until it is done."""
        return sum(self._ticks)

    @property
    def goal(self) -> FloatArray:
        """Where it ends."""
        return self._waypoints[-1].copy()

    @property
    def done(self) -> bool:
        """Whether the last waypoint has been given as a target."""
        return self._call >= self.duration_ticks

    def target(self, tick: int, state: ArmState) -> FloatArray:
        """See Source."""
        self._call += 1
        call = self._call
        for i, ticks in enumerate(self._ticks):
            if call <= ticks:
                start, end = self._waypoints[i], self._waypoints[i + 1]
                between: FloatArray = start + (end - start) * min_jerk(call / ticks)
                return between
            call -= ticks
        return self.goal


def safe_way(
    start: FloatArray, goal: FloatArray, height_m: Height, low: FloatArray, high: FloatArray
) -> list[FloatArray]:
    """Waypoints from a pose to another on which no fingertip comes near the table on the way.

    The straight way in joint space is taken where it stays as high as the lower of its ends. Otherwise the
    fingertips are lifted first and come down last, from as high as it takes. An arm that is folded under
    itself may have no such way; it gets the best of them, and the gate keeps it off the table.

    Args:
        start: present pose, user units.
        goal: wanted pose, user units.
        height_m: height of the lowest fingertip for a pose.
        low: joint limits.
        high: joint limits.
    """
    best, best_m = [start, goal], _spare([start, goal], height_m)
    for clearance_m in CLEARANCES_M:
        if best_m >= -_TOLERANCE_M:
            break
        above_start = _lifted(start, clearance_m, height_m, low, high)
        above_goal = _lifted(goal, clearance_m, height_m, low, high)
        way = [start, above_start, above_goal, goal]
        spare_m = _spare(way, height_m)
        if spare_m > best_m:
            best, best_m = way, spare_m
    return _distinct(best)


def _spare(way: Sequence[FloatArray], height_m: Height) -> float:
    """Least height on a way over the lowest clearance, or over the way's lower end where that is lower."""
    floor_m = min(height_m(way[0]), height_m(way[-1]), CLEARANCES_M[0])
    phases = np.linspace(0.0, 1.0, _PATH_SAMPLES)
    return min(
        height_m(a + (b - a) * phase) - floor_m for a, b in itertools.pairwise(way) for phase in phases
    )


def _distinct(way: Sequence[FloatArray]) -> list[FloatArray]:
    """Without the waypoints that are the same as the one before."""
    return [way[0], *(pose for before, pose in itertools.pairwise(way) if not np.array_equal(before, pose))]


def _lifted(
    pose: FloatArray, clearance_m: float, height_m: Height, low: FloatArray, high: FloatArray
) -> FloatArray:
    """The pose raised, by small steps of the joint that raises it most, until the fingertips are clear."""
    raised = pose.copy()
    for _ in range(_LIFT_STEPS):
        now_m = height_m(raised)
        if now_m >= clearance_m:
            break
        options = []
        for joint in _LIFT_JOINTS:
            for step in (-_LIFT_STEP, _LIFT_STEP):
                option = raised.copy()
                option[joint] = np.clip(option[joint] + step, low[joint], high[joint])
                options.append((height_m(option), option))
        best_m, best = max(options, key=lambda scored: scored[0])
        if best_m <= now_m + 1e-6:
            break
        raised = best
    return raised
