"""Timing of bus cycles, the same for all. Imports nothing of ours: LeRobot's own interpreter runs it too."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

BITS_PER_BYTE, BAUD = 10, 1_000_000
WARM_UP = 20


def wire_ms(servos: int, read_bytes: int) -> float:
    """Time that the bytes of a cycle take on the wire: nothing can be faster.

    Args:
        servos: that are read in one sync read, and written two bytes each in one sync write.
        read_bytes: of each servo.
    """
    read = 8 + servos + servos * (6 + read_bytes)
    write = 8 + servos * 3
    return 1e3 * (read + write) * BITS_PER_BYTE / BAUD


def timed(cycle: Callable[[], object], cycles: int, least_ms: float) -> dict[str, Any]:
    """Run cycles one after the other.

    Args:
        cycle: a read and a write.
        cycles: how many to time.
        least_ms: what the bytes of a cycle take on the wire.

    Returns:
        Milliseconds per cycle, the wire's share of the median upside down, and the processor's share of the
        thread that waits.
    """
    for _ in range(WARM_UP):
        cycle()
    took_ms = np.empty(cycles)
    cpu_s, began_s = time.thread_time(), time.perf_counter()
    for i in range(cycles):
        start_s = time.perf_counter()
        cycle()
        took_ms[i] = 1e3 * (time.perf_counter() - start_s)
    share = (time.thread_time() - cpu_s) / (time.perf_counter() - began_s)
    median, p99 = (float(value) for value in np.percentile(took_ms, (50, 99)))
    return {
        "cycle_ms": {"median": median, "p99": p99},
        "wire_ms": least_ms,
        "ratio_to_wire": median / least_ms,
        "cpu_share": share,
    }
