"""A wire that garbles, delays and echoes; an adapter that is pulled, renamed, swapped or taken."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.twin.client import TwinProcess
from tests.rig import DT_S, Rig

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


@pytest.fixture
def moving(rig: Rig) -> Iterator[Rig]:
    rig.start()
    rig.wave(20.0)
    with rig.heartbeats():
        yield rig


GARBLED: list[tuple[dict[str, Any], str | None]] = [
    # what happens to the wire, and the counter that tells of it
    ({"kind": "corrupt", "servo_id": 3, "count": 1}, "bus_retries"),
    ({"kind": "truncate", "servo_id": 1, "count": 1}, "bus_retries"),
    ({"kind": "lose", "servo_id": 6, "count": 1}, "bus_retries"),
    ({"kind": "garbage", "count": 60}, "bus_dropped_bytes"),
    ({"kind": "unreliable", "lose_share": 0.02, "corrupt_share": 0.02}, "bus_retries"),
    ({"kind": "echo", "on": True}, None),
]


def test_what_a_wire_garbles_is_dropped_and_asked_for_again(moving: Rig, twin: TwinProcess) -> None:
    since = int(moving.newest()["tick"])
    try:
        for values, counter in GARBLED:
            before = moving.newest()
            for _ in range(3):
                twin.fault(**values)
                time.sleep(0.12)
            assert moving.mode == "running" and moving.codes == {}, (values, moving.status())
            if counter is not None:
                assert moving.newest()[counter] > before[counter], values
            twin.fault("unreliable", lose_share=0.0, corrupt_share=0.0)
        positions = np.array([record["position"] for record in moving.records(since)])
        assert np.abs(np.diff(positions, axis=0)).max() < 8.0  # nothing stale, nothing made up
    finally:
        twin.fault("echo", on=False)
        twin.fault("unreliable", lose_share=0.0, corrupt_share=0.0)


def test_an_answer_that_stays_corrupt_is_a_servo_that_is_lost(
    moving: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:
    reaction = moving.stopped(twin.fault("corrupt", servo_id=5, count=1000)["applied_s"])
    measured["latched_ms"], measured["last goal_ms"] = round(reaction.latched_ms), round(reaction.still_ms)
    assert reaction.codes["servo_lost"] == "wrist_roll"
    assert reaction.ticks <= 2, reaction
    twin.fault("corrupt", servo_id=5, count=0)


def test_answers_that_come_too_late_stop_the_arm_and_a_wire_that_recovers_is_used_again(
    moving: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:
    before = int(moving.newest()["tick"])
    applied_s = twin.fault("delay", delay_ms=30.0)["applied_s"]
    reaction = moving.stopped(applied_s)
    measured["latched_ms"], measured["last goal_ms"] = round(reaction.latched_ms), round(reaction.still_ms)
    measured["longest tick_ms"] = round(max(float(r["busy_ms"]) for r in moving.records(before)))
    assert reaction.ticks <= 2, reaction
    twin.fault("delay", delay_ms=0.0)
    moving.until(lambda: not any(f["active"] for f in moving.status()["faults"]), 1.5, "recovery")
    time.sleep(0.5)
    assert moving.mode == "fault" and moving.goals_since(applied_s + 2 * DT_S) == []
    moving.start()


def test_an_unplugged_adapter_is_opened_again_and_moves_nothing_until_a_person_says_so(
    moving: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:
    applied_s = twin.fault("unplug")["applied_s"]
    reaction = moving.stopped(applied_s)
    measured["latched_ms"] = round(reaction.latched_ms)
    assert "port_lost" in reaction.codes
    assert not moving.ask(op="start")["ok"]
    twin.fault("replug")
    moving.until(lambda: not any(f["active"] for f in moving.status()["faults"]), 10.0, "port again")
    time.sleep(0.5)
    assert moving.mode == "fault" and moving.goals_since(applied_s + 0.3) == []
    moving.start()


def test_an_adapter_that_comes_back_under_another_name_is_found_by_its_stable_one(
    moving: Rig, twin: TwinProcess
) -> None:
    link = twin.description["by_id"]["follower"]
    before = os.path.realpath(link)
    applied_s = twin.fault("rename")["applied_s"]
    assert os.path.realpath(link) != before
    moving.until(lambda: "port_lost" in moving.codes, 3.0, "fault")
    moving.until(lambda: not any(f["active"] for f in moving.status()["faults"]), 10.0, "port again")
    time.sleep(0.5)
    assert moving.mode == "fault" and moving.goals_since(applied_s + 0.3) == []


def test_the_leader_in_the_followers_place_is_refused(tmp_path: Path, stack: Rig, twin: TwinProcess) -> None:
    if stack.process is not None:
        stack.end()  # the port is this test's
    twin.reset()
    swapped_s = twin.fault("swap")["applied_s"]
    rig = Rig(tmp_path, twin)
    try:
        rig.launch()
        rig.until_mode("fault")
        (fault,) = rig.status()["faults"]
        assert "leader" in fault["message"] and "calibrat" in fault["message"]
        assert not rig.ask(op="start")["ok"]
        assert twin.goal_log(swapped_s) == []
    finally:
        rig.close()
        twin.fault("swap")


def test_a_port_that_is_taken_names_who_has_it_and_leaves_him_alone(
    rig: Rig, twin: TwinProcess, tmp_path: Path
) -> None:
    rig.start()
    assert rig.process is not None
    second = Rig(tmp_path, twin)
    try:
        second.launch()
        second.until_mode("fault")
        (fault,) = second.status()["faults"]
        assert f"pid {rig.process.pid}" in fault["message"]
        second.end(signal.SIGTERM)
    finally:
        second.close()
    assert rig.process.poll() is None and rig.mode == "ready" and rig.codes == {}
