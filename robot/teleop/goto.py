"""The tool point on its way to a place: straight there, else along what is in the way while that helps."""

from __future__ import annotations

import math

import numpy as np

from robot.seams import FloatArray
from robot.teleop.jog import HandJog, Step, Twist

SPEED_MPS = 0.15
"""Fastest way of the tool point."""
SLOWING_MPS2 = 0.6
"""It slows down with this towards the place, so that it is not overshot."""
REACHED_M = 0.0005
TURN_DPS = 45.0
"""With this the gripper is turned up or down where the way is free only so."""
_SLOWEST_MPS = 0.005
"""What is slower leads nowhere."""
_NEARLY_ALL = 0.9
_NO_NEARER = "it comes no nearer"
_PATIENCE_S = 0.2
"""A way that has led nowhere for so long is over."""
_NEARER_M, _NEARER_S = 0.005, 1.0
"""As is one that has not come so much nearer in so long."""
_TRIED_PER_TICK = 3
"""Ways that are looked at in a tick: a fifth of a millisecond each, and others are tried in the next one."""
_SHOULDER_M = np.array([0.069, 0.0, 0.117])
"""Middle of the reach: the axis of shoulder_lift, with the arm straight ahead."""


class Way:
    """One place to go to.

    Args:
        goal_m: base frame, shape (3,).
        dt_s: length of a tick.
    """

    def __init__(self, goal_m: FloatArray, dt_s: float) -> None:
        self._goal_m, self._dt_s = goal_m, dt_s
        self._led, self._next = 0, 0
        self._stuck_s = 0.0
        self._nearest_m, self._nearest_s = math.inf, 0.0
        self.over = False
        """Whether it is there, or as near as it comes."""
        self.limited: str | None = None
        """What keeps it from coming nearer."""
        self.turned = False
        """Whether the last step turned the gripper to come on."""

    def step(self, jog: HandJog, command: FloatArray, velocity: FloatArray, pitch_dps: float) -> Step:
        """One tick; the arguments are those of :meth:`HandJog.step`."""
        tool_m = jog.tool_m(command)
        off_m = self._goal_m - tool_m
        if float(np.linalg.norm(off_m)) <= REACHED_M:
            self.limited, self.over = None, True
            return jog.rest(velocity)
        straight, *others = _directions(tool_m, off_m)
        ways = [(straight, turn_dps) for turn_dps in (pitch_dps, TURN_DPS, -TURN_DPS)]
        ways += [(way, pitch_dps) for way in others]
        self._count(float(np.linalg.norm(off_m)))
        limited = None
        for i in self._tried(len(ways)):
            way, turn_dps = ways[i]
            left_m = float(np.linalg.norm(way))
            if left_m <= REACHED_M:
                continue
            speed_mps = self._speed(left_m)
            step = jog.step(command, velocity, Twist(way * (speed_mps / left_m), turn_dps))
            limited = limited or step.limited
            if step.share * speed_mps >= _SLOWEST_MPS or step.share > _NEARLY_ALL:
                self._led, self._stuck_s = i, 0.0
                self.limited = limited or (_NO_NEARER if self.over else None)
                self.turned = abs(turn_dps) == TURN_DPS
                return step
        self._led, self.limited = 0, limited or _NO_NEARER
        self._stuck_s += self._dt_s
        self.over = self.over or self._stuck_s > _PATIENCE_S
        return jog.rest(velocity)

    def _count(self, off_m: float) -> None:
        """Whether it still comes nearer."""
        self._nearest_s += self._dt_s
        if off_m < self._nearest_m - _NEARER_M:
            self._nearest_m, self._nearest_s = off_m, 0.0
        self.over = self._nearest_s > _NEARER_S

    def _tried(self, count: int) -> list[int]:
        """Which of the ways are looked at: the straight one, that which led on last, and others in turn."""
        tried = [0, self._led] if self._led else [0]
        while len(tried) < _TRIED_PER_TICK:
            self._next = self._next % (count - 1) + 1
            tried.append(self._next)
        return tried

    def _speed(self, left_m: float) -> float:
        """From which the place is not overshot, this tick's way included."""
        slowing, dt_s = SLOWING_MPS2, self._dt_s
        return min(SPEED_MPS, slowing * (math.sqrt(dt_s * dt_s + 2.0 * left_m / slowing) - dt_s))


def _directions(tool_m: FloatArray, off_m: FloatArray) -> list[FloatArray]:
    """Ways to come nearer, each as far as it leads: straight, over the table, along the end of the reach."""
    outward = tool_m - _SHOULDER_M
    outward /= max(float(np.linalg.norm(outward)), 1e-6)
    up = np.array([0.0, 0.0, 1.0])
    across = np.cross(up, outward)
    across /= max(float(np.linalg.norm(across)), 1e-6)
    around = [off_m - (off_m @ axis) * axis for axis in (up, outward)]
    return [off_m, *around, *((off_m @ axis) * axis for axis in (across, np.cross(outward, across), up))]
