"""A park that a fault or the end of the process asks for, and what comes in between."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from robot.errors import BusError, PortError
from robot.reactions import PARK_AGAIN_S
from services.processes.controller import Shutdown

from controller_rig import DT_S, PARK, READY, Rig, lost  # isort: skip

ELBOW = 2


def parking_hot() -> Rig:
    rig = Rig().go("ready")
    rig.arm.temperature_c[3] = 66.0
    rig.until("parking", at_most=60)
    return rig


def nothing_may_move(rig: Rig) -> None:
    rig.controller.gate._room_on_path = lambda velocity: (True, False, False)  # type: ignore[method-assign]


# -- asked for by a fault ----------------------------------------------------------------------------------


def test_fault_whose_cause_is_gone_asks_for_nothing_when_another_one_comes() -> None:
    rig = parking_hot()
    assert rig.ask(op="stop", level="hold") == {"ok": True}
    rig.arm.temperature_c[3] = 40.0
    rig.ticks(60)
    assert not rig.faults["overheated"].active
    rig.arm.read_error = lost(3)
    rig.ticks(3)
    assert rig.faults["servo_lost"].active
    still = rig.arm.goals[-1]
    rig.ticks(400)
    assert rig.mode == "fault"
    assert (rig.arm.goals[-1] == still).all()


def test_stop_before_a_start_does_not_hold_the_next_park_up() -> None:
    rig = Rig().go("ready")
    assert rig.ask(op="stop", level="hold") == {"ok": True}
    assert rig.ask(op="start") == {"ok": True}
    rig.arm.temperature_c[3] = 66.0
    rig.until("parking", at_most=60)


@pytest.mark.parametrize("code", ["following_error", "overload"])
def test_joint_that_is_blocked_on_the_way_to_a_park_is_not_pulled_on(code: str) -> None:
    rig = parking_hot()
    rig.ticks(10)
    held = rig.arm.stuck[ELBOW] = float(rig.arm.position[ELBOW])
    if code == "overload":
        rig.ticks(30)
        rig.arm.status[ELBOW] = 32
    for _ in range(400):
        if code in rig.faults:
            break
        rig.ticks(1)
    assert rig.faults[code].finding.joint == "elbow_flex"
    for _ in range(round(0.9 * PARK_AGAIN_S / DT_S)):
        assert rig.mode == "fault"
        assert rig.arm.goals[-1][ELBOW] == pytest.approx(held)
        rig.ticks(1)
    assert rig.arm.torque
    rig.arm.stuck.clear()
    rig.arm.status[ELBOW] = 0
    rig.until("parking", at_most=60)
    rig.until("fault")
    assert not rig.arm.torque
    assert rig.arm.goals[-1] == pytest.approx(PARK, abs=0.01)


def test_joint_whose_encoder_has_jumped_is_not_taken_for_one_that_is_blocked() -> None:
    rig = parking_hot()
    rig.ticks(10)
    rig.arm.stuck[ELBOW] = -150.0
    rig.until("fault")
    assert set(rig.faults) == {"overheated", "warm", "encoder_jump"}
    assert not rig.arm.torque
    assert rig.arm.goals[-1] == pytest.approx(PARK, abs=0.01)


@pytest.mark.parametrize("cooled", [True, False])
def test_arm_that_does_not_get_to_its_park_pose_lets_go_only_while_the_cause_lasts(cooled: bool) -> None:
    rig = parking_hot()
    nothing_may_move(rig)
    if cooled:
        rig.arm.temperature_c[3] = 40.0
    rig.until("fault", at_most=3000)
    assert rig.faults["overheated"].active != cooled
    assert rig.arm.torque == cooled
    if cooled:
        assert rig.reason.startswith("something in its way (table, its own links, its box) keeps the arm")


# -- asked for by SIGTERM ----------------------------------------------------------------------------------


def ended(rig: Rig) -> Shutdown:
    shutdown = Shutdown()
    assert shutdown.keep_going(rig.controller)
    shutdown.on_signal(signal.SIGTERM, None)
    return shutdown


def ticks_until_the_end(rig: Rig, shutdown: Shutdown, at_most: int = 800) -> int:
    for count in range(at_most):
        if not shutdown.keep_going(rig.controller):
            return count
        rig.ticks(1, beat=False)
    raise AssertionError("no end")


@pytest.mark.parametrize("mode", ["running", "hold", "parking"])
def test_process_that_is_to_end_parks_and_lets_go(mode: str) -> None:
    rig = Rig().go(mode)
    ticks_until_the_end(rig, ended(rig))
    assert rig.mode == "off"
    assert not rig.arm.torque
    assert rig.arm.goals[-1] == pytest.approx(PARK, abs=0.01)
    rig.check_smooth()


@pytest.mark.parametrize("what", ["person", "servo", "second signal"])
def test_park_at_the_end_that_is_stopped_is_not_asked_for_again(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig().go("running")
    shutdown = ended(rig)
    for _ in range(20):
        assert shutdown.keep_going(rig.controller)
        rig.ticks(1)
    if what == "person":
        assert rig.ask(op="stop", level="hold") == {"ok": True}
    elif what == "servo":
        rig.arm.read_error = lost(3)
    else:
        shutdown.on_signal(signal.SIGTERM, None)
    assert ticks_until_the_end(rig, shutdown) < 5
    assert rig.arm.torque
    assert abs(rig.arm.goals[-1] - PARK).max() > 5.0
    assert abs(rig.arm.goals[-1] - READY).max() < 50.0
    said = {
        "person": "stopped (stop)",
        "servo": "stopped (fault: servo_lost)",
        "second signal": "asked again",
    }
    assert any(said[what] in line for line in caplog.messages)


def test_arm_that_only_some_servos_hold_is_not_energised_to_park_it(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig().go("ready")
    rig.arm.limp = True
    rig.until("fault")
    goals = len(rig.arm.goals)
    assert ticks_until_the_end(rig, ended(rig)) == 0
    assert len(rig.arm.goals) == goals
    assert any("what has torque goes on holding" in line for line in caplog.messages)


def test_park_at_the_end_that_the_table_prevents_is_not_tried_for_ever() -> None:
    rig = Rig().go("ready")
    nothing_may_move(rig)
    ticks_until_the_end(rig, ended(rig))
    assert rig.arm.torque


def test_arm_that_cannot_be_parked_does_not_keep_the_process_from_ending(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig().go("ready")

    def refused(*args: Any) -> None:
        raise BusError("no answer")

    monkeypatch.setattr(rig.controller.modes, "stop", refused)
    assert ticks_until_the_end(rig, ended(rig)) == 0
    assert any("no answer" in line for line in caplog.messages)


def test_release_at_the_end_that_is_not_verified_is_tried_on() -> None:
    rig = Rig().go("ready")
    plain, tried = rig.arm.release, []

    def refused() -> None:
        tried.append(rig.clock.now_s())
        if len(tried) < 20:
            raise lost(3)
        plain()

    rig.arm.release = refused  # type: ignore[method-assign]
    ticks_until_the_end(rig, ended(rig))
    assert len(tried) == 20
    assert not rig.arm.torque


def test_release_at_the_end_that_stays_unverified_does_not_keep_the_process_from_ending(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig().go("ready")

    def refused() -> None:
        raise lost(3)

    rig.arm.release = refused  # type: ignore[method-assign]
    ticks_until_the_end(rig, ended(rig), at_most=round(15.0 / DT_S))
    assert any("what has torque goes on holding" in line for line in caplog.messages)


def test_arm_that_is_unplugged_does_not_keep_the_process_from_ending(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig().go("ready")
    rig.arm.read_error = rig.arm.write_error = PortError("unplugged")
    rig.ticks(3)
    assert ticks_until_the_end(rig, ended(rig)) == 0
    assert any("no servo answers" in line for line in caplog.messages)
