"""A lost port is opened again with growing pauses, beside the loop, and only if the same arm is behind it."""

from __future__ import annotations

import itertools
import threading

import pytest

from robot.errors import CalibrationError, PortError, ServoError
from robot.link import LONGEST_REOPEN_S, REOPEN_S
from robot.reopening import InBackground

from controller_rig import Rig  # isort: skip
from scripted_arm import HandClock, ScriptedArm  # isort: skip


def unplugged(reopen: object) -> Rig:
    rig = Rig(reopen=reopen).go("ready")
    rig.arm.read_error = rig.arm.write_error = PortError("unplugged")
    return rig


def test_pauses_between_trials_double() -> None:
    tried: list[float] = []

    def reopen() -> ScriptedArm:
        tried.append(rig.clock.now_s())
        raise PortError("still gone")

    rig = unplugged(reopen)
    rig.ticks(1800)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert pauses[:4] == pytest.approx([REOPEN_S, 2 * REOPEN_S, 4 * REOPEN_S, 8 * REOPEN_S], abs=0.02)
    assert max(pauses) == pytest.approx(LONGEST_REOPEN_S, abs=0.02)
    assert "port_lost" in rig.faults


def test_another_arm_is_refused_and_told_of_until_the_right_one_is_back() -> None:
    behind: list[ScriptedArm] = []

    def reopen() -> ScriptedArm:
        if not behind:
            raise CalibrationError("the servos do not hold follower.json")
        return behind[0]

    rig = unplugged(reopen)
    rig.ticks(60)
    fault = rig.faults["wrong_arm"]
    assert fault.active
    assert "follower.json" in fault.finding.message
    assert rig.ask(op="clear_faults")["code"] == "fault_active"
    behind.append(ScriptedArm(rig.clock, torque=True))
    rig.ticks(600)
    assert rig.ask(op="clear_faults") == {"ok": True}
    assert rig.mode == "hold"


def test_why_the_arm_does_not_come_back_is_told_as_it_changes() -> None:
    reasons: list[Exception] = [PortError("/dev/arm is in use by pid 77 (other)")]

    def reopen() -> ScriptedArm:
        raise reasons[-1]

    rig = unplugged(reopen)
    rig.ticks(60)
    assert "pid 77" in rig.faults["port_lost"].finding.message
    reasons.append(ServoError("gripper is silent", servo_id=6, joint="gripper"))  # plugged in, supply off
    rig.ticks(600)
    fault = rig.faults["servo_lost"]
    assert (fault.active, fault.finding.joint, fault.finding.message) == (
        True,
        "gripper",
        "gripper is silent",
    )
    assert not rig.faults["port_lost"].active
    assert rig.ask(op="clear_faults")["code"] == "fault_active"
    reasons.append(PortError("no port /dev/arm"))
    rig.ticks(600)
    assert rig.faults["port_lost"].active
    assert rig.faults["port_lost"].finding.message == "no port /dev/arm"
    assert not rig.faults["servo_lost"].active


def test_no_thread_is_started_inside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = ScriptedArm(HandClock())
    reopen = InBackground(lambda: arm)
    monkeypatch.setattr(threading.Thread, "start", None)
    while (found := reopen()) is None:
        pass
    assert found is arm


def test_loop_goes_on_while_the_port_is_opened() -> None:
    may_open, arm = threading.Event(), ScriptedArm(HandClock(), torque=True)

    def open_slowly() -> ScriptedArm:
        assert may_open.wait(10.0)
        return arm

    reopen = InBackground(open_slowly)
    rig = unplugged(reopen)
    arm.clock = rig.clock
    rig.ticks(120)  # while a thread waits
    assert rig.mode == "fault"
    assert len(rig.records) > 120
    may_open.set()
    opening = reopen._opening
    assert opening is not None
    opening.result(10.0)
    rig.ticks(5)
    assert not rig.faults["port_lost"].active
    assert rig.controller._link.arm is arm


def test_failure_in_the_background_is_told_and_tried_again() -> None:
    outcomes = iter([PortError("busy"), None])
    arm = ScriptedArm(HandClock())

    def attempt() -> ScriptedArm:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        return arm

    reopen = InBackground(attempt)

    def result() -> object:
        while (found := reopen()) is None:
            pass
        return found

    with pytest.raises(PortError, match="busy"):
        result()
    assert result() is arm
