"""Keys of a terminal as speeds: a tap is a small step, a key that is held moves smoothly.

A terminal never tells that a key was let go, and a held key repeats only after a quarter to two thirds of
a second, then every 30 to 90 ms. So a press moves slowly, at a speed at which its step just lasts until the
first repeat would come: if none comes it has been a tap and its step is done, to the millimetre; else
the motion speeds up from where it is, without a gap, and ends as soon as the repeats do.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

TAP_S = 0.67
"""Length of a tap's step: a little more than the longest usual wait for the first repeat (660 ms, X11)."""
REPEAT_S = 0.12
"""Presses that follow each other so soon are repeats; no finger is as fast."""
RELEASE_S = 0.18
"""Silence after which a key that was held is held to be let go."""
RAMP_S = 0.4
"""Time in which a held key comes from a tap's speed to its full speed."""
SPEEDS = (0.25, 0.5, 1.0, 1.5)
"""What ``+`` and ``-`` choose among, as factors on full speed."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing a key moves.

    Attributes:
        field: of a jog intent; its name ends in its unit per second.
        step: of a tap, in the field's unit.
        full: speed of a held key, in the field's unit per second.
    """

    field: str
    step: float
    full: float


AXES = (
    Axis("vx_mps", 0.010, 0.12),
    Axis("vy_mps", 0.010, 0.12),
    Axis("vz_mps", 0.010, 0.12),
    Axis("pitch_dps", 3.0, 45.0),
    Axis("roll_dps", 5.0, 60.0),
    Axis("gripper_pps", 5.0, 70.0),
)
KEYS: dict[str, tuple[str, int]] = {
    "w": ("vx_mps", 1),
    "s": ("vx_mps", -1),
    "a": ("vy_mps", 1),
    "d": ("vy_mps", -1),
    "r": ("vz_mps", 1),
    "f": ("vz_mps", -1),
    "t": ("pitch_dps", -1),
    "g": ("pitch_dps", 1),
    "z": ("roll_dps", -1),
    "x": ("roll_dps", 1),
    "o": ("gripper_pps", 1),
    "c": ("gripper_pps", -1),
}
"""Key -> field and direction: forward, back, left, right, up, down, nose up, nose down, roll, open, close."""


class _Held:
    """One axis between presses."""

    def __init__(self, axis: Axis) -> None:
        self._axis = axis
        self._slow = axis.step / TAP_S
        self.clear()

    def clear(self) -> None:
        """Nothing is pressed and nothing is left to do."""
        self._sign, self._left, self._rate = 0, 0.0, 0.0
        self._last_s = self._until_s = float("-inf")

    def press(self, sign: int, now_s: float) -> None:
        if sign != self._sign:
            self.clear()
        if now_s - self._last_s <= REPEAT_S:
            self._left, self._until_s = 0.0, now_s + RELEASE_S
        else:
            self._left += self._axis.step
        self._sign, self._last_s = sign, now_s

    def rate(self, now_s: float, dt_s: float, factor: float) -> float:
        """Speed for the coming ``dt_s``; what a tap has left is counted down by it."""
        full = self._axis.full * factor
        if now_s < self._until_s:
            self._rate = min(full, max(self._rate, self._slow) + full * dt_s / RAMP_S)
            return self._sign * self._rate
        if self._left <= 0.0:
            self._rate = 0.0
            return 0.0
        # Several taps are done in the time of one, as far as the full speed goes.
        self._rate = min(full, max(self._slow, self._left / TAP_S), self._left / dt_s)
        self._left -= self._rate * dt_s
        if self._left < 1e-9:
            self._left = 0.0
        return self._sign * self._rate


class KeyJog:
    """The jog that the keys pressed lately ask for. Safe to press in one thread and ask in another."""

    def __init__(self) -> None:
        self._axes = {axis.field: _Held(axis) for axis in AXES}
        self._lock = threading.Lock()
        self._speed = SPEEDS.index(1.0)

    @property
    def factor(self) -> float:
        """On full speed."""
        return SPEEDS[self._speed]

    def press(self, key: str, now_s: float) -> bool:
        """Take a key; whether it is one of the jog's."""
        if key in ("+", "=", "-"):
            step = -1 if key == "-" else 1
            self._speed = min(max(self._speed + step, 0), len(SPEEDS) - 1)
            return True
        if key not in KEYS:
            return False
        field, sign = KEYS[key]
        with self._lock:
            self._axes[field].press(sign, now_s)
        return True

    def release(self) -> None:
        """Forget everything that was pressed."""
        with self._lock:
            for axis in self._axes.values():
                axis.clear()

    def speeds(self, now_s: float, dt_s: float) -> dict[str, float]:
        """Fields of a jog intent for the coming ``dt_s``; empty when nothing moves."""
        with self._lock:
            rates = {field: axis.rate(now_s, dt_s, self.factor) for field, axis in self._axes.items()}
        return {field: rate for field, rate in rates.items() if rate}
