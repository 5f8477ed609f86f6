"""What the doctor makes of what it reads: its rules without a twin."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "robot"))
from scripted_arm import HandClock, ScriptedArm

from robot.config import load_robot
from robot.errors import ServoError
from robot.fingerprint import FOLLOWER_GRIPPER, Servo
from robot.joints import JOINTS, SERVO_IDS
from robot.registers import REGISTERS
from robot.safety.limits import supply
from services.doctor import motion, servos
from services.doctor.report import Report, Role, Scope
from services.doctor.survey import Survey

TWIN, TWIN_FOLDER = load_robot("twin")


def scope(arm: Role = "follower") -> Scope:
    return Scope(Report("test"), arm)


def codes(seen: Scope) -> list[tuple[str, str | None]]:
    return [(finding.code, finding.joint) for finding in seen.report.findings]


# -- moving --------------------------------------------------------------------------------------------------


class DoctorsArm(ScriptedArm):
    """An arm of which some joints may be limp."""

    limp_before: tuple[str, ...] = JOINTS
    release_error: ServoError | None = None

    def limp_joints(self) -> tuple[str, ...]:
        return self.limp_before

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
