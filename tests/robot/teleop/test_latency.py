"""The lag is found between ticks, whatever else the arm does."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

from robot.telemetry import MODES, SOURCES, empty_record
from robot.teleop.latency import LagMeter


def fed(
    lag_s: float,
    hz: int = 60,
    *,
    seconds: float = 5.0,
    swing: float = 20.0,
    skip: Collection[int] = (),
    mode: str = "running",
    meter: LagMeter | None = None,
    run_id: int = 1,
) -> LagMeter:
    """A meter that has seen an arm trail a leader by so much, with noise and sag."""
    meter = meter or LagMeter(hz)
    rng, record = np.random.default_rng(0), empty_record()
    record["mode"], record["run_id"], record["source"] = MODES.index(mode), run_id, SOURCES.index("leader")

    def way(time_s: float) -> np.ndarray:
        return swing * np.sin(2 * np.pi * 0.5 * time_s + np.arange(6))

    for k in range(round(seconds * hz)):
        if k not in skip:
            record["tick"] = k
            record["target"] = way(k / hz)
            record["position"] = way(k / hz - lag_s) - 3.0 + rng.normal(0.0, 0.05, 6)
            meter.add(record)
    return meter


@pytest.mark.parametrize("hz", [50, 100, 200])
@pytest.mark.parametrize("lag_ms", [0.0, 4.0, 37.3, 121.7, 290.0])
def test_lag_is_found_to_a_millisecond(lag_ms: float, hz: int) -> None:
    assert fed(lag_ms / 1e3, hz).lag_ms == pytest.approx(lag_ms, abs=1.0)


def test_small_motion_over_noise_is_enough() -> None:
    assert fed(0.08, swing=5.0).lag_ms == pytest.approx(80.0, abs=3.0)


@pytest.mark.parametrize("meter", [fed(0.08, swing=0.5), fed(0.08, mode="ready"), fed(0.08, seconds=0.5)])
def test_without_motion_that_is_driven_there_is_no_lag(meter: LagMeter) -> None:
    assert meter.lag_ms is None


def test_an_arm_that_does_not_follow_has_no_lag() -> None:
    assert fed(0.7).lag_ms is None  # longer than is looked for


def test_missed_ticks_do_not_shift_it_and_a_long_gap_begins_anew() -> None:
    assert fed(0.08, skip=(240, 241, 260, 280)).lag_ms == pytest.approx(80.0, abs=1.5)
    assert fed(0.08, 200, skip=range(900, 910)).lag_ms == pytest.approx(80.0, abs=1.5)  # 50 ms, as above
    assert fed(0.08, skip=range(0, 300, 6)).lag_ms == pytest.approx(80.0, abs=1.5)
    assert fed(0.08, skip=range(270, 290)).lag_ms is None


def test_another_run_begins_anew() -> None:
    meter = fed(0.08)
    assert meter.lag_ms is not None
    fed(0.02, seconds=0.1, meter=meter, run_id=2)
    assert meter.lag_ms is None
    assert meter.samples == 6
