from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inference.ensembler import (
    ExecutionConfig,
    RecedingHorizon,
    TemporalEnsembler,
    make_executor,
    resample_chunk,
)

finite = st.floats(-200, 200, width=32)


def chunks_of(count: int, length: int):  # type: ignore[no-untyped-def]
    return hnp.arrays(np.float32, (count, length, 6), elements=finite)


def reference(arrived: list[tuple[int, int, np.ndarray]], tick: int, m: float) -> np.ndarray | None:
    """The definition, directly: chunks in order of arrival that came by ``tick`` and cover it."""
    values = [c[tick - s] for s, n, c in arrived if n <= tick and s <= tick < s + len(c)]
    if not values:
        return None
    weights = np.exp(-m * np.arange(len(values)))
    return (weights[:, None] * np.array(values, dtype=np.float64)).sum(0) / weights.sum()


@given(chunks_of(9, 5), st.floats(-0.5, 0.5))
def test_a_chunk_in_every_tick_is_the_act_definition(chunks: np.ndarray, m: float) -> None:
    ensembler = TemporalEnsembler(m)
    for tick, chunk in enumerate(chunks):
        assert ensembler.add(tick, tick, chunk)
        # i = 0 is the oldest prediction for this tick (2304.13705, algorithm 2)
        predictions = [chunks[s][tick - s] for s in range(max(0, tick - 4), tick + 1)]
        weights = np.exp(-m * np.arange(len(predictions)))
        expected = (weights[:, None] * np.array(predictions, np.float64)).sum(0) / weights.sum()
        np.testing.assert_allclose(ensembler.target(tick), expected, atol=1e-9, rtol=1e-9)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 6), st.integers(1, 7)), max_size=12),
    st.floats(-0.3, 0.3),
    st.integers(0, 2**31),
)
def test_late_missing_and_reordered_chunks(plan: list[tuple[int, int, int]], m: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrivals = sorted(
        ((s, s + delay, rng.normal(size=(length, 6))) for s, delay, length in plan), key=lambda c: c[1]
    )
    ensembler = TemporalEnsembler(m)
    waiting = list(arrivals)
    for tick in range(32):
        while waiting and waiting[0][1] <= tick:
            s, n, chunk = waiting.pop(0)
            assert ensembler.add(s, n, chunk) == (n < s + len(chunk))
        expected = reference(arrivals, tick, m)
        got = ensembler.target(tick)
        if expected is None:
            assert got is None
        else:
            np.testing.assert_allclose(got, expected, atol=1e-9)


@given(st.integers(0, 5), st.integers(0, 5))
def test_ticks_before_the_arrival_are_untouched(now: int, arrival: int) -> None:
    ensembler = TemporalEnsembler(0.0)
    ensembler.add(0, 0, np.zeros((12, 6)))
    values = []
    for tick in range(12):
        if tick == now:
            ensembler.add(0, now, np.full((12, 6), 10.0))
        values.append(ensembler.target(tick)[0])  # type: ignore[index]
    assert values == [0.0 if tick < now else 5.0 for tick in range(12)]
    late = TemporalEnsembler(0.0)
    late.add(0, arrival, np.ones((12, 6)))
    assert [late.target(t) is not None for t in range(12)] == [t >= arrival for t in range(12)]


def test_a_given_target_is_not_changed_afterwards() -> None:
    ensembler = TemporalEnsembler(0.0)
    ensembler.add(0, 0, np.zeros((3, 6)))
    ensembler.target(1)
    assert not ensembler.add(0, 0, np.full((2, 6), 9.0))
    assert ensembler.add(1, 1, np.full((3, 6), 9.0))
    assert ensembler.target(2)[0] == 4.5  # type: ignore[index]
    assert ensembler.target(3)[0] == 9.0  # type: ignore[index]
    assert ensembler.target(4) is None


@pytest.mark.parametrize("mode", ["ensemble", "receding", "open_loop"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_chunk_that_is_not_finite_is_dropped_whole(mode: str, bad: float) -> None:
    executor = make_executor(ExecutionConfig.model_validate({"mode": mode}), 60, 30)
    assert executor.add(0, 0, np.ones((4, 6)))
    broken = np.full((4, 6), 7.0)
    broken[3, 5] = bad
    for chunk in (broken, np.ones((4, 5)), np.ones((0, 6)), np.ones(6)):
        assert not executor.add(0, 0, chunk)
    for tick in range(4):
        np.testing.assert_allclose(executor.target(tick), 1.0)
    assert executor.target(4) is None


def test_a_dropped_chunk_does_not_count() -> None:
    m = 0.5
    ensembler = TemporalEnsembler(m)
    ensembler.add(0, 0, np.zeros((4, 6)))
    ensembler.add(0, 0, np.full((4, 6), np.nan))
    ensembler.add(0, 0, np.ones((4, 6)))
    weight = np.exp(-m)
    np.testing.assert_allclose(ensembler.target(0), weight / (1 + weight))


def test_open_loop_follows_a_chunk_to_its_end() -> None:
    executor = RecedingHorizon(None)
    executor.add(0, 0, np.zeros((5, 6)))
    seen = []
    for tick in range(9):
        if tick in {1, 3}:
            executor.add(tick, tick, np.full((6, 6), float(tick)))
        value = executor.target(tick)
        seen.append(None if value is None else value[0])
    assert seen == [0, 0, 0, 0, 0, 3, 3, 3, 3]
    assert executor.target(9) is None


def test_receding_switches_to_the_newest_after_its_horizon() -> None:
    executor = RecedingHorizon(3)
    seen = []
    for tick in range(8):
        executor.add(tick - 1, tick, np.full((20, 6), float(tick - 1)))  # one tick late
        seen.append(executor.target(tick)[0])  # type: ignore[index]
    assert seen == [-1, -1, -1, 2, 2, 2, 5, 5]


def test_without_a_successor_the_chunk_is_followed_to_its_end() -> None:
    executor = RecedingHorizon(2)
    executor.add(0, 0, np.arange(5.0)[:, None] * np.ones(6))
    assert [executor.target(t)[0] for t in range(5)] == [0, 1, 2, 3, 4]  # type: ignore[index]
    assert executor.target(5) is None
    executor.add(5, 6, np.full((5, 6), 50.0))
    assert executor.target(6)[0] == 50.0  # type: ignore[index]


def test_an_older_chunk_does_not_replace_a_newer() -> None:
    executor = RecedingHorizon(1)
    assert executor.add(5, 5, np.zeros((5, 6)))
    assert not executor.add(4, 5, np.ones((9, 6)))
    assert not executor.add(5, 5, np.ones((9, 6)))
    assert executor.newest == 5


@given(st.integers(0, 6), st.integers(1, 10), chunks_of(4, 12))
def test_blending_stays_between_the_old_and_the_new(blend: int, horizon: int, chunks: np.ndarray) -> None:
    plain, blended = RecedingHorizon(horizon), RecedingHorizon(horizon, blend)
    low, high = chunks.min((0, 1)) - 1e-3, chunks.max((0, 1)) + 1e-3
    for tick in range(16):
        if tick % 4 == 0:
            for executor in (plain, blended):
                executor.add(tick, tick, chunks[tick // 4])
        a, b = plain.target(tick), blended.target(tick)
        assert (a is None) == (b is None)
        if b is not None:
            assert (low <= b).all() and (b <= high).all()
            if blend == 0:
                np.testing.assert_array_equal(a, b)


def test_the_seam_is_a_linear_cross_fade() -> None:
    executor = RecedingHorizon(2, blend_ticks=3)
    executor.add(0, 0, np.zeros((10, 6)))
    assert executor.target(0)[0] == 0  # type: ignore[index]
    assert executor.target(1)[0] == 0  # type: ignore[index]
    executor.add(2, 2, np.full((10, 6), 8.0))
    seen = [executor.target(t)[0] for t in range(2, 7)]  # type: ignore[index]
    assert seen == [2.0, 4.0, 6.0, 8.0, 8.0]


@pytest.mark.parametrize("horizon", [None, 32, 100])
@pytest.mark.parametrize("latency", [0, 2, 5])
def test_chunks_that_agree_are_followed_without_losing_speed_at_the_seams(
    horizon: int | None, latency: int
) -> None:
    """Every chunk says the same: a constant velocity."""
    slope = np.array([1.0, -2.0, 0.5, 0.0, 3.0, 10.0])
    executor = RecedingHorizon(horizon, blend_ticks=6, period_ticks=2)
    for tick in range(latency, 300):
        observed = tick - latency
        if observed % 2 == 0:
            executor.add(observed, tick, (observed + np.arange(79))[:, None] * slope)
        np.testing.assert_allclose(executor.target(tick), tick * slope, atol=1e-9)


def test_open_loop_fades_while_the_old_chunk_lasts() -> None:
    executor = RecedingHorizon(None, blend_ticks=3)
    executor.add(0, 0, np.zeros((10, 6)))
    seen = []
    for tick in range(12):
        executor.add(tick, tick, np.full((10, 6), 8.0))
        seen.append(executor.target(tick)[0])  # type: ignore[index]
    assert seen == [0, 0, 0, 0, 0, 0, 0, 2, 4, 6, 8, 8]
    late = RecedingHorizon(None, blend_ticks=3)
    late.add(0, 0, np.zeros((10, 6)))
    seen = []
    for tick in range(12):
        if tick == 9:
            late.add(tick, tick, np.full((10, 6), 8.0))
        seen.append(late.target(tick)[0])  # type: ignore[index]
    assert seen[8:] == [0, 4, 8, 8]


def test_chunks_shorter_than_the_fade_still_lead_somewhere() -> None:
    executor = RecedingHorizon(None, blend_ticks=6)
    for tick in range(30):
        executor.add(tick, tick, np.full((5, 6), float(tick)))
        value = executor.target(tick)
        assert value is not None and tick - 5 <= value[0] <= tick


@given(st.integers(1, 30), st.sampled_from([(30, 60), (30, 30), (30, 50), (30, 100), (60, 30), (25, 60)]))
def test_resampling_is_exact_on_lines(steps: int, rates: tuple[int, int]) -> None:
    fps, hz = rates
    slope = np.array([1.0, -2.0, 0.5, 0.0, 3.0, 10.0])
    chunk = 5.0 + np.arange(steps)[:, None] / fps * slope
    ticks = resample_chunk(chunk, fps, hz)
    assert len(ticks) == (steps - 1) * hz // fps + 1
    np.testing.assert_allclose(ticks, 5.0 + np.arange(len(ticks))[:, None] / hz * slope, atol=1e-9)


def test_on_demand_and_always_are_the_same() -> None:
    rng = np.random.default_rng(0)
    chunks = rng.normal(size=(60, 20, 6))
    for latency in (0, 2, 3):
        for horizon in (None, 6, 7):
            always, demand = RecedingHorizon(horizon, 2, 2), RecedingHorizon(horizon, 2, 2)
            asked, waiting_a, waiting_d = 0, [], []
            for tick in range(60):
                if tick % 2 == 0:
                    waiting_a.append(tick)
                    if demand.wants(tick, latency):
                        waiting_d.append(tick)
                        asked += 1
                for executor, waiting in ((always, waiting_a), (demand, waiting_d)):
                    while waiting and waiting[0] + latency <= tick:
                        observed = waiting.pop(0)
                        executor.add(observed, tick, chunks[observed])
                a, b = always.target(tick), demand.target(tick)
                assert (a is None) == (b is None)
                if a is not None:
                    np.testing.assert_array_equal(a, b)
            assert asked < 30


@pytest.mark.parametrize(("mode", "switch"), [("receding", 4), ("open_loop", 8)])
def test_the_family(mode: str, switch: int) -> None:
    assert isinstance(make_executor(ExecutionConfig(mode="ensemble"), 60, 30), TemporalEnsembler)
    config = ExecutionConfig.model_validate({"mode": mode, "actions_per_inference": 2, "blend_s": 0.0})
    executor = make_executor(config, 60, 30)
    seen = []
    for tick in range(10):
        executor.add(tick, tick, np.full((8, 6), float(tick)))
        seen.append(executor.target(tick)[0])  # type: ignore[index]
    assert seen.index(float(switch)) == switch and set(seen[:switch]) == {0.0}
