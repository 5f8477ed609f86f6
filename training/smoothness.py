"""How smoothly an arm is commanded."""

from __future__ import annotations

from collections import deque

import numpy as np

from robot.joints import GRIPPER
from robot.seams import FloatArray


class Jerk:
    """Mean jerk of a row of commands that come at an even rate: how much they shake the arm."""

    def __init__(self) -> None:
        self._last: deque[FloatArray] = deque(maxlen=4)
        self._begin_s: float | None = None
        self._end_s = 0.0
        self._commands = 0
        self._sum = 0.0

    def add(self, time_s: float, command: FloatArray) -> None:
        """Take the command of a tick, user units, shape (6,); the gripper's is left out."""
        if self._begin_s is None:
            self._begin_s = time_s
        self._end_s = time_s
        self._commands += 1
        self._last.append(command[:GRIPPER].copy())
        if len(self._last) == 4:
            first, second, third, fourth = self._last
            self._sum += float(np.linalg.norm(fourth - 3.0 * third + 3.0 * second - first))

    @property
    def mean_dps3(self) -> float:
        """Mean length of the arm joints' third derivative, °/s³; 0 for fewer than four commands."""
        if self._begin_s is None or self._commands < 4 or self._end_s <= self._begin_s:
            return 0.0
        dt_s = (self._end_s - self._begin_s) / (self._commands - 1)
        return self._sum / (self._commands - 3) / dt_s**3
