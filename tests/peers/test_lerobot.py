"""LeRobot's own SO-101 classes, unchanged, connect to the twin, calibrate, teleoperate and let go.

They need Python 3.12 and their own torch, so they run in the environment that ``bin/setup-lerobot`` makes;
where that is absent, and no ``SO101_LEROBOT_PYTHON`` names another, there is nothing to test.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.bus import FeetechBus
from robot.calibration_file import load_calibration
from robot.config import load_robot
from robot.joints import JOINTS, SERVO_IDS
from robot.seams import FloatArray
from robot.servo_arm import ServoArm
from robot.twin.client import TwinProcess
from services.bench.bus import lerobot_python

ASKED = os.environ.get("SO101_LEROBOT_PYTHON")
PYTHON = lerobot_python(Path(ASKED) if ASKED else None)

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="LeRobot is not installed: bin/setup-lerobot"),
]

CONFIG, FOLDER = load_robot("twin")
SHIPPED = {
    "follower": FOLDER / CONFIG.calibration,
    "leader": FOLDER / (CONFIG.leader_calibration or CONFIG.calibration),
}
LEADERS = FOLDER / str(CONFIG.leader_calibration)
SESSION = Path(__file__).with_name("lerobot_session.py")
ANSWER_S = 60.0
"""LeRobot imports torch first."""
IDS = tuple(SERVO_IDS.values())
MIDDLE = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 50.0])
LOW = CONFIG.gate.min_position.array()
HIGH = CONFIG.gate.max_position.array()
POSE = np.array([30.0, -40.0, 35.0, 20.0, -25.0, 70.0])


class Session:
    """LeRobot at work; the test is the person in front of it."""

    def __init__(self, twin: TwinProcess, calibrations: Path) -> None:
        environment = {**os.environ, "HF_LEROBOT_CALIBRATION": str(calibrations), "HF_HUB_OFFLINE": "1"}
        environment.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            [str(PYTHON), "-u", str(SESSION), twin.follower, twin.leader],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        self._chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._said = ""
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while chunk := os.read(self._process.stdout.fileno(), 4096):
            self._chunks.put(chunk)
        self._chunks.put(b"")

    def until(self, words: str) -> str:
        """Wait until LeRobot has said this; returns all that it said before."""
        deadline_s = time.monotonic() + ANSWER_S
        while words not in self._said:
            assert time.monotonic() < deadline_s, f"never said {words!r} but {self._said[-2000:]}"
            try:
                chunk = self._chunks.get(timeout=1.0)
            except queue.Empty:
                continue
            assert chunk, f"ended before it said {words!r}: {self._said[-2000:]}"
            self._said += chunk.decode(errors="replace")
        before, _, self._said = self._said.partition(words)
        return before

    def answer(self, text: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.flush()

    def teleoperate(self, seconds: float) -> dict[str, Any]:
        """Its last action and observation after so long."""
        self.until("how many seconds? ")
        self.answer(str(seconds))
        self.until('{"action"')
        result: dict[str, Any] = json.loads('{"action"' + self.until("\n"))
        return result

    def end(self) -> None:
        self.until("how many seconds? ")
        self.answer("0")
        self.until("disconnected")
        assert self._process.wait(ANSWER_S) == 0


@pytest.fixture
def twin() -> Iterator[TwinProcess]:
    with TwinProcess(cameras=False, bare=True) as twin:
        yield twin


@pytest.fixture
def calibrations(tmp_path: Path) -> Path:
    for kind in ("robots/so_follower", "teleoperators/so_leader"):
        (tmp_path / kind).mkdir(parents=True)
    return tmp_path


def files(calibrations: Path) -> tuple[Path, Path]:
    return calibrations / "robots/so_follower/twin.json", calibrations / "teleoperators/so_leader/twin.json"


def by_joint(values: dict[str, float]) -> FloatArray:
    return np.array([values[f"{joint}.pos"] for joint in JOINTS])


def torque(port: str) -> list[int]:
    with FeetechBus(port) as bus:
        return [bus.read(servo_id, "torque_enable") for servo_id in IDS]


def test_with_calibration_files_the_follower_does_what_the_leader_is_led_to(
    twin: TwinProcess, calibrations: Path
) -> None:
    for shipped, path in zip(SHIPPED.values(), files(calibrations), strict=True):
        shutil.copy(shipped, path)
    # The leader's servos hold something else: LeRobot asks before it writes the file to them.
    twin.fault("register", arm="leader", servo_id=2, name="homing_offset", value=123)
    with Session(twin, calibrations) as session:
        session.until("follower connected")
        session.until("Press ENTER to use provided calibration file")
        session.answer()
        session.until("leader connected")
        twin.hand("leader", POSE)
        result = session.teleoperate(4.0)
        session.end()
    action, seen = by_joint(result["action"]), by_joint(result["observation"])
    np.testing.assert_allclose(action, POSE, atol=1.0)
    np.testing.assert_allclose(seen, POSE, atol=8.0)  # LeRobot halves the P gain: the arm sags
    assert torque(twin.follower) == [0] * 6
    with_us = ServoArm.connect(twin.leader, load_calibration(LEADERS))
    assert np.abs(with_us.read().position - POSE).max() < 2.0
    with_us.close()


def test_its_interactive_calibration_finds_the_ranges_that_a_hand_sweeps(
    twin: TwinProcess, calibrations: Path
) -> None:
    with Session(twin, calibrations) as session:
        for arm in ("follower", "leader"):
            session.until("to the middle of its range of motion and press ENTER")
            lead(twin, arm, MIDDLE)
            session.answer()
            session.until("Press ENTER to stop")
            for pose in (LOW, HIGH, MIDDLE):
                lead(twin, arm, pose)
            session.answer()
            session.until(f"{arm} connected")
        twin.hand("follower", None)
        result = session.teleoperate(2.0)
        session.end()
    np.testing.assert_allclose(by_joint(result["observation"]), by_joint(result["action"]), atol=8.0)
    span_deg = (HIGH - LOW)[:5]
    for port, path in zip((twin.follower, twin.leader), files(calibrations), strict=True):
        found = load_calibration(path)
        swept_deg = (found.range_max - found.range_min)[:5] * 360.0 / 4096.0
        np.testing.assert_allclose(np.delete(swept_deg, 4), np.delete(span_deg, 4), atol=3.0)
        assert (found.range_min[4], found.range_max[4]) == (0, 4095)  # a wrist that turns all around
        arm = ServoArm.connect(port, found)  # the servos hold what the file says
        arm.close()


def lead(twin: TwinProcess, arm: str, pose: FloatArray) -> None:
    """A hand leads the arm there, and stays."""
    twin.hand(arm, pose)
    time.sleep(3.0)
