"""What the control loop does when the arm fails."""

from __future__ import annotations

import numpy as np
import pytest

from robot.errors import BusError, PortError
from robot.joints import JOINTS

from controller_rig import PARK, READY, Rig, lost  # isort: skip
from scripted_arm import ScriptedArm  # isort: skip


def test_one_lost_reading_is_tolerated() -> None:
    rig = Rig().go("running")
    for _ in range(5):
        rig.arm.read_error = lost(3)
        rig.ticks(1)
        rig.arm.read_error = None
        rig.ticks(3)
    assert rig.mode == "running"
    assert rig.faults == {}
    assert rig.records[-1]["bus_errors"] == 5


@pytest.mark.parametrize("mode", ["starting", "ready", "running", "parking", "hold"])
def test_missing_servo_holds_the_rest_on_the_second_tick_and_is_named(mode: str) -> None:
    rig = Rig().go(mode)
    rig.arm.read_error = lost(3)
    rig.ticks(2)
    assert rig.mode == "fault"
    fault = rig.faults["servo_lost"]
    assert (fault.finding.joint, fault.active) == ("wrist_flex", True)
    rig.ticks(10)
    still = rig.arm.goals[-1]
    rig.ticks(30)
    assert (rig.arm.goals[-1] == still).all()
    assert rig.arm.torque
    assert rig.records[-1]["state_age_ticks"] == 42
    rig.check_smooth()


def test_fault_stays_until_a_person_clears_it_after_its_cause_is_gone() -> None:
    rig = Rig().go("ready")
    rig.arm.read_error = lost(0)
    rig.ticks(5)
    answer = rig.ask(op="clear_faults")
    assert (answer["ok"], answer["code"]) == (False, "fault_active")
    assert "shoulder_pan" in answer["message"]
    assert rig.ask(op="start")["code"] == "fault_latched"
    rig.arm.read_error = None
    rig.ticks(60)
    assert rig.mode == "fault"
    assert not rig.faults["servo_lost"].active
    assert rig.ask(op="clear_faults") == {"ok": True}
    assert rig.mode == "hold"
    rig.ticks(60)
    assert rig.mode == "hold"  # and does not move by itself
    assert rig.ask(op="start") == {"ok": True}
    rig.until("ready")


def test_bus_error_without_a_joint_is_a_fault_too() -> None:
    rig = Rig().go("running")
    rig.arm.read_error = BusError("garbage")
    rig.ticks(2)
    assert "bus_error" in rig.faults


def test_writes_that_fail_count_as_failed_ticks() -> None:
    rig = Rig().go("running")
    rig.arm.write_error = lost(1)
    rig.ticks(2)
    assert rig.mode == "running" or "servo_lost" in rig.faults
    assert rig.records[-1]["bus_errors"] == 2


def test_lost_port_is_a_fault_at_once_and_comes_back_without_motion() -> None:
    spare: list[ScriptedArm] = []

    def reopen() -> ScriptedArm:
        if not spare:
            raise PortError("still gone")
        return spare[0]

    rig = Rig(reopen=reopen).go("running")
    rig.arm.read_error = rig.arm.write_error = PortError("unplugged")
    rig.ticks(1)
    assert rig.mode == "fault"
    assert "port_lost" in rig.faults
    rig.ticks(30)
    spare.append(ScriptedArm(rig.clock, torque=True))
    rig.ticks(70)
    assert rig.mode == "fault"
    assert not rig.faults["port_lost"].active
    assert rig.ask(op="clear_faults") == {"ok": True}
    rig.ticks(30)
    assert rig.mode == "hold"
    assert all((goal == spare[0].goals[0]).all() for goal in spare[0].goals)


def test_rebooted_servo_is_not_energised_again_by_itself() -> None:
    rig = Rig().go("ready")
    rig.arm.limp = True
    rig.ticks(20)
    assert rig.mode == "fault"
    assert rig.faults["servo_rebooted"].finding.joint == "elbow_flex"
    count = len(rig.arm.goals)
    rig.ticks(30)
    assert len(rig.arm.goals) == count
    assert rig.arm.calls == ["enable"]
    assert rig.ask(op="clear_faults") == {"ok": True}
    assert rig.mode == "off"
    assert rig.ask(op="start") == {"ok": True}
    rig.until("ready")
    assert rig.arm.calls == ["enable", "enable"]


def test_overheating_parks_slowly_then_releases_and_stays_a_fault() -> None:
    rig = Rig().go("running")
    rig.arm.temperature_c[2] = 66.0
    rig.until("parking", at_most=60)
    rig.until("fault")
    assert not rig.arm.torque
    assert rig.arm.goals[-1] == pytest.approx(PARK, abs=0.01)
    assert rig.ask(op="clear_faults")["code"] == "fault_active"
    rig.arm.temperature_c[2] = 40.0
    rig.ticks(60)
    assert rig.ask(op="clear_faults") == {"ok": True}
    assert rig.mode == "off"


def test_warm_arm_goes_slowly() -> None:
    rig = Rig().go("running")
    rig.arm.temperature_c[2] = 61.0
    rig.ticks(40)
    assert rig.mode == "running"
    assert rig.faults["warm"].finding.severity.label == "slow"
    assert rig.controller.gate.speed_scale < 0.5


@pytest.mark.parametrize(
    ("joint", "bit", "code"), [(1, 32, "overload"), (2, 8, "over_current"), (0, 2, "encoder_error")]
)
def test_servo_that_reports_a_fault_holds_the_arm(joint: int, bit: int, code: str) -> None:
    rig = Rig().go("running")
    rig.arm.status[joint] = bit
    rig.ticks(6)
    assert rig.mode == "fault"
    assert rig.faults[code].finding.joint == JOINTS[joint]


def test_blocked_joint_is_found_and_stops_pushing() -> None:
    rig = Rig().go("running")
    held = float(rig.arm.position[0])
    rig.arm.stuck[0] = held
    assert rig.wave is not None
    rig.wave.answer = lambda target: np.array([held + 60.0, *READY[1:]])
    rig.ticks(90)
    assert rig.mode == "fault"
    assert rig.faults["following_error"].finding.joint == "shoulder_pan"
    assert rig.arm.goals[-1][0] == pytest.approx(held)


def test_more_severe_fault_wins() -> None:
    rig = Rig().go("ready")
    rig.arm.status[1] = 32
    rig.ticks(10)
    assert rig.mode == "fault"
    rig.arm.temperature_c[3] = 70.0
    rig.until("parking", at_most=60)
    rig.arm.status[2] = 32  # a lesser one changes nothing
    rig.ticks(10)
    assert rig.mode == "parking"


def test_servo_that_is_missing_at_start_up_is_named() -> None:
    rig = Rig()
    rig.arm.read_error = lost(5)
    rig.controller.adopt()
    assert rig.faults["servo_lost"].finding.joint == "gripper"
    rig.ticks(3)
    assert rig.mode == "fault"
    assert rig.records[-1]["state_age_ticks"] == -1
    rig.arm.read_error = None
    rig.ticks(2)
    assert rig.ask(op="clear_faults") == {"ok": True}
    assert rig.ask(op="start") == {"ok": True}
