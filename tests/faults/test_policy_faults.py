"""Policies that stall, die, or say what no arm should do. The test is the policy worker."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from tests.rig import CONFIG, DT_S, Rig, wave

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


def test_a_worker_that_stalls_leaves_the_rest_of_its_horizon_and_then_a_hold(
    rig: Rig, measured: dict[str, Any]
) -> None:
    rig.start()
    rig.begin({"mode": "ensemble"})
    sent_s = time.monotonic()
    rig.send_chunk(wave(1.0))
    with rig.heartbeats():
        rig.until(lambda: rig.mode == "fault", 5.0, "fault")
    assert rig.codes == {"inference_stalled": None}
    last_goal_s = max(goal["time_s"] for goal in rig.goals_since(sent_s))
    measured["horizon_ms"] = 1000
    measured["last goal_ms"] = round(1e3 * (last_goal_s - sent_s))
    assert last_goal_s - sent_s > 0.8  # it was used to its end
    before = rig.newest()["goal"]
    time.sleep(0.5)
    assert (rig.newest()["goal"] == before).all()


@pytest.mark.parametrize("wrong", [np.nan, -np.inf])
def test_a_chunk_with_one_number_that_is_none_is_dropped_whole(rig: Rig, wrong: float) -> None:
    rig.start()
    rig.begin()
    good = wave(0.8)
    rig.send_chunk(good)
    time.sleep(0.2)
    bad = wave(3.0) + 40.0
    bad[30, 4] = wrong
    since = int(rig.newest()["tick"])
    rig.send_chunk(bad)
    with rig.heartbeats():
        rig.until(lambda: rig.mode == "fault", 5.0, "fault")  # nothing but the good one was followed
    goals = np.array([record["goal"] for record in rig.records(since)])
    assert np.isfinite(goals).all()
    assert goals[:, 4].max() <= good[:, 4].max() + 1.0


def test_a_policy_that_keeps_asking_for_what_no_joint_can_do_is_stopped(
    rig: Rig, measured: dict[str, Any]
) -> None:
    rig.start()
    rig.begin()
    far = np.tile(rig.newest()["position"], (150, 1))
    far[:, 0] += np.linspace(0.0, 600.0, 150)
    sent_s, since = time.monotonic(), int(rig.newest()["tick"])
    rig.send_chunk(far)
    with rig.heartbeats():
        rig.until(lambda: rig.mode == "fault", 6.0, "fault")
    (code,) = rig.codes
    assert code == "target_out_of_range"
    fault_s = rig.status()["faults"][0]["raised_s"]
    out_of_range_s = sent_s + 5.0 * (CONFIG.gate.max_position.shoulder_pan - far[0, 0]) / 600.0
    measured["latched after leaving the range_ms"] = round(1e3 * (fault_s - out_of_range_s))
    limits = CONFIG.gate.max_position.array() + 1e-6
    assert all((record["goal"] <= limits).all() for record in rig.records(since))


def test_a_step_is_taken_at_the_speed_and_acceleration_that_are_allowed(rig: Rig) -> None:
    rig.start()
    rig.begin()
    step = np.tile(rig.newest()["goal"], (60, 1))
    step[:, 0] += 60.0
    since = int(rig.newest()["tick"])
    rig.send_chunk(step)
    time.sleep(1.5)
    records = rig.records(since)
    goals = np.array([record["goal"] for record in records])
    ticks = np.diff([int(record["tick"]) for record in records])
    speed = np.diff(goals, axis=0) / (ticks[:, None] * DT_S)
    assert np.abs(speed).max() > 100.0
    assert (np.abs(speed) <= CONFIG.gate.max_velocity.array() + 1e-6).all()
    change = np.abs(np.diff(speed, axis=0)) / DT_S
    assert (change <= CONFIG.gate.max_acceleration.array() + 1e-3).all()


def test_chunks_of_another_shape_or_run_move_nothing(rig: Rig) -> None:
    rig.start()
    rig.begin()
    rig.chunks.send(b"S1CK but no chunk")
    rig.runs += 1
    rig.send_chunk(wave(2.0))  # of a run that was never begun
    rig.runs -= 1
    before = rig.newest()["goal"]
    with rig.heartbeats():
        rig.until(lambda: rig.mode == "fault", 5.0, "stall")
    assert rig.codes == {"inference_stalled": None}
    assert np.abs(rig.newest()["goal"] - before).max() < 1e-9
