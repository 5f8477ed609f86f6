from __future__ import annotations

import http.client
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from robot.bus import FeetechBus
from robot.errors import ConfigError, ServoError, TwinError
from robot.registers import REGISTERS
from services.bench.bus import IDS, _held_pose, _vendor_sdk, bench_bus
from services.bench.loop import _pick
from services.bench.served import Served, served
from tests.robot.served_bus import ServedBus

pytestmark = pytest.mark.live  # what is timed wants the machine for itself

GOAL = REGISTERS["goal_position"].address


def goals(port: str) -> dict[int, int]:
    with FeetechBus(port) as bus:
        replies = bus.sync_read_all(IDS, GOAL, 2)
    return {i: int.from_bytes(packet.data, "little") for i, packet in replies.items()}


def present_positions(port: str) -> dict[int, int]:
    with FeetechBus(port) as bus:
        return {i: bus.read(i, "present_position") for i in IDS}


@pytest.fixture
def servos() -> Any:
    served_bus = ServedBus()
    yield served_bus
    served_bus.unplug()


def test_missing_servos_are_named_and_nothing_is_written(servos: ServedBus) -> None:
    before = goals(servos.path)
    servos.faults.muted.add(4)
    with pytest.raises(ServoError, match="wrist_flex"):
        bench_bus(servos.path, 10)
    servos.faults.muted.clear()
    assert goals(servos.path) == before


def test_a_peer_that_loses_answers_writes_the_pose_all_the_same(servos: ServedBus) -> None:
    pose = _held_pose(servos.path)
    servos.faults.lose[2] = 3
    _vendor_sdk(servos.path, 2, pose)
    assert goals(servos.path) == pose and all(pose.values())


def test_a_servo_with_torque_keeps_the_goal_it_has(servos: ServedBus) -> None:
    with FeetechBus(servos.path) as bus:
        present = bus.read(2, "present_position")
        bus.write(2, "goal_position", present + 40)
        bus.write(3, "goal_position", 0)
        bus.write(2, "torque_enable", 1)
        bus.write(3, "torque_enable", 0)
    pose = _held_pose(servos.path)
    assert pose[2] == present + 40
    assert pose[3] == present_positions(servos.path)[3]


def fake_python(folder: Path, script: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_cycle_is_told_with_its_ratio_to_the_wire_and_beside_its_peers(
    servos: ServedBus, tmp_path: Path
) -> None:
    python = fake_python(tmp_path, """echo 'it says things'; echo '{"version": "0.6.1"}'""")
    result = bench_bus(servos.path, 10, python)
    assert result["wire_ms"] == pytest.approx(1.66)
    assert result["ratio_to_wire"] == pytest.approx(result["cycle_ms"]["median"] / 1.66)
    assert 0.0 < result["cpu_share"] < 1.0
    peers = result["peers"]
    assert peers["lerobot (positions only)"] == {"version": "0.6.1"}
    assert peers["feetech-servo-sdk"]["wire_ms"] == result["wire_ms"]
    assert peers["rustypot (positions only)"]["wire_ms"] == pytest.approx(0.88)


def test_a_peer_that_panics_is_told_of_and_the_others_are_timed(
    servos: ServedBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PanicException(BaseException):
        pass

    def panics(*args: Any, **values: Any) -> None:
        raise PanicException("no answer")

    monkeypatch.setattr("rustypot.Sts3215PyController", lambda **values: SimpleNamespace())
    monkeypatch.setattr("services.bench.bus.POSITIONS_WIRE_MS", -1.0)
    monkeypatch.setattr("services.bench.bus.timed", lambda cycle, n, ms: panics() if ms < 0 else {})
    peers = bench_bus(servos.path, 10, fake_python(tmp_path, "echo '{}'"))["peers"]
    assert peers["rustypot (positions only)"] == {"failed": "it panicked: no answer"}
    assert "feetech-servo-sdk" in peers


def test_a_python_without_lerobot_is_told_with_its_last_words(servos: ServedBus, tmp_path: Path) -> None:
    python = fake_python(tmp_path, "echo 'No module named lerobot' >&2; exit 1")
    with pytest.raises(ConfigError, match=r"No module named lerobot.*bin/setup-lerobot"):
        bench_bus(servos.path, 10, python)
    with pytest.raises(ConfigError, match="no Python at"):
        bench_bus(servos.path, 10, tmp_path / "absent")


class Refusing:
    """A service that stops the arm after every pickup, loses a connection, and forgets nothing."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.calls: list[str] = []
        self.ready = True

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        self.calls.append(path)
        if path == "/v1/faults/clear":
            raise http.client.RemoteDisconnected("gone")
        return {}

    def start(self) -> None:
        self.calls.append("start")
        self.ready = True

    def pickup(self, x_m: float, y_m: float) -> dict[str, Any]:
        if not self.ready:
            raise TwinError("POST /v1/pickups: 409 the arm is stopped")
        self.ready = False
        if self.calls.count("start") == 2:
            self.stop.set()
        return {"status": "failed"}


def test_the_loop_is_measured_with_an_arm_that_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.bench.loop.RESTART_S", 0.0)
    stop, finished = threading.Event(), list[str]()
    service: Any = Refusing(stop)
    _pick(service, stop, finished)
    assert finished == ["failed"] * 3 and service.calls.count("start") == 2


def test_a_service_that_comes_up_with_a_fault_is_cleared_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text(
        "#!/bin/sh\necho 'starting'\necho 'up, with a fault to clear (x): http://h:1'\nexec sleep 60\n"
    )
    script.chmod(0o755)
    asked: list[str] = []
    monkeypatch.setattr("services.bench.served.sys.executable", os.fspath(script))
    monkeypatch.setattr(Served, "call", lambda service, method, path, body=None: asked.append(path))
    with served():
        assert asked == ["/v1/faults/clear"]
