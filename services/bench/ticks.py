"""Every tick of a controller, collected from its telemetry; and what goes with measuring it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import ArrayLike

from robot.runtime import Runtime
from robot.seams import FloatArray
from robot.telemetry import TelemetryRing

POLL_S = 0.5


class Ticks:
    """While it is entered it collects; its figures are there once it is left.

    Attributes:
        time_s: start of each tick, monotonic, shape (n,).
        lateness_ms: of each tick, shape (n,).
        missed: ticks skipped meanwhile.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._ring = TelemetryRing.attach(runtime.telemetry_name)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._collect)
        self._seen: list[tuple[int, float, float]] = []
        self.time_s: FloatArray = np.zeros(0)
        self.lateness_ms: FloatArray = np.zeros(0)
        self.missed = 0

    def __enter__(self) -> Ticks:
        newest = self._ring.newest()
        self._tick = -1 if newest is None else int(newest["tick"])
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._ring.close()
        if self._seen:
            ticks, times_s, lateness_ms = zip(*self._seen, strict=True)
            self.time_s, self.lateness_ms = np.array(times_s), np.array(lateness_ms)
            self.missed = ticks[-1] - ticks[0] + 1 - len(ticks)

    def _collect(self) -> None:
        """Look now and then: the ring holds seconds."""
        ended = False
        while not ended:
            ended = self._stop.wait(POLL_S)
            for record in self._ring.since(self._tick):
                self._tick = int(record["tick"])
                self._seen.append((self._tick, float(record["time_s"]), float(record["lateness_ms"])))


def spread(values: ArrayLike) -> dict[str, float] | None:
    """Median, 99th percentile and largest of some figures; ``None`` of none."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        return None
    median, p99 = np.percentile(array, (50, 99))
    return {"median": float(median), "p99": float(p99), "max": float(array.max())}


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, all its threads, seconds; 0 for one that has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
