"""How far the arm trails what drives it: the shift in time that fits best.

Each control tick says what the source asked for and where the arm was. The arm's way over the last seconds
is laid over the targets' way, moved by 0 to ``LONGEST_S``, and the shift with the least squares is the lag;
what lies between two ticks is solved for. Standing offsets (the sag of a loaded arm) do not count, and where
little has moved there is no lag to tell.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from robot.joints import GRIPPER
from robot.seams import FloatArray
from robot.telemetry import MODES, Record

WINDOW_S = 3.0
"""Motion that is looked at."""
LONGEST_S = 0.5
"""Longest lag that can be told."""
MOVED = 2.0
"""User units: root mean square, over the window, of the way of all joints that counts as motion."""
FITS = 0.3
"""Share of that way, in squares, that may be left unexplained: an arm that something holds does not lag."""
_EACH_S = 0.2
_LONGEST_GAP_S = 0.06
"""What was missed for longer is not filled in."""
_RUNNING = MODES.index("running")


class LagMeter:
    """Fed with every record of telemetry, in order; asked whenever somebody looks.

    Args:
        control_hz: ticks per second.
    """

    def __init__(self, control_hz: float) -> None:
        self._hz = control_hz
        self._longest = max(1, round(LONGEST_S * control_hz))
        self._window = self._longest + round(WINDOW_S * control_hz)
        self._pairs: deque[FloatArray] = deque(maxlen=self._window)
        self._longest_gap = round(_LONGEST_GAP_S * control_hz)
        self._each = max(1, round(_EACH_S * control_hz))
        self._until_next = 0
        self._last: tuple[int, int, int] | None = None
        self._lag_ms: float | None = None

    @property
    def samples(self) -> int:
        """Ticks that are looked at."""
        return len(self._pairs)

    @property
    def lag_ms(self) -> float | None:
        """From a target of the source to the arm's being there; ``None`` where it did not move enough."""
        if self._until_next <= 0:
            self._until_next = self._each
            self._lag_ms = self._measured()
        return self._lag_ms

    def add(self, record: Record) -> None:
        """One tick. Only what a source drives is looked at; another run or source begins anew."""
        tick, run = int(record["tick"]), (int(record["run_id"]), int(record["source"]))
        if int(record["mode"]) != _RUNNING or int(record["state_age_ticks"]) != 0:
            return
        pair = np.stack([record["target"][:GRIPPER], record["position"][:GRIPPER]])
        gap = self._gap(tick, run)
        if not 0 < gap <= self._longest_gap:
            self._pairs.clear()
            self._lag_ms, self._until_next = None, 0
        else:
            before = self._pairs[-1]  # ticks that were missed: on the straight line between
            self._pairs.extend(before + (pair - before) * (k / gap) for k in range(1, gap))
        self._pairs.append(pair)
        self._last = tick, *run
        self._until_next -= 1

    def _gap(self, tick: int, run: tuple[int, int]) -> int:
        """Ticks since the last record of the same run and source; 0 where there is none."""
        if self._last is None or not self._pairs or self._last[1:] != run:
            return 0
        return tick - self._last[0]

    def _measured(self) -> float | None:
        if len(self._pairs) < 2 * self._longest:
            return None
        pairs = np.array(self._pairs)
        targets, positions = pairs[:, 0], pairs[:, 1]
        count = len(pairs) - self._longest
        way = _centred(positions[self._longest :])
        shifted = [_centred(targets[k : k + count]) for k in range(self._longest, -1, -1)]
        size = float(np.square(way).sum())
        if size < MOVED * MOVED * count:
            return None
        errors = [float(np.square(way - each).sum()) for each in shifted]
        best = int(np.argmin(errors))
        if best == self._longest or errors[best] > FITS * size:
            return None
        candidates = [_between(way, shifted[k], shifted[k + 1], k) for k in (best - 1, best) if k >= 0]
        return 1e3 * min(candidates)[1] / self._hz


def _centred(way: FloatArray) -> FloatArray:
    centred: FloatArray = way - way.mean(axis=0)
    return centred


def _between(way: FloatArray, less: FloatArray, more: FloatArray, ticks: int) -> tuple[float, float]:
    """Least squared error with a shift between two whole numbers of ticks, and that shift."""
    step, off = more - less, way - less
    size = float(np.square(step).sum())
    part = min(max(float((off * step).sum()) / size, 0.0), 1.0) if size else 0.0
    return float(np.square(off - part * step).sum()), ticks + part
