"""What the control loop does with an arm that has torque without being driven, or should have none."""

from __future__ import annotations

import pytest

from robot.errors import AlarmError, OutsideError, PortError
from robot.joints import JOINTS
from robot.seams import FloatArray

from controller_rig import PARK, Rig, lost  # isort: skip
from scripted_arm import ScriptedArm  # isort: skip


def test_stop_holds_up_a_park_that_a_fault_asks_for_but_does_not_cancel_it() -> None:
    rig = Rig().go("running")
    rig.arm.temperature_c[2] = 66.0
    rig.until("parking", at_most=60)
    for _ in range(3):
        assert rig.ask(op="stop", level="hold") == {"ok": True}
        rig.ticks(280)
        assert rig.mode == "fault"
        assert rig.arm.torque
    rig.until("parking", at_most=60)
    rig.until("fault")
    assert not rig.arm.torque
    rig.check_smooth()


def test_stop_holds_for_good_once_the_cause_of_the_park_is_gone() -> None:
    rig = Rig().go("running")
    rig.arm.temperature_c[2] = 66.0
    rig.until("parking", at_most=60)
    assert rig.ask(op="stop", level="hold") == {"ok": True}
    rig.arm.temperature_c[2] = 50.0
    rig.ticks(600)
    assert rig.mode == "fault"
    assert rig.arm.torque


def test_arm_that_was_energised_halfway_can_be_parked() -> None:
    rig = Rig()
    rig.ticks(1)
    whole = rig.arm.enable

    def half() -> FloatArray:
        rig.arm.torque = True
        raise lost(2)

    rig.arm.enable = half  # type: ignore[method-assign]
    assert rig.ask(op="start")["code"] == "bus_error"
    rig.ticks(30)
    assert rig.mode == "off"
    answer = rig.ask(op="stop", level="park")
    assert (answer["ok"], answer["code"]) == (False, "bus_error")
    rig.arm.enable = whole  # type: ignore[method-assign]
    rig.ticks(30)
    assert rig.ask(op="stop", level="park") == {"ok": True}
    rig.until("fault")
    assert not rig.arm.torque
    assert rig.arm.goals[-1] == pytest.approx(PARK, abs=0.01)


def test_limp_arm_is_not_energised_by_a_park() -> None:
    rig = Rig()
    rig.arm.enable_error = lost(2)
    rig.ask(op="start")
    assert rig.ask(op="stop", level="park") == {"ok": True}
    rig.ticks(30)
    assert rig.arm.calls == ["enable"]


def test_hand_may_move_the_one_joint_that_is_limp_beside_others_that_hold() -> None:
    rig = Rig().go("ready")
    rig.arm.limp = True  # the elbow
    rig.ticks(20)
    for place in (60.0, -60.0, 60.0, -60.0):
        rig.arm.stuck[2] = place
        rig.ticks(1)
        assert rig.records[-1]["position"][2] == place
    for place in (60.0, -60.0, 60.0, -60.0):
        rig.arm.stuck[0] = place  # the pan holds: no hand moves it
        rig.ticks(1)
    assert [f.finding.joint for f in rig.controller.faults if f.finding.code == "encoder_jump"] == [JOINTS[0]]


def test_servos_that_hold_beside_one_that_was_reset_park_when_they_overheat() -> None:
    rig = Rig().go("ready")
    rig.arm.limp = True
    rig.ticks(20)
    assert rig.mode == "fault"
    rig.arm.temperature_c[1] = 80.0
    rig.ticks(280)
    assert rig.arm.calls == ["enable"]  # not at once: a supply that breaks down must not be tried in a loop
    rig.until("parking", at_most=100)
    rig.until("fault")
    assert not rig.arm.torque


def test_arm_that_holds_in_part_at_start_up_is_a_fault_and_gets_no_goals() -> None:
    rig = Rig()
    rig.arm.torque, rig.arm.limp = True, True
    rig.controller.adopt()
    rig.ticks(30)
    assert rig.faults["servo_rebooted"].finding.joint == "elbow_flex"
    assert rig.arm.goals == []
    assert rig.ask(op="stop", level="release") == {"ok": True}
    assert not rig.arm.torque


def test_release_that_fails_says_so_and_is_tried_until_it_is_verified() -> None:
    rig = Rig().go("ready")
    plain = rig.arm.release

    def refused() -> None:
        raise lost(2)

    rig.arm.release = refused  # type: ignore[method-assign]
    answer = rig.ask(op="stop", level="release")
    assert (answer["ok"], answer["code"]) == (False, "bus_error")
    count = len(rig.arm.goals)
    rig.ticks(30)
    assert rig.arm.torque
    assert rig.mode == "fault"
    assert rig.faults["servo_lost"].active
    assert rig.faults["servo_lost"].id == 1  # one fault, not one for each trial
    rig.arm.release = plain  # type: ignore[method-assign]
    rig.ticks(1)
    assert not rig.arm.torque
    assert len(rig.arm.goals) == count
    rig.ticks(30)
    assert rig.arm.calls.count("release") == 1
    assert not rig.faults["servo_lost"].active


def test_hold_ends_a_release_that_is_still_tried() -> None:
    rig = Rig().go("ready")
    plain = rig.arm.release

    def refused() -> None:
        raise lost(2)

    rig.arm.release = refused  # type: ignore[method-assign]
    assert not rig.ask(op="stop", level="release")["ok"]
    assert rig.ask(op="stop", level="hold") == {"ok": True}
    rig.arm.release = plain  # type: ignore[method-assign]
    rig.ticks(60)
    assert rig.arm.torque


def test_release_without_a_port_is_carried_out_when_the_port_is_back() -> None:
    spare: list[ScriptedArm] = []

    def reopen() -> ScriptedArm:
        if not spare:
            raise OSError(5, "Input/output error")
        return spare[0]

    rig = Rig(reopen=reopen).go("ready")
    rig.arm.read_error = rig.arm.write_error = PortError("unplugged")
    rig.ticks(3)
    assert not rig.ask(op="stop", level="release")["ok"]
    spare.append(ScriptedArm(rig.clock, torque=True))
    rig.ticks(120)
    assert not spare[0].torque
    assert spare[0].goals == []
    assert spare[0].calls == ["release"]


def test_alarm_at_start_up_is_named_as_one() -> None:
    rig = Rig(torque=True)
    rig.arm.status[2] = 1
    rig.arm.enable_error = AlarmError("8.4 V", servo_id=3, joint="elbow_flex")
    rig.controller.adopt()
    rig.ticks(2)
    assert rig.faults["servo_alarm"].active
    assert "supply" in rig.faults["servo_alarm"].finding.remedy
    assert "servo_lost" not in rig.faults
    rig.arm.status[2] = 0
    rig.ticks(2)
    assert not rig.faults["servo_alarm"].active


def test_a_limp_joint_outside_its_range_is_named_where_it_keeps_the_arm_from_parking() -> None:
    rig = Rig(torque=True)
    rig.arm.limp = True  # the elbow alone
    rig.ticks(30)
    rig.arm.enable_error = OutsideError("12 degrees", servo_id=3, joint="elbow_flex")
    assert rig.ask(op="stop", level="park")["code"] == "bus_error"
    assert rig.faults["outside_range"].active
    assert "by hand" in rig.faults["outside_range"].finding.remedy
    assert "servo_lost" not in rig.faults
    rig.ticks(2)
    assert not rig.faults["outside_range"].active
