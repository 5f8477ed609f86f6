"""The controller's real process on a live twin: real signals, real sockets, a real bus."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.calibration_file import load_calibration
from robot.config import load_robot
from robot.errors import CommandError, SegmentError
from robot.mailbox import MailboxClient
from robot.runtime import Runtime
from robot.seqlock import SharedBlock
from robot.servo_arm import ServoArm
from robot.telemetry import MODES, TelemetryRing
from robot.twin.client import TwinProcess
from services.supervisor import remove_leftovers

pytestmark = pytest.mark.live
CONFIG, FOLDER = load_robot("twin")


class Rig:
    """A twin, and a controller process that can be killed and started again."""

    def __init__(self, parent: Path, twin: TwinProcess) -> None:
        self.runtime = Runtime.create(parent)
        self.twin = twin
        self.runtime.description.write_text(
            json.dumps({"robot": "twin", "policy": None, "execution": None, "twin": twin.description})
        )
        self.client = MailboxClient(self.runtime.controller_socket)
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        command = [sys.executable, "-m", "services.processes.controller", str(self.runtime.folder)]
        self.process = subprocess.Popen(command)
        pid = self.process.pid
        self.until(lambda: self.status().get("pid") == pid, 30.0, "a controller")

    def ask(self, **command: Any) -> dict[str, Any]:
        return self.client.ask(command, 5.0)

    def status(self) -> dict[str, Any]:
        try:
            with SharedBlock.attach(self.runtime.status_name) as block:
                return json.loads(block.read() or b"{}")
        except SegmentError:
            return {}

    @property
    def mode(self) -> str:
        return str(self.status().get("mode"))

    def until(self, condition: Callable[[], bool], longest_s: float, what: str) -> None:
        end_s = time.monotonic() + longest_s
        while not condition():
            assert time.monotonic() < end_s, f"no {what}: {self.status()}"
            time.sleep(0.02)

    def until_mode(self, mode: str, longest_s: float = 20.0) -> None:
        self.until(lambda: self.mode == mode, longest_s, mode)

    def records(self, since: int = 0) -> list[Any]:
        ring = TelemetryRing.attach(self.runtime.telemetry_name)
        try:
            return ring.since(since)
        finally:
            ring.close()

    def end(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        return process.wait(30)

    def close(self) -> None:
        if self.process is not None:
            self.end()
        remove_leftovers(self.runtime)


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


def test_killed_controller_leaves_the_arm_holding_and_its_successor_moves_nothing(rig: Rig) -> None:
    rig.ask(op="start")
    rig.until_mode("ready")
    readers = TelemetryRing.attach(rig.runtime.telemetry_name)
    before = readers.newest()
    assert before is not None
    rig.end(signal.SIGKILL)
    rig.launch()
    rig.until_mode("hold")
    time.sleep(0.5)
    after = readers.newest()  # without attaching again
    readers.close()
    assert after is not None
    assert after["tick"] > before["tick"]
    assert MODES[int(after["mode"])] == "hold"
    assert np.abs(after["position"] - before["position"]).max() < 3.0
    goals = np.array([r["goal"] for r in rig.records(int(before["tick"]) + 1)])
    assert np.ptp(goals, axis=0).max() < 1e-9
    assert rig.ask(op="start") == {"ok": True}
    rig.until_mode("ready")


def test_stopped_process_does_not_make_up_for_lost_ticks(rig: Rig) -> None:
    rig.ask(op="start")
    time.sleep(0.5)
    assert rig.mode == "starting"
    since = int(rig.records()[-1]["tick"])
    assert rig.process is not None
    os.kill(rig.process.pid, signal.SIGSTOP)
    time.sleep(0.7)
    os.kill(rig.process.pid, signal.SIGCONT)
    rig.until_mode("ready")
    records = rig.records(since)
    steps = np.diff([int(record["tick"]) for record in records])
    assert steps.max() >= 30
    goals = np.array([record["goal"] for record in records])
    assert np.abs(np.diff(goals, axis=0)).max() <= CONFIG.ramp_velocity_dps / CONFIG.control_hz + 0.01
    assert records[-1]["missed"] >= 30


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


def test_muted_servo_is_named_and_holds_the_rest(rig: Rig) -> None:
    rig.ask(op="start")
    rig.until_mode("ready")
    rig.twin.fault("mute", servo_id=4)
    rig.until_mode("fault", 5.0)
    (fault,) = rig.status()["faults"]
    assert (fault["code"], fault["joint"], fault["severity"]) == ("servo_lost", "wrist_flex", "hold")
    rig.twin.fault("unmute", servo_id=4)


def test_absent_arm_is_a_fault_and_not_the_end(tmp_path: Path, twin: TwinProcess) -> None:
    rig = Rig(tmp_path, twin)
    missing = {**twin.description, "follower": "/dev/no-such-port"}
    rig.runtime.description.write_text(json.dumps({"robot": "twin", "twin": missing}))
    try:
        rig.launch()
        rig.until_mode("fault")
        assert "/dev/no-such-port" in rig.status()["faults"][0]["message"]
        assert rig.ask(op="start")["code"] == "fault_latched"
        assert rig.ask(op="stop", level="hold") == {"ok": True}
        assert rig.end(signal.SIGTERM) == 0
    finally:
        rig.close()
