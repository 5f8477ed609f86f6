"""Quantiles over the last minute."""

from __future__ import annotations

import pytest

from robot.lateness import WINDOW_S, Lateness

HZ = 10


def test_figures_are_quantiles_in_milliseconds() -> None:
    late = Lateness(HZ)
    for tick in range(1, 101):
        late.add(tick / 1000.0)
    figures = late.figures
    assert figures.p50_ms == pytest.approx(51.0)
    assert figures.p99_ms == pytest.approx(100.0)
    assert figures.max_ms == pytest.approx(100.0)
    assert late.last_ms == pytest.approx(100.0)


def test_what_is_older_than_a_minute_is_forgotten() -> None:
    late = Lateness(HZ)
    late.add(5.0)
    for _ in range(int(WINDOW_S) * HZ - 1):
        late.add(0.001)
    assert late.figures.max_ms == pytest.approx(5000.0)
    for _ in range(HZ):
        late.add(0.001)
    assert late.figures.max_ms == pytest.approx(1.0)


def test_early_counts_as_on_time() -> None:
    late = Lateness(HZ)
    for _ in range(HZ):
        late.add(-1e-9)
    assert (late.figures.max_ms, late.last_ms) == (0.0, 0.0)
