"""How late control ticks begin: deadline against actual start, over the last minute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WINDOW_S = 60.0
_QUANTILES = (0.5, 0.99, 0.999, 1.0)


@dataclass(frozen=True, slots=True)
class LatenessFigures:
    """Quantiles in milliseconds."""

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    p999_ms: float = 0.0
    max_ms: float = 0.0


class Lateness:
    """A window of the last minute's ticks; its figures are computed once a second."""

    def __init__(self, control_hz: int) -> None:
        self._window_s = np.zeros(round(WINDOW_S * control_hz))
        self._control_hz = control_hz
        self._count = 0
        self.figures = LatenessFigures()
        self.missed = 0
        """Ticks that were skipped since the start because the one before them took too long."""
        self.last_ms = 0.0
        """Lateness of the newest tick."""
        self.busy_ms = 0.0
        """Length of the tick before it."""

    def add(self, late_s: float) -> None:
        """Note one tick's lateness; negative rounding errors count as on time."""
        self.last_ms = 1e3 * max(late_s, 0.0)
        self._window_s[self._count % len(self._window_s)] = max(late_s, 0.0)
        self._count += 1
        if self._count % self._control_hz == 0:
            filled = self._window_s[: min(self._count, len(self._window_s))]
            values = np.quantile(filled, _QUANTILES, method="higher") * 1e3
            self.figures = LatenessFigures(*(float(value) for value in values))
