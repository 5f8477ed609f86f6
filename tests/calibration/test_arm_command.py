"""What a person at a terminal meets in ``so101 calibrate arm`` and ``so101 setup-motors``."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from served_bus import ServedBus
from typer.testing import CliRunner

from robot.eeprom import SetupBus
from robot.fingerprint import FOLLOWER_GRIPPER
from robot.joints import SERVO_IDS
from robot.registers import REGISTERS
from robot.twin.world import twin_calibration
from services.cli import app, calibrate_arm
from services.cli.arm_port import Arm, ArmPort
from services.cli.setup_motors import _together


def held(served: ServedBus) -> list[bytes]:
    return [served.bank.read(servo_id, 0, 56) for servo_id in SERVO_IDS.values()]


def run(*arguments: str, typed: str = "") -> Any:
    return CliRunner().invoke(app, ["calibrate", "arm", *arguments], input=typed)


@pytest.mark.parametrize(("arm", "other"), [("leader", "follower"), ("follower", "leader")])
def test_the_other_arms_gripper_is_asked_about(
    served: ServedBus, tmp_path: Path, arm: str, other: str
) -> None:
    if arm == "follower":
        for name in FOLLOWER_GRIPPER:
            served.bank.force(6, name, REGISTERS[name].default)
    before = held(served)
    done = run("--port", served.path, "--arm", arm, "--out", str(tmp_path / "arm.json"), typed="n\n")
    assert done.exit_code == 1 and f"Is it the {arm} nevertheless?" in done.output
    assert f"give the {arm}'s port, or --arm {other}" in done.output
    assert held(served) == before and not list(tmp_path.iterdir())
    # With the right one it goes on to the sweep, which is nothing for this stdin.
    done = run("--port", served.path, "--arm", other, "--out", str(tmp_path / "arm.json"))
    assert "nevertheless" not in done.output and "Move every joint" in done.output


def test_a_question_that_is_broken_off_ends_as_ctrl_c_does(served: ServedBus, tmp_path: Path) -> None:
    done = run("--port", served.path, "--arm", "leader", "--out", str(tmp_path / "arm.json"))
    assert done.exit_code == 130
    assert "interrupted: nothing was written" in done.output and "Aborted" not in done.output


def test_a_file_that_is_imported_without_an_arm_keeps_the_one_that_was_there(tmp_path: Path) -> None:
    source, target = tmp_path / "source.json", tmp_path / "arm.json"
    source.write_text(json.dumps(twin_calibration()), encoding="utf-8")
    target.write_text("{}", encoding="utf-8")
    done = run("--import", str(source), "--out", str(target), "--yes")
    assert done.exit_code == 0 and f"The file that was there is now {target}.1" in done.output
    assert (tmp_path / "arm.json.1").read_text(encoding="utf-8") == "{}"


def test_somebody_alone_has_time_to_hold_the_arm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(calibrate_arm.typer, "confirm", lambda _: True)
    monkeypatch.setattr(calibrate_arm.time, "sleep", slept.append)
    calibrate_arm._ask_to_hold(Console(), ["shoulder_lift"])
    assert sum(slept) == 3.0
    shown = capsys.readouterr().out
    assert "in 3 s" in shown and "in 2 s" in shown and "in 1 s" in shown


def test_a_wrong_register_at_the_end_has_a_way_out(
    bus: SetupBus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = [["gripper (servo 6) holds p_gain = 32 instead of 16"], []]
    monkeypatch.setattr("calibration.motors.check_all", lambda *_, **__: problems.pop(0))
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))
    _together(Console(), bus, ArmPort(bus.path, Arm.FOLLOWER), follower=True)
    shown = capsys.readouterr().out
    assert (
        "holds p_gain = 32" in shown and "Ctrl-C, and run this again" in shown and "all six answer" in shown
    )
