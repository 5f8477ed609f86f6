"""A leader arm that falls silent, leaps, or stands elsewhere: two arms, the controller between."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from robot.joints import GRIPPER
from robot.telemetry import MODES
from robot.twin.client import TwinProcess
from tests.rig import CONFIG, Rig

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


def follow(rig: Rig) -> None:
    """A run that the leader drives."""
    rig.runs += 1
    answer = rig.ask(op="run", run_id=rig.runs, source="leader", args={}, max_duration_s=60.0)
    assert answer == {"ok": True}, answer


@pytest.fixture
def led(rig: Rig, twin: TwinProcess) -> Rig:
    twin.set_leader(CONFIG.ready_pose.array())
    rig.start()
    return rig


def test_the_follower_comes_slowly_to_a_leader_that_stands_elsewhere_and_then_follows(
    led: Rig, twin: TwinProcess
) -> None:
    away = CONFIG.ready_pose.array() + np.array([40.0, 10.0, 0.0, -20.0, 30.0, 20.0])
    twin.set_leader(away)
    since = int(led.newest()["tick"])
    with led.heartbeats():
        follow(led)
        led.until(lambda: np.abs(led.newest()["position"] - away)[:5].max() < 6.0, 6.0, "engagement")
        ran = [r for r in led.records(since) if MODES[int(r["mode"])] == "running"]
        goals = np.array([r["goal"] for r in ran if np.abs(r["goal"] - away).max() > 8.0])
        assert len(goals) > 30
        assert np.abs(np.diff(goals, axis=0)).max() <= 31.0 * CONFIG.dt_s  # no snap while it is away
        twin.set_leader(away + np.array([-30.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
        led.until(lambda: abs(led.newest()["position"][0] - away[0] + 30.0) < 4.0, 2.0, "following")
    assert led.codes == {}


def test_a_leader_that_falls_silent_leaves_the_follower_holding(
    led: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:
    with led.heartbeats():
        follow(led)
        time.sleep(0.5)
        applied_s = twin.fault("unplug", arm="leader")["applied_s"]
        reaction = led.stopped(applied_s)
    measured["latched_ms"] = round(reaction.latched_ms)
    assert "leader_lost" in reaction.codes
    twin.fault("replug", arm="leader")
    time.sleep(0.5)
    assert led.mode == "fault"  # nothing by itself


def test_a_leader_whose_reading_leaps_is_not_followed(led: Rig, twin: TwinProcess) -> None:
    with led.heartbeats():
        follow(led)
        time.sleep(0.5)
        before = led.newest()["goal"]
        applied_s = twin.fault("encoder", arm="leader", servo_id=1, ticks=1000, count=200)["applied_s"]
        reaction = led.stopped(applied_s)
    assert "leader_jumped" in reaction.codes
    moved = np.abs(led.newest()["goal"] - before)
    assert moved[:GRIPPER].max() < 3.0
