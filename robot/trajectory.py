"""Smooth joint trajectories through waypoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot.seams import FloatArray


def min_jerk(phase: FloatArray | float) -> FloatArray:
    """Minimum-jerk time scaling, 0..1 to 0..1 (Flash and Hogan 1985): 10 s^3 - 15 s^4 + 6 s^5."""
    s = np.clip(phase, 0.0, 1.0)
    scaled: FloatArray = s**3 * (10.0 - 15.0 * s + 6.0 * s * s)
    return scaled


@dataclass(frozen=True, slots=True)
class Motion:
    """Where a command is and how it moves: (d,) in any unit, and in this unit per second."""

    position: FloatArray
    velocity: FloatArray


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Cubic Hermite curve through waypoints: at rest at its end, passing those between without a stop.

    Attributes:
        times_s: shape (n,), from 0, increasing.
        points: shape (n, d).
        slopes: velocity at each waypoint, shape (n, d).
    """

    times_s: FloatArray
    points: FloatArray
    slopes: FloatArray

    @classmethod
    def through(
        cls, points: FloatArray, durations_s: FloatArray, start_velocity: FloatArray | None = None
    ) -> Trajectory:
        """Curve through ``points`` (n, d) taking ``durations_s`` (n - 1,) between them.

        It begins at rest, or with ``start_velocity`` (d,) per second where this leads towards the second
        point, and not so fast that it would overshoot (three times the mean of the leg: Fritsch and Carlson
        1980). Inner velocities are the harmonic means of the neighbouring slopes where these agree in sign,
        else zero (Fritsch and Butland 1984), so that no joint overshoots a waypoint.
        """
        times = np.concatenate([[0.0], np.cumsum(durations_s)])
        secants = np.diff(points, axis=0) / np.asarray(durations_s)[:, None]
        slopes = np.zeros_like(points)
        before, after = secants[:-1], secants[1:]
        same = before * after > 0
        total = np.where(same, before + after, 1.0)
        slopes[1:-1] = np.where(same, 2.0 * before * after / total, 0.0)
        if start_velocity is not None:
            first = secants[0]
            towards = start_velocity * first > 0
            most = np.minimum(np.abs(start_velocity), 3.0 * np.abs(first))
            slopes[0] = np.where(towards, np.copysign(most, first), 0.0)
        return cls(times, points.copy(), slopes)

    @property
    def duration_s(self) -> float:
        """Time of the last waypoint."""
        return float(self.times_s[-1])

    def at(self, time_s: float) -> FloatArray:
        """Position at a time, shape (d,); before the start and after the end the end points."""
        t = float(np.clip(time_s, 0.0, self.duration_s))
        i = int(np.clip(np.searchsorted(self.times_s, t, side="right") - 1, 0, len(self.times_s) - 2))
        span = float(self.times_s[i + 1] - self.times_s[i])
        s = (t - float(self.times_s[i])) / span
        if len(self.times_s) == 2 and not self.slopes[0].any():
            eased = float(min_jerk(s))
            straight: FloatArray = self.points[i] + (self.points[i + 1] - self.points[i]) * eased
            return straight
        h00, h10 = (1 + 2 * s) * (1 - s) ** 2, s * (1 - s) ** 2
        h01, h11 = s * s * (3 - 2 * s), s * s * (s - 1)
        position: FloatArray = (
            h00 * self.points[i]
            + h10 * span * self.slopes[i]
            + h01 * self.points[i + 1]
            + h11 * span * self.slopes[i + 1]
        )
        return position
