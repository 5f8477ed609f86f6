"""What the doctor makes of what it reads: its rules without a twin."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "robot"))
from scripted_arm import HandClock, ScriptedArm

from robot.config import config_root, load_robot
from robot.errors import ServoError
from robot.fingerprint import FOLLOWER_GRIPPER, Servo
from robot.joints import JOINTS, SERVO_IDS
from robot.registers import REGISTERS, StatusBit
from robot.safety.limits import supply
from services.doctor import condition, identity, machine, motion, servos
from services.doctor.examine import Options, examine
from services.doctor.report import Report, Role, Scope
from services.doctor.survey import Samples, Survey

TWIN, TWIN_FOLDER = load_robot("twin")


def scope(arm: Role = "follower") -> Scope:
    return Scope(Report("test"), arm)


def codes(seen: Scope) -> list[tuple[str, str | None]]:
    return [(finding.code, finding.joint) for finding in seen.report.findings]


# -- moving --------------------------------------------------------------------------------------------------


class DoctorsArm(ScriptedArm):
    """An arm of which some joints may be limp, before it is energised and after some goals."""

    limp_before: tuple[str, ...] = JOINTS
    restarts_after: float = np.inf
    release_error: ServoError | None = None

    def limp_joints(self) -> tuple[str, ...]:
        if "enable" not in self.calls:
            return self.limp_before
        return ("elbow_flex",) if len(self.goals) > self.restarts_after else ()

    def release(self) -> None:
        super().release()
        if self.release_error is not None:
            raise self.release_error


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> DoctorsArm:
    clock = HandClock()
    monkeypatch.setattr(motion, "MonotonicClock", lambda: clock)
    monkeypatch.setattr(motion, "SETTLE_S", 0.05)
    arm = DoctorsArm(clock)
    arm.position = TWIN.ready_pose.array()
    return arm


def moved(arm: DoctorsArm) -> Scope:
    seen = scope()
    motion.check_motion(seen, arm, TWIN, supply(7.4))  # type: ignore[arg-type]
    return seen


@pytest.mark.parametrize(("limp", "released"), [(JOINTS, True), (("gripper",), False), ((), False)])
def test_only_an_arm_that_held_nothing_is_released(
    arm: DoctorsArm, limp: tuple[str, ...], released: bool
) -> None:
    """A partly limp arm is held up by the rest of its joints."""
    arm.limp_before = limp
    assert codes(moved(arm)) == []
    assert ("release" in arm.calls) == released


def test_a_servo_that_dies_in_the_move_leaves_a_report(arm: DoctorsArm) -> None:
    dead = ServoError("wrist_flex says nothing", servo_id=4, joint="wrist_flex")
    arm.release_error = dead
    assert codes(moved(arm)) == [("lost_moving", None)]

    def dies() -> None:
        if len(arm.goals) > 30:
            arm.read_error = dead

    arm.goals, arm.on_read = [], dies
    seen = moved(arm)
    assert codes(seen) == [("lost_moving", None)] and "while the arm moved" in seen.report.findings[0].message


def hot(arm: DoctorsArm) -> None:
    arm.temperature_c[1] = 80.0


def strained(arm: DoctorsArm) -> None:
    arm.status[2] = StatusBit.OVERLOAD


def starved(arm: DoctorsArm) -> None:
    arm.voltage_v[:] = 5.0


@pytest.mark.parametrize(
    ("happens", "code", "joint"),
    [
        (hot, "servo_hot", "shoulder_lift"),
        (strained, "overload_latched", "elbow_flex"),
        (starved, "supply_sags", None),
    ],
)
def test_what_a_service_would_hold_for_ends_the_move(
    arm: DoctorsArm, happens: Callable[[DoctorsArm], None], code: str, joint: str | None
) -> None:
    arm.limp_before = ()

    def goes_wrong() -> None:
        if len(arm.goals) > 30:
            happens(arm)

    arm.on_read = goes_wrong
    seen = moved(arm)
    assert codes(seen) == [(code, joint)]
    assert "clear the fault" not in seen.report.findings[0].remedy
    assert len(arm.goals) < 30 + 1.0 / TWIN.dt_s  # all of it takes 580
    np.testing.assert_array_equal(arm.goals[-1], arm.position)


def test_a_servo_that_restarts_ends_the_move_and_gets_no_goal_any_more(arm: DoctorsArm) -> None:
    arm.limp_before, arm.restarts_after = (), 30
    assert codes(moved(arm)) == [("supply_sags", "elbow_flex")]
    assert len(arm.goals) < 30 + 2.0 / TWIN.dt_s


def test_one_wild_voltage_is_none(arm: DoctorsArm) -> None:
    def wild() -> None:
        arm.voltage_v[3] = 1.0 if len(arm.goals) == 30 else 7.4

    arm.on_read = wild
    assert codes(moved(arm)) == []


def test_a_servo_that_is_dead_before_the_move_leaves_a_report(arm: DoctorsArm) -> None:
    arm.read_error = ServoError("wrist_flex says nothing", servo_id=4, joint="wrist_flex")
    assert codes(moved(arm)) == [("lost_moving", None)]
    assert "enable" not in arm.calls


# -- registers -----------------------------------------------------------------------------------------------


def survey_of(gripper: dict[str, int] | None = None, **changed: int) -> Survey:
    """Six servos as LeRobot sets a follower up; ``changed`` holds for the elbow."""
    found = {}
    for joint, servo_id in SERVO_IDS.items():
        held = {name: register.default for name, register in REGISTERS.items()} | {"id": servo_id}
        held |= (FOLLOWER_GRIPPER if gripper is None else gripper) if joint == "gripper" else {}
        found[servo_id] = Servo(servo_id, held | (changed if joint == "elbow_flex" else {}))
    return Survey(found)


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_grippers_limits_in_another_joint_are_found_and_healthy_arms_are_not(role: Role) -> None:
    seen = scope(role)
    servos.check_registers(seen, survey_of())  # the twin's leader has a follower's gripper too
    servos.check_registers(seen, survey_of(protection_current=511, max_torque=500))
    assert codes(seen) == []
    servos.check_registers(seen, survey_of(**FOLLOWER_GRIPPER))
    assert codes(seen) == [("register_wrong", "elbow_flex")]
    assert "overload_torque is 25 instead of 80" in seen.report.findings[0].message


# -- remedies ------------------------------------------------------------------------------------------------


def test_remedies_can_be_pasted() -> None:
    mine = Scope(Report("test"), "leader", "/dev/my port", Path("arms/leader.json"))
    assert mine.set_up == "`so101 setup-motors --arm leader --port '/dev/my port'`"
    assert mine.calibrate == (
        "`so101 calibrate arm --arm leader --port '/dev/my port' --out arms/leader.json`"
    )
    servos.check_presence(mine, Survey({}, silent=(1,), elsewhere={1: 500_000}), "/dev/my port")
    servos.check_registers(mine, survey_of(gripper={}, return_delay=250))
    identity.check_calibration(mine, survey_of(gripper={}), identity.Held(None, None), [])
    assert [finding.code for finding in mine.report.findings] == [
        "wrong_baud",
        "register_wrong",
        "calibration_missing",
    ]
    for finding in mine.report.findings:
        assert mine.set_up in finding.remedy or mine.calibrate in finding.remedy


# -- what cannot be read -------------------------------------------------------------------------------------


def test_a_broken_camera_file_is_a_finding_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    text = (config_root() / "robots" / "twin.yaml").read_text(encoding="utf-8")
    text = text.replace("kind: twin", "kind: serial\nport: /dev/none")
    text = text.replace("    calibration: twin_wrist", "    source: /dev/none\n    calibration: my_wrist")
    robot = tmp_path / "my.yaml"
    robot.write_text(text.replace("twin_overhead", "broken_overhead"), encoding="utf-8")
    (tmp_path / "broken_overhead_camera.json").write_bytes(b'{"lens": "\xe9"}')
    report = examine(Options(robot=str(robot)))
    found = {(finding.code, finding.camera): finding for finding in report.findings}
    for camera in ("wrist", "overhead"):
        remedy = found["camera_calibration", camera].remedy
        assert f"so101 calibrate camera {camera} --robot {robot}" in remedy
        assert f"so101 calibrate reference {camera} --robot {robot}" in remedy
    assert "port_missing" in {code for code, _ in found}
    assert "wrist" in found["camera_lost", "wrist"].message
    assert "has no source: set one" in found["camera_lost", "overhead"].message
    assert any(check.name == "disk" for check in report.checks)
    documented = (Path(__file__).resolve().parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert "`camera_calibration`" in documented


def test_a_servo_that_never_answered_is_null_in_json() -> None:
    seen = scope()
    volts, heat_c = np.full((5, 6), 7.4), np.full((5, 6), 30.0)
    volts[:, 3] = heat_c[:, 3] = np.nan
    found = survey_of()
    samples = Samples(found.ids, volts, heat_c, np.zeros((5, 6)), np.full(5, 2.0), 1.5, 0)
    condition.check_supply(seen, samples, 7.4)
    condition.check_heat(seen, samples, found.servos, 65.0)
    text = json.dumps(seen.report.as_json(), allow_nan=False)
    assert '"wrist_flex": null' in text and '"gripper": 7.4' in text


def test_a_kernel_that_is_slow_to_answer_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def slow(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("python", 30)

    monkeypatch.setattr("services.doctor.machine.subprocess.run", slow)
    seen = scope()
    machine.check_machine(seen, tmp_path)
    assert [check.measured for check in seen.report.checks if check.name == "real time"] == [
        "cannot be asked for"
    ]


def test_files_where_a_person_works_are_not_taken_for_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    seen = scope()
    machine.check_machine(seen, tmp_path)
    (real_time,) = [check for check in seen.report.checks if check.name == "real time"]
    assert "memory" in real_time.measured
