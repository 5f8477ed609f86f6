"""From a bag of servos to a calibrated arm, with the commands that a person gives, on live twins."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from robot.bus import FeetechBus
from robot.calibration_file import load_calibration
from robot.joints import JOINTS, SERVO_IDS
from robot.kinematics import rad_to_user
from robot.model import load_arm
from robot.servo_arm import ServoArm
from robot.twin.client import TwinProcess
from robot.twin.world import LEADER_CALIBRATION, twin_calibration

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
LOW, HIGH = rad_to_user(load_arm().jnt_range.T)
SLOW_MACHINE_S = 0.5


@pytest.fixture(scope="module")
def twin() -> Iterator[TwinProcess]:
    with TwinProcess(cameras=False, bare=True) as twin:
        yield twin
        assert twin.errors() == ""


@pytest.fixture(scope="module")
def factory() -> Iterator[TwinProcess]:
    with TwinProcess(cameras=False, bare=True, factory=True) as twin:
        yield twin
        assert twin.errors() == ""


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that has ended when this has, whatever happens."""
    with subprocess.Popen(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def so101(*arguments: str, typed: str = "") -> tuple[int, str]:
    with started(*arguments) as process:
        output, _ = process.communicate(typed, timeout=120)
    return process.returncode, output


def pipe(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None and process.stdout is not None
    return process.stdin, process.stdout


def read_to(stdout: IO[str], word: str) -> str:
    """Output up to the line that holds a word."""
    seen = ""
    for line in stdout:
        seen += line
        if word in line:
            return seen
    pytest.fail(f"{word!r} was never said: {seen}")


def registers(port: str) -> dict[int, tuple[int, ...]]:
    names = ("homing_offset", "min_position", "max_position", "lock", "torque_enable")
    with FeetechBus(port, margin_s=SLOW_MACHINE_S) as bus:
        return {i: tuple(bus.read(i, name) for name in names) for i in SERVO_IDS.values()}


def until(reached: Callable[[], bool], limit_s: float = 30.0) -> None:
    end_s = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < end_s
        time.sleep(0.05)


@pytest.mark.slow
def test_a_bag_of_servos_becomes_a_calibrated_arm(factory: TwinProcess, tmp_path: Path) -> None:
    port, target = factory.by_id["follower"], tmp_path / "arm.json"
    with started("setup-motors", "--port", port) as process:
        stdin, stdout = pipe(process)
        for joint in reversed(JOINTS):
            read_to(stdout, f"only the {joint}'s")
            factory.plug("follower", [joint])
            stdin.write("\n")
            stdin.flush()
        read_to(stdout, "Connect all six")
        factory.plug("follower", None)
        rest, _ = process.communicate("\n", timeout=60)
        assert process.returncode == 0, rest
        assert "all six answer" in rest

    # Horns were put on anywhere: some of these ranges cross 4095.
    with started("calibrate", "arm", "--port", port, "--out", str(target)) as process:
        stdin, stdout = pipe(process)
        read_to(stdout, "Move every joint")
        time.sleep(0.5)
        for pose in (LOW, HIGH, (LOW + HIGH) / 2):
            factory.hand("follower", pose)
            arrived_s = factory.truth()["time_s"] + 2.6
            until(lambda: factory.truth()["time_s"] > arrived_s)  # noqa: B023  asked at once
        output, _ = process.communicate("\ny\n", timeout=60)
        assert process.returncode == 0, output
        assert "gate.min_position.wrist_roll: -15" in output  # of 160 to either side
    calibration = load_calibration(target)
    spans = calibration.range_max - calibration.range_min
    model = np.array([HIGH[i] - LOW[i] for i in range(6)]) * 4095 / 360
    np.testing.assert_allclose(spans[:4], model[:4], atol=12)

    # The running path takes the arm as it is, and its degrees are the joints' angles.
    arm = ServoArm.connect(port, calibration, margin_s=SLOW_MACHINE_S)
    try:
        pose = np.array([20.0, -30.0, 15.0, 40.0, -50.0, 50.0])
        factory.hand("follower", pose)
        middle = (LOW + HIGH) / 2
        until(lambda: bool(np.abs(arm.read().position[:5] - (pose - middle)[:5]).max() < 0.5))
    finally:
        arm.close()


@pytest.mark.slow
def test_an_imaginary_hand_needs_no_person(tmp_path: Path) -> None:
    target = tmp_path / "twin.json"
    code, output = so101("calibrate", "arm", "--robot", "twin", "--out", str(target), "--yes")
    assert code == 0, output
    found, shipped = load_calibration(target), twin_calibration()
    for joint in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex"):
        for key in ("homing_offset", "range_min", "range_max"):
            assert abs(getattr(found.joints[joint], key) - shipped[joint][key]) <= 6, joint
    assert (found.joints["wrist_roll"].range_min, found.joints["wrist_roll"].range_max) == (0, 4095)
    gripper, expected = found.joints["gripper"], shipped["gripper"]
    actual = [gripper.range_min + gripper.homing_offset, gripper.range_max + gripper.homing_offset]
    ends = [
        expected["range_min"] + expected["homing_offset"],
        expected["range_max"] + expected["homing_offset"],
    ]
    np.testing.assert_allclose(actual, ends, atol=8)


def test_ending_a_sweep_leaves_servos_and_file_as_they_were(twin: TwinProcess, tmp_path: Path) -> None:
    target = tmp_path / "arm.json"
    target.write_text("mine", encoding="utf-8")
    before = registers(twin.by_id["follower"])
    for how in (signal.SIGTERM, None):
        with started("calibrate", "arm", "--port", twin.by_id["follower"], "--out", str(target)) as process:
            _, stdout = pipe(process)
            read_to(stdout, "Move every joint")
            time.sleep(0.3)
            if how is not None:
                process.send_signal(how)
            output, _ = process.communicate(timeout=60)  # ends stdin, too
            assert process.returncode == (1 if how is None else 130)
            assert "nothing was written" in output
    assert registers(twin.by_id["follower"]) == before
    assert target.read_text(encoding="utf-8") == "mine" and list(tmp_path.iterdir()) == [target]


def test_an_energised_arm_is_not_dropped(twin: TwinProcess, tmp_path: Path) -> None:
    with FeetechBus(twin.by_id["follower"], margin_s=SLOW_MACHINE_S) as bus:
        bus.write(2, "goal_position", bus.read(2, "present_position"))
        bus.write(2, "torque_enable", 1)
    code, output = so101(
        "calibrate", "arm", "--port", twin.by_id["follower"], "--out", str(tmp_path / "a.json"), "--yes"
    )
    assert code == 1 and "energised (shoulder_lift)" in output and "park it first" in output
    with FeetechBus(twin.by_id["follower"], margin_s=SLOW_MACHINE_S) as bus:
        assert bus.read(2, "torque_enable") == 1
        bus.write(2, "torque_enable", 0)


def test_a_present_file_is_imported_into_the_servos(twin: TwinProcess, tmp_path: Path) -> None:
    raw = twin_calibration(LEADER_CALIBRATION)
    raw["elbow_flex"]["homing_offset"] += 5
    source, target = tmp_path / "source.json", tmp_path / "mine.json"
    source.write_text(json.dumps(raw), encoding="utf-8")
    target.write_text("{}", encoding="utf-8")
    port = twin.by_id["leader"]
    arguments = ("calibrate", "arm", "--import", str(source), "--port", port, "--out", str(target))
    code, output = so101(*arguments, typed="y\n")
    assert code == 0 and "1 registers written" in output, output
    assert load_calibration(target).as_json() == raw
    assert (tmp_path / "mine.json.1").read_text(encoding="utf-8") == "{}"
    assert registers(port)[3][0] == raw["elbow_flex"]["homing_offset"]

    both = ("--port", twin.by_id["follower"], "--port", port)
    code, output = so101("ports", "--json", "--calibration", str(target), *both)
    found = {one["path"]: one for one in json.loads(output)}
    assert code == 0 and found[twin.by_id["follower"]]["role"] == "follower"
    assert found[port]["calibrations"] == [str(target)]
    assert [servo["joint"] for servo in found[port]["servos"]] == list(JOINTS)


def test_a_busy_port_is_named_with_its_owner_and_left_alone(twin: TwinProcess) -> None:
    with FeetechBus(twin.by_id["follower"], margin_s=SLOW_MACHINE_S) as bus:
        code, output = so101("ports", "--port", twin.by_id["follower"])
        assert code == 0 and "is in use by pid" in output
        bus.ping(1)
