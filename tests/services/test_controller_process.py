"""The controller's real process on a live twin: real signals, real sockets, a real bus."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robot.calibration_file import load_calibration
from robot.errors import CommandError
from robot.servo_arm import ServoArm
from robot.telemetry import SOURCES
from robot.teleop.intents import TeleopClient
from robot.twin.client import TwinProcess
from tests.rig import CONFIG, FOLDER, Rig

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def twin() -> Iterator[TwinProcess]:
    with TwinProcess(cameras=False) as twin:
        yield twin


@pytest.fixture
def rig(tmp_path: Path, twin: TwinProcess) -> Iterator[Rig]:
    twin.reset()
    rig = Rig(tmp_path, twin)
    rig.launch()
    yield rig
    rig.close()


def test_starts_runs_and_parks_on_sigterm(rig: Rig) -> None:
    assert rig.mode == "off"
    assert rig.ask(op="run", run_id=1, source="policy", args={}, max_duration_s=1.0)["code"] == "not_ready"
    assert rig.ask(op="start") == {"ok": True}
    rig.until_mode("ready")
    records = rig.records()
    assert np.abs(records[-1]["position"] - CONFIG.ready_pose.array()).max() < 4.0
    ticks = [int(record["tick"]) for record in records]
    assert ticks == sorted(set(ticks))
    assert rig.end(signal.SIGTERM) == 0
    assert rig.mode == "off"
    arm = ServoArm.connect(rig.twin.follower, load_calibration(FOLDER / CONFIG.calibration))
    assert not arm.torque_enabled()
    assert np.abs(arm.read().position - CONFIG.park_pose.array()).max() < 15.0
    arm.close()


@pytest.mark.parametrize("by", ["stop", "second signal"])
def test_park_at_the_end_can_be_stopped(rig: Rig, by: str) -> None:
    rig.start()
    assert rig.process is not None
    rig.process.send_signal(signal.SIGTERM)
    rig.until_mode("parking")
    if by == "stop":
        assert rig.ask(op="stop", level="hold") == {"ok": True}
    else:
        rig.process.send_signal(signal.SIGTERM)
    assert rig.process.wait(3) == 0
    ended_s = time.monotonic()
    arm = ServoArm.connect(rig.twin.follower, load_calibration(FOLDER / CONFIG.calibration))
    assert arm.torque_enabled()
    assert np.abs(arm.read().position - CONFIG.park_pose.array()).max() > 10.0
    arm.close()
    assert not rig.goals_since(ended_s)


def test_flood_of_commands_does_not_stop_the_loop(rig: Rig) -> None:
    end_s = time.monotonic() + 1.5
    refused = 0
    since = int(rig.records()[-1]["tick"])
    while time.monotonic() < end_s:
        try:
            rig.client.send(b'{"op":"dance"}')
        except CommandError:
            refused += 1
            time.sleep(0.001)
    assert refused > 0
    assert rig.ask(op="stop", level="hold") == {"ok": True}
    ticks = [int(record["tick"]) for record in rig.records(since)]
    assert ticks[-1] - ticks[0] >= 60
    assert len(ticks) > 0.8 * (ticks[-1] - ticks[0])


def test_absent_arm_is_a_fault_and_not_the_end(tmp_path: Path, twin: TwinProcess) -> None:
    rig = Rig(tmp_path, twin)
    gone = {"follower": "/dev/no-such-port"}
    rig.describe({**twin.description, **gone, "by_id": gone})
    try:
        rig.launch()
        rig.until_mode("fault")
        assert "/dev/no-such-port" in rig.status()["faults"][0]["message"]
        assert rig.ask(op="start")["code"] == "fault_latched"
        assert rig.ask(op="stop", level="hold") == {"ok": True}
        assert rig.end(signal.SIGTERM) == 0
    finally:
        rig.close()


def test_person_takes_over_from_a_policy_jogs_and_hands_back(rig: Rig) -> None:
    rig.start()
    teleop = TeleopClient(rig.runtime.teleop_socket)
    with rig.heartbeats():
        rig.wave()
        since = int(rig.newest()["tick"])
        assert rig.ask(op="switch", run_id=rig.runs, source="teleop", args={}) == {"ok": True}
        rig.until(lambda: rig.status()["teleop"] is not None, 2.0, "a person")
        before = rig.newest()["goal"].copy()
        for _ in range(40):
            teleop.send({"kind": "joints", "rates": [30.0, 0, 0, 0, 0, 0]})
            time.sleep(0.02)
        assert rig.newest()["goal"][0] > before[0] + 8.0
        args = {"run_id": rig.runs, "mode": "open_loop"}
        assert rig.ask(op="switch", run_id=rig.runs, source="policy", args=args) == {"ok": True}
        rig.send_chunk(np.tile(rig.newest()["goal"], (20, 1)))
        rig.until(lambda: SOURCES[int(rig.newest()["source"])] == "policy", 2.0, "the policy")
        time.sleep(0.3)
        assert rig.mode == "running"
    drove = [r for r in rig.records(since) if r["source"]]
    assert {SOURCES[int(r["source"])] for r in drove} == {"policy", "teleop"}
    steps = (
        np.diff(np.array([r["goal"] for r in drove]), axis=0) / np.diff([r["tick"] for r in drove])[:, None]
    )
    assert np.abs(steps).max() <= 2.5  # of a swing of 60 units per second: one a tick, and a fade
    with pytest.raises(CommandError):
        teleop.send({"kind": "halt"})  # nobody listens any more
