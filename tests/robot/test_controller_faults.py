"""What the control loop does when the arm fails."""

from __future__ import annotations

import numpy as np
import pytest

from robot.errors import BusError, PortError, ServoError
from robot.joints import JOINTS
from robot.seams import FloatArray

from controller_rig import DT_S, PARK, READY, Rig, lost  # isort: skip
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
    assert rig.records[-1]["bus_errors"] in (5, 6)  # a question for torque may fall into one of these ticks


def test_goals_stand_still_from_the_first_tick_in_which_a_joint_is_not_read() -> None:
    rig = Rig().go("running")
    before = rig.arm.goals[-1].copy()
    rig.arm.read_error = lost(3)
    rig.ticks(30)
    assert rig.mode == "fault"
    assert all((goal == before).all() for goal in rig.arm.goals[-30:])


def test_how_long_a_joint_may_be_silent_does_not_depend_on_the_rate() -> None:
    rig = Rig().go("ready")
    rig.arm.read_error = lost(3)
    for _ in range(2):  # as at 100 Hz
        rig.clock.time_s += 0.010
        rig.controller.tick()
    assert rig.mode == "ready"
    rig.clock.time_s += 0.010
    rig.controller.tick()
    assert rig.mode == "fault"


def test_silence_of_all_servos_is_waited_out_standing_still_and_then_a_fault_of_the_bus() -> None:
    rig = Rig().go("running")
    silent = ServoError("nobody answers", servo_id=1, joint="shoulder_pan")
    silent.missing = JOINTS
    rig.arm.read_error = silent
    before = rig.arm.goals[-1].copy()
    rig.ticks(14)  # 233 ms
    assert (rig.mode, rig.faults) == ("running", {})
    assert all((goal == before).all() for goal in rig.arm.goals[-14:])
    rig.arm.read_error = None
    rig.ticks(30)
    assert rig.mode == "running"
    assert (rig.arm.goals[-1] != before).any()
    rig.arm.read_error = silent
    rig.ticks(17)
    assert rig.mode == "fault"
    assert rig.faults["bus_error"].finding.joint is None


def test_after_a_silence_of_all_those_that_answer_late_are_not_lost_at_once() -> None:
    rig = Rig().go("running")
    silent = ServoError("nobody answers", servo_id=1, joint="shoulder_pan")
    silent.missing = JOINTS
    rig.arm.read_error = silent
    rig.ticks(5)
    rig.arm.read_error = lost(3)
    rig.ticks(1)
    assert (rig.mode, rig.faults) == ("running", {})
    rig.ticks(1)
    assert rig.mode == "fault"
    assert rig.faults["servo_lost"].finding.joint == "wrist_flex"
    rig = Rig().go("running")
    for k in range(17):  # a bus that never has all of them is a fault however that changes
        rig.arm.read_error = lost(3) if k % 2 else silent
        rig.ticks(1)
    assert rig.mode == "fault"


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
    assert rig.mode == "running"  # it is acted on in the next tick
    rig.ticks(1)
    assert rig.mode == "fault"
    assert rig.faults["servo_lost"].finding.joint == JOINTS[1]
    assert rig.faults["servo_lost"].active
    assert rig.records[-1]["bus_errors"] == 3
    rig.arm.write_error = None
    rig.ticks(2)
    assert not rig.faults["servo_lost"].active


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
    rig.arm.status[2] = 2  # a lesser one changes nothing
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


# -- some servos answer, others do not ---------------------------------------------------------------------


def partly(rig: Rig, joint: int) -> ServoError:
    """The error of a read in which one joint was silent: it carries what the others say now."""
    error, before = lost(joint), rig.arm.read_error
    rig.arm.read_error = None
    seen = rig.arm.read()
    rig.arm.read_error = before
    for name in ("position", "temperature_c", "voltage_v", "status"):
        getattr(seen, name)[joint] = 0
    error.seen, error.missing = seen, (JOINTS[joint],)
    return error


