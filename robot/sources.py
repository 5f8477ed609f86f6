"""Sources that need nobody: hold and ramps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from robot.seams import ArmState, FloatArray
from robot.trajectory import min_jerk

MIN_JERK_PEAK = 1.875
"""Peak speed of a minimum-jerk motion over its mean speed: 30 s^2 (1 - s)^2 at s = 1/2."""

SHORTEST_S = 0.3
"""Duration of the smallest ramp, so that tiny ones are not jerks."""


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


@dataclass(frozen=True, slots=True)
class TeleopStatus:
    """What a person who drives the arm has to know of it."""

    engaged: bool = True
    """Whether the arm follows; a leader must be near it first."""
    away: dict[str, float] = field(default_factory=dict)
    """Joint -> user units by which a leader that is not followed yet is above the arm."""
    limited: str | None = None
    """What keeps the arm from doing what is asked, in words."""
    refused: int = 0
    """Intents that were none, since the source was made."""

    def as_json(self) -> dict[str, Any]:
        """For the controller's status."""
        return asdict(self)


@runtime_checkable
class Teleoperated(Protocol):
    """A source that a person drives."""

    @property
    def teleop(self) -> TeleopStatus:
        """How it stands."""


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
