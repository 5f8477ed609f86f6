"""Intervals against known values; the whole way through controller and executor with an expert's chunks."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.ensembler import make_executor
from inference.manifest import ExecutionConfig
from robot.seams import Observation
from robot.twin.tasks import CubePlace
from services.bench import served as bench
from training.evaluation import summary, wilson_95
from training.experts.pick_place import PickPlaceExpert
from training.rollout import InlinePolicySource, drive
from training.stage import enlarge, shrink
from training.trials import Trial


def test_wilson_interval_of_published_values():
    # Newcombe (1998), table I: 81 of 263 and 0 of 20.
    assert wilson_95(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_95(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_95(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500), st.data())
def test_wilson_interval_holds_the_rate(trials, data):
    wins = data.draw(st.integers(0, trials))
    low, high = wilson_95(wins, trials)
    assert 0.0 <= low <= wins / trials + 1e-12
    assert wins / trials - 1e-12 <= high <= 1.0


def test_summary_counts_and_names_the_failures():
    trials = [Trial(i, i != 1, 5.0, 0.2, 0.0, 0.0, 0.2, 0.0, 0.0) for i in range(4)]
    result = summary(trials)
    assert (result["episodes"], result["successes"], result["success_rate"]) == (4, 3, 0.75)
    assert [failure["number"] for failure in result["failures"]] == [1]


def test_growing_and_shrinking_are_inverse():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    assert (shrink(enlarge(image, 30, 40), 5) == image).all()
    assert enlarge(image, 15, 20).shape == (15, 20, 3)


class FakeService:
    """Pickups that end as they are told to, all with the cube in the bowl but those of status failed."""

    def __init__(self, pickups) -> None:
        self.pickups, self.last = iter(pickups), None

    def start(self) -> None:
        pass

    def pickup(self, x_m, y_m):
        self.last = next(self.pickups)
        return self.last

    def call(self, method, path, body=None):
        if method == "GET" and path == "/v1/twin":
            return {"cube_in_bowl": self.last["status"] != "failed"}
        return {"mode": "ready", "control": {}, "policy": {}}


def test_served_pickups_are_also_counted_by_the_clock_of_the_task(monkeypatch):
    """The service lets a run go on for longer than a trial in lockstep."""
    pickups = [
        {"status": status, "duration_s": 15.0, "evidence": evidence}
        for status, evidence in (
            ("succeeded", {"elapsed_s": 5.0}),
            ("succeeded", {"elapsed_s": 12.0}),
            ("succeeded", {"elapsed_s": 12.1}),
            ("succeeded", {}),
            ("failed", {"elapsed_s": 5.0}),
        )
    ]
    monkeypatch.setattr(bench, "served", lambda **options: contextlib.nullcontext(FakeService(pickups)))
    result = bench.bench_pickups(None, len(pickups), 0, None)
    assert (result["pickups"], result["in_bowl"], result["within_limit"]) == (5, 4, 2)


class ExpertPolicy:
    """Chunks cut from one plan: what a perfect policy would say."""

    def __init__(self, plan, chunk: int, fps: float) -> None:
        self.plan, self.chunk_size, self.fps = plan, chunk, fps

    def chunk(self, observation: Observation) -> np.ndarray:
        start_s = observation.tick / 60
        rows = [self.plan.at(start_s + k / self.fps)[0] for k in range(self.chunk_size)]
        return np.array(rows, dtype=np.float32)


@pytest.mark.parametrize("mode", ["ensemble", "receding", "open_loop"])
@pytest.mark.parametrize("latency_ticks", [0, 6])
def test_perfect_chunks_pick_the_cube_in_every_mode_and_with_late_chunks(stage, mode, latency_ticks):
    command = stage.reset(CubePlace(0.23, 0.06, 0.2).alone(), stage.robot.ready_pose.array())
    plan = PickPlaceExpert(stage.world).plan(command)
    executor = make_executor(ExecutionConfig(mode=mode, actions_per_inference=10), 60, 30)
    source = InlinePolicySource(
        stage,
        ExpertPolicy(plan, 40, 30.0),
        executor,
        np.zeros(2, np.float32),
        fps=30.0,
        latency_ticks=latency_ticks,
    )
    drive(stage, source, limit_s=8.0, stop=lambda: stage.world.cube_in_bowl)
    assert stage.world.cube_in_bowl