def test_joints_that_answer_are_watched_while_another_is_silent() -> None:
    rig = Rig().go("ready")
    rig.arm.temperature_c[1] = 90.0
    rig.arm.read_error = partly(rig, 5)
    rig.until("parking", at_most=60)
    assert rig.faults["servo_lost"].finding.joint == "gripper"
    assert [f.finding.joint for f in rig.controller.faults if f.finding.code == "overheated"] == [JOINTS[1]]
    assert "voltage_low" not in rig.faults  # the silent one is not taken for one with 0 V
    assert rig.records[-1]["temperature_c"][1] == 90.0
    assert rig.records[-1]["temperature_c"][5] == 30.0
    assert rig.records[-1]["state_age_ticks"] > 0


def test_servo_that_was_reset_while_it_was_silent_gets_no_goal() -> None:
    for silent_ticks in range(20, 40):
        rig = Rig().go("ready")
        rig.arm.read_error = lost(2)
        rig.ticks(silent_ticks)
        rig.arm.read_error = None
        rig.arm.limp = True
        count = len(rig.arm.goals)
        rig.ticks(30)
        assert len(rig.arm.goals) == count
        assert "servo_rebooted" in rig.faults


def test_lost_torque_is_found_however_many_ticks_are_skipped() -> None:
    for phase in range(3):
        rig = Rig().go("ready")
        rig.arm.limp = True
        tick = rig.controller.tick_index + phase
        for _ in range(10):
            tick += 3
            rig.clock.time_s += 3 * DT_S
            rig.controller.tick(tick)
        assert "servo_rebooted" in rig.faults


def test_torque_that_cannot_be_asked_for_is_a_fault() -> None:
    rig = Rig().go("running")

    def unanswered() -> tuple[str, ...]:
        raise lost(1)

    rig.arm.limp_joints = unanswered  # type: ignore[method-assign]
    rig.ticks(20)
    assert rig.mode == "fault"
    assert rig.faults["servo_lost"].active


# -- sources that break ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [RuntimeError, AttributeError, StopIteration, OSError])
def test_whatever_a_source_raises_ends_the_run_and_not_the_loop(kind: type[Exception]) -> None:
    rig = Rig().go("running")
    assert rig.wave is not None

    def fail(target: FloatArray) -> FloatArray:
        raise kind("x" * 100_000)

    rig.wave.answer = fail
    rig.ticks(2)
    assert rig.mode == "fault"
    assert len(rig.faults["source_failed"].finding.message) < 500
    rig.check_smooth()


def test_source_that_fails_to_close_does_not_keep_the_arm_from_letting_go() -> None:
    rig = Rig().go("running")
    assert rig.wave is not None
    order: list[str] = []
    release = rig.arm.release

    def close() -> None:
        order.append("close")
        raise OSError("socket")

    def spied() -> None:
        order.append("release")
        release()

    rig.wave.close, rig.arm.release = close, spied  # type: ignore[method-assign]
    assert rig.ask(op="stop", level="release") == {"ok": True}
    assert order == ["release", "close"]
    assert not rig.arm.torque
    rig.ticks(2)
    assert "source_failed" in rig.faults


def test_source_that_cannot_say_whether_it_is_done_is_a_fault() -> None:
    rig = Rig().go("running")

    class Broken:
        def target(self, tick: int, state: object) -> FloatArray:
            return READY

        @property
        def done(self) -> bool:
            raise RuntimeError("x")

    run = rig.controller.modes._runs._run
    assert run is not None
    run.source = Broken()
    rig.ticks(2)
    assert "source_failed" in rig.faults


def test_blocked_joint_does_not_yield_to_one_wrong_reading() -> None:
    rig = Rig().go("running")
    held = float(rig.arm.position[0])
    rig.arm.stuck[0] = held
    assert rig.wave is not None
    rig.wave.answer = lambda target: np.array([held + 60.0, *READY[1:]])
    while rig.controller.gate.position[0] < held + 59.0:
        rig.ticks(1)
    rig.arm.status[0] = 32
    rig.ticks(1)
    rig.arm.stuck[0] = -100.0  # in the very tick of the fault
    rig.ticks(1)
    assert "overload" in rig.faults
    assert rig.arm.goals[-1][0] == pytest.approx(held)
