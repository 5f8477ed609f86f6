"""From one source to another while the arm moves: what drove before runs out, what drives now fades in.

The command comes to rest softly from the speed it had, and the new targets are mixed in along a minimum-jerk
curve. Targets that begin where the command is need no fading and get none.
"""

from __future__ import annotations

import math

import numpy as np

from robot.joints import N_JOINTS
from robot.seams import FloatArray
from robot.sources import MIN_JERK_PEAK
from robot.trajectory import Motion, min_jerk

COAST_S = 0.1
"""Time in which the motion of before comes to rest: 3 degrees at 60 degrees per second."""
FADE_S = 0.4
"""Shortest fade."""
FADE_SPEED = 60.0
"""User units per second that fading adds at most: what starts far away takes longer."""
HERE = 0.5
"""User units: targets that start so near need no fade. Half a degree is under the static error of a servo."""


class Blend:
    """One takeover.

    Args:
        motion: where the command is, and how it moves.
        dt_s: length of a tick.
    """

    def __init__(self, motion: Motion, dt_s: float) -> None:
        self._dt_s = dt_s
        self._coast_ticks = max(1, round(COAST_S / dt_s))
        self._begin(motion)
        self.done = False
        """Whether the new targets go through as they are."""

    def mix(self, target: FloatArray | None) -> FloatArray | None:
        """The target of this tick, once per tick; ``None`` for one that is no six finite numbers."""
        if self.done:
            return target
        if target is None:
            if self._tick:  # it had begun and has stopped: come to rest here and begin anew
                self._begin(Motion(self._last, self._velocity))
            return self._say(self._coast())
        if not _usable(target):
            return target
        at = self._coast()
        if not self._tick:
            gap = float(np.abs(target - at).max())
            if gap <= HERE:
                self.done = True
                return target
            self._ticks = math.ceil(max(FADE_S, MIN_JERK_PEAK * gap / FADE_SPEED) / self._dt_s)
        self._tick += 1
        self.done = self._tick >= self._ticks
        return self._say(at + (target - at) * float(min_jerk(self._tick / self._ticks)))

    def _begin(self, motion: Motion) -> None:
        self._at = self._last = motion.position
        self._from = self._velocity = motion.velocity
        self._coasted, self._tick, self._ticks = 0, 0, 0

    def _coast(self) -> FloatArray:
        """Where the motion of before is in this tick."""
        self._coasted += 1
        left = max(0.0, 1.0 - self._coasted / self._coast_ticks)
        self._at = self._at + self._from * (left * self._dt_s)
        return self._at

    def _say(self, target: FloatArray) -> FloatArray:
        self._velocity = (target - self._last) / self._dt_s
        self._last = target
        return target.copy()


def _usable(target: FloatArray) -> bool:
    """Whether it is what a target should be; the gate says so where it is not."""
    return (
        isinstance(target, np.ndarray)
        and target.shape == (N_JOINTS,)
        and target.dtype.kind in "fiu"
        and bool(np.isfinite(target).all())
    )
