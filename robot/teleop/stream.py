"""A stream of poses at the pace at which it comes.

Who sends poses and the loop that takes them keep different time: one tick sees no pose and the next sees two.
So the poses wait here for about ``LAG`` of their own period, and the target moves along them as fast as they
have come of late. It never leaves the line through them and never goes ahead of the newest.
"""

from __future__ import annotations

from collections import deque

from robot.seams import FloatArray
from robot.teleop.blend import Blend
from robot.trajectory import Motion

LAG = 1.0
"""Poses that wait after a tick: with fewer the target would stand still whenever one is late."""
CATCHING_UP = 0.15
"""Share of the pace by which each pose that waits beyond that makes it faster, and each that lacks slower."""
OF_LATE = 30
"""Poses by whose coming the pace is measured."""


class PoseStream:
    """One stream, faded in from where the command is.

    Args:
        motion: the command, and how it moves.
        dt_s: length of a tick.
    """

    def __init__(self, motion: Motion, dt_s: float) -> None:
        self._dt_s = dt_s
        self._blend = Blend(motion, dt_s)
        self._came_s: deque[float] = deque(maxlen=OF_LATE)
        self._passed: FloatArray | None = None
        self._waiting: deque[FloatArray] = deque()
        self._part = 0.0
        """Of the way from the pose that was passed last to the first that waits."""

    def add(self, pose: FloatArray, now_s: float) -> None:
        """One pose, in the tick that sees it."""
        self._came_s.append(now_s)
        if self._passed is None:
            self._passed = pose
        else:
            self._waiting.append(pose)

    def target(self) -> FloatArray | None:
        """Of this tick, once per tick; ``None`` before the first pose."""
        if self._passed is None:
            return None
        ahead = len(self._waiting) - self._part
        pace = self._pace()
        self._part += min(ahead, pace * max(0.0, 1.0 + CATCHING_UP * (ahead - pace - LAG)))
        while self._waiting and self._part >= 1.0:
            self._passed = self._waiting.popleft()
            self._part -= 1.0
        if not self._waiting:
            self._part = 0.0
            return self._blend.mix(self._passed)
        return self._blend.mix(self._passed + (self._waiting[0] - self._passed) * self._part)

    def _pace(self) -> float:
        """Poses per tick."""
        span_s = self._came_s[-1] - self._came_s[0]
        return self._dt_s * (len(self._came_s) - 1) / span_s if span_s > 0.0 else 1.0
