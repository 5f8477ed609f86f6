"""An arm that is on its way while servos, or all of them, do not answer."""

from __future__ import annotations

import pytest

from robot.errors import BusError, PortError
from robot.reactions import PARK_AGAIN_S

from controller_rig import CONFIG, DT_S, PARK, Rig, lost  # isort: skip
from scripted_arm import ScriptedArm  # isort: skip

MINUTE = round(60.0 / DT_S)


def unpluggable() -> tuple[Rig, list[ScriptedArm]]:
    """A rig that stands at ready, and where the arm goes that is plugged in."""
    spare: list[ScriptedArm] = []

    def reopen() -> ScriptedArm:
        if not spare:
            raise OSError(5, "Input/output error")
        return spare[0]

    return Rig(reopen=reopen).go("ready"), spare


def test_unplugged_arm_is_not_parked_blindly_nor_let_go_of_when_it_is_back() -> None:
    rig, spare = unpluggable()
    rig.arm.read_error = rig.arm.write_error = PortError("unplugged")
    rig.ticks(3)
    answer = rig.ask(op="stop", level="park")
    assert (answer["ok"], answer["code"]) == (False, "bus_error")
    rig.ticks(MINUTE)
    spare.append(ScriptedArm(rig.clock, torque=True))
    rig.ticks(MINUTE)
    assert (spare[0].torque, spare[0].calls) == (True, ["enable"])
    assert all((goal == spare[0].goals[0]).all() for goal in spare[0].goals)
    assert rig.mode == "fault"


@pytest.mark.parametrize("hot", [False, True])
def test_arm_that_is_unplugged_on_its_way_to_the_park_pose_stays_up(hot: bool) -> None:
    rig, spare = unpluggable()
    if hot:
        rig.arm.temperature_c[2] = 66.0
    else:
        assert rig.ask(op="stop", level="park") == {"ok": True}
    rig.until("parking", at_most=60)
    rig.ticks(10)
    rig.arm.read_error = rig.arm.write_error = PortError("unplugged")
    rig.ticks(MINUTE)
    spare.append(ScriptedArm(rig.clock, torque=True))
    for _ in range(round(10.0 / DT_S)):
        if spare[0].calls:
            break
        rig.ticks(1)
    assert spare[0].calls == ["enable"]
    assert spare[0].torque


def test_adapter_that_hangs_stops_the_way_within_a_tenth_of_a_second() -> None:
    rig = Rig().go("parking")
    rig.arm.read_error = BusError("nothing comes")
    rig.ticks(10)
    rig.until("fault", at_most=60)
    stood = rig.arm.goals[-1]
    rig.ticks(MINUTE)
    assert rig.arm.goals[-1] == pytest.approx(stood)
    assert rig.arm.torque
    rig.arm.read_error = None
    rig.ticks(30)
    assert rig.arm.goals[-1] == pytest.approx(stood)


def test_joint_that_was_silent_while_the_arm_parked_does_not_leap_when_it_answers_again() -> None:
    rig = Rig().go("ready")
    rig.arm.read_error = lost(2)
    rig.until("fault", at_most=60)
    assert rig.ask(op="stop", level="park") == {"ok": True}
    rig.ticks(60)
    assert rig.mode == "parking"
    stood, commanded = rig.arm.position[2], rig.arm.goals[-1][2]
    assert abs(commanded - stood) > 10.0
    rig.arm.read_error = None
    rig.ticks(1)
    assert rig.arm.goals[-1][2] == pytest.approx(stood, abs=1.0)
    rig.ticks(60)
    assert rig.mode == "fault"
    assert rig.arm.position[2] == pytest.approx(stood, abs=1.0)
    assert rig.ask(op="stop", level="park") == {"ok": True}
    rig.until("fault")
    assert rig.arm.goals[-1] == pytest.approx(PARK, abs=0.01)
    assert not rig.arm.torque


def test_joint_that_was_silent_while_the_arm_stood_keeps_its_goal() -> None:
    rig = Rig().go("ready")
    rig.arm.stuck[5] = 30.0  # the gripper squeezes something
    rig.ticks(5)
    goal = rig.arm.goals[-1].copy()
    rig.arm.read_error = lost(5)
    rig.until("fault", at_most=60)
    rig.arm.read_error = None
    rig.ticks(30)
    assert rig.arm.goals[-1] == pytest.approx(goal)


def test_another_fault_does_not_bring_a_park_back_that_a_person_has_just_stopped() -> None:
    rig = Rig().go("running")
    rig.arm.temperature_c[2] = 66.0
    rig.until("parking", at_most=60)
    assert rig.ask(op="stop", level="hold") == {"ok": True}
    rig.ticks(30)
    rig.arm.voltage_v[:] = 3.0
    rig.ticks(60)
    assert "voltage_low" in rig.faults
    assert rig.mode == "fault"
    rig.until("parking", at_most=round((PARK_AGAIN_S + 1.0) * CONFIG.control_hz))


def test_a_temperature_that_flickers_does_not_bring_it_back_either() -> None:
    rig = Rig().go("running")
    rig.arm.temperature_c[2] = 66.0
    rig.until("parking", at_most=60)
    assert rig.ask(op="stop", level="hold") == {"ok": True}
    rig.arm.temperature_c[2] = 64.0
    rig.ticks(2)
    rig.arm.temperature_c[2] = 66.0
    for _ in range(round(4.0 / DT_S)):
        rig.ticks(1)
        assert rig.mode == "fault"
