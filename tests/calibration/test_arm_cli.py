"""``so101 calibrate arm`` where no twin is needed: which file it writes, and what it refuses to import."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import typer
from served_bus import ServedBus
from typer.testing import CliRunner

from robot.config import config_root
from robot.eeprom import undisturbed
from robot.errors import ConfigError, ServoError
from robot.joints import SERVO_IDS
from robot.twin.world import LEADER_CALIBRATION, twin_calibration
from services.cli import app
from services.cli.arm_port import Arm, interruptible
from services.cli.calibrate_arm import _target


def held(served: ServedBus) -> list[bytes]:
    return [served.bank.read(servo_id, 0, 56) for servo_id in SERVO_IDS.values()]


def imported(served: ServedBus, tmp_path: Path, raw: dict[str, Any], typed: str = "") -> Any:
    source, target = tmp_path / "source.json", tmp_path / "arm.json"
    source.write_text(json.dumps(raw), encoding="utf-8")
    arguments = ["calibrate", "arm", "--import", str(source), "--port", served.path, "--out", str(target)]
    return CliRunner().invoke(app, arguments, input=typed)


def test_another_arms_file_is_refused_before_anything_is_written(served: ServedBus, tmp_path: Path) -> None:
    raw = twin_calibration(LEADER_CALIBRATION)
    for entry in raw.values():
        entry["homing_offset"] = max(-2047, entry["homing_offset"] - 1400)
    before = held(served)
    result = imported(served, tmp_path, raw)
    assert result.exit_code == 1
    assert "is not of this arm: shoulder_pan would read" in result.output
    assert held(served) == before and not (tmp_path / "arm.json").exists()


def test_the_table_is_shown_before_the_question(served: ServedBus, tmp_path: Path) -> None:
    raw = twin_calibration()
    raw["elbow_flex"]["homing_offset"] += 5
    before = held(served)
    result = imported(served, tmp_path, raw, "n\n")
    assert result.exit_code == 1 and "nothing was written" in result.output
    shown, _, _ = result.output.partition("Write this into the servos")
    assert "elbow_flex" in shown and "945..3147" in shown and "1517" in shown and "1512" in shown
    assert held(served) == before
    assert imported(served, tmp_path, raw, "y\n").exit_code == 0
    assert json.loads((tmp_path / "arm.json").read_text(encoding="utf-8")) == raw


def test_each_arm_has_the_file_that_its_robot_names(tmp_path: Path) -> None:
    text = (config_root() / "robots" / "twin.yaml").read_text(encoding="utf-8")
    text = text.replace("kind: twin", "kind: serial\nport: /dev/none")
    robot = tmp_path / "my.yaml"
    robot.write_text(text, encoding="utf-8")
    assert _target(None, str(robot), Arm.FOLLOWER) == tmp_path / "twin_calibration.json"
    assert _target(None, str(robot), Arm.LEADER) == tmp_path / "twin_leader_calibration.json"
    robot.write_text(text.replace("leader_calibration:", "# "), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"my\.yaml names no leader's file: say with --out"):
        _target(None, str(robot), Arm.LEADER)
    with pytest.raises(ConfigError, match="say with --out"):
        _target(None, "twin", Arm.FOLLOWER)


def test_what_the_servos_hold_is_told_although_ctrl_c_had_to_wait(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit), interruptible("nothing was written"), undisturbed():
        os.kill(os.getpid(), signal.SIGINT)
        raise ServoError("the gripper is open", servo_id=6)
    assert "interrupted: the gripper is open" in capsys.readouterr().err
