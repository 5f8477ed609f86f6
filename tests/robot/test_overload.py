"""A latched overload is released where the servo lets it be, and told of where it does not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from served_bus import ServedBus

from robot.calibration_file import Calibration
from robot.errors import OverloadError
from robot.joints import JOINTS
from robot.registers import REGISTERS, StatusBit
from robot.servo_arm import ServoArm

from controller_rig import Rig  # isort: skip

LIFT = 1
TORQUE, GOAL, PRESENT = (REGISTERS[name] for name in ("torque_enable", "goal_position", "present_position"))


@pytest.fixture
def arm(served: ServedBus, calibration: Calibration) -> Iterator[ServoArm]:
    arm = ServoArm.connect(served.path, calibration, margin_s=0.2)
    arm.enable()
    served.bank.overloaded[LIFT] = True
    yield arm
    arm.close()


def test_torque_of_that_servo_alone_is_cycled_where_it_is(arm: ServoArm, served: ServedBus) -> None:
    served.bank.position_rad[LIFT] = 0.3  # it has sagged
    written: list[tuple[int, int, bytes]] = []
    write = served.bank.write

    def spy(servo_id: int, address: int, data: bytes) -> None:
        written.append((servo_id, address, data))
        write(servo_id, address, data)

    served.bank.write = spy  # type: ignore[method-assign]
    place = arm.relieve(JOINTS[LIFT])
    present = served.bank.read(2, PRESENT.address, 2)
    assert written == [
        (2, GOAL.address, present),
        (2, TORQUE.address, b"\x00"),
        (2, TORQUE.address, b"\x01"),
    ]
    state = arm.read()
    assert place == pytest.approx(state.position[LIFT])
    assert not (state.status & StatusBit.OVERLOAD).any()
    assert arm.torque_enabled()


def test_servo_that_keeps_its_overload_needs_its_power_cycled(arm: ServoArm, served: ServedBus) -> None:
    served.bank.error_byte = lambda servo_id: int(StatusBit.OVERLOAD)  # type: ignore[method-assign]
    with pytest.raises(OverloadError, match=r"shoulder_lift.*power-cycle the arm") as caught:
        arm.relieve(JOINTS[LIFT])
    assert caught.value.joint == JOINTS[LIFT]
    assert arm.torque_enabled()


def test_servo_that_is_deaf_needs_its_power_cycled(arm: ServoArm, served: ServedBus) -> None:
    arm.bus.margin_s = 0.01
    served.faults.muted.add(2)
    with pytest.raises(OverloadError, match=r"shoulder_lift.*power-cycle the arm"):
        arm.relieve(JOINTS[LIFT])


def test_limp_servo_stays_limp(arm: ServoArm, served: ServedBus) -> None:
    arm.release()
    arm.relieve(JOINTS[LIFT])
    assert len(arm.limp_joints()) == 6


# -- through the controller --------------------------------------------------------------------------------


def overloaded() -> Rig:
    rig = Rig().go("running")
    rig.arm.status[LIFT] = StatusBit.OVERLOAD
    rig.ticks(10)
    assert rig.mode == "fault"
    return rig


def test_clearing_gives_the_joint_its_force_back_where_it_is() -> None:
    rig = overloaded()
    place = float(rig.arm.position[LIFT]) + 2.0

    def relieve(joint: str) -> float:
        assert joint == JOINTS[LIFT]
        rig.arm.status[LIFT] = 0
        return place

    rig.arm.relieve = relieve  # type: ignore[attr-defined]
    assert rig.ask(op="clear_faults") == {"ok": True}
    rig.ticks(60)
    assert rig.mode == "hold"  # what it reported before does not come back
    assert rig.arm.goals[-1][LIFT] == pytest.approx(place)
    rig.arm.status[LIFT] = StatusBit.OVERLOAD
    rig.ticks(10)
    assert rig.mode == "fault"  # and a new one does


def test_fault_stays_and_says_so_where_only_a_power_cycle_helps() -> None:
    rig = overloaded()

    def relieve(joint: str) -> float:
        raise OverloadError("power-cycle the arm", servo_id=2, joint=joint)

    rig.arm.relieve = relieve  # type: ignore[attr-defined]
    answer = rig.ask(op="clear_faults")
    assert (answer["ok"], answer["message"]) == (False, "power-cycle the arm")
    rig.ticks(10)
    fault = rig.faults["overload_latched"]
    assert (fault.active, fault.finding.joint) == (True, JOINTS[LIFT])
    assert "supply off and on" in fault.finding.remedy
    rig.arm.status[LIFT] = 0  # its power was cycled
    rig.arm.relieve = lambda joint: 0.0  # type: ignore[attr-defined]
    rig.ticks(400)
    assert not rig.faults["overload_latched"].active
    assert rig.ask(op="clear_faults") == {"ok": True}


def test_arm_that_sags_little_while_its_torque_is_cycled_moves_no_other_joint() -> None:
    rig = overloaded()
    held = rig.arm.goals[-1].copy()

    def relieve(joint: str) -> float:
        rig.arm.status[LIFT] = 0
        return float(held[LIFT]) + 3.0

    rig.arm.relieve = relieve  # type: ignore[attr-defined]
    assert rig.ask(op="clear_faults") == {"ok": True}
    rig.ticks(2)
    assert rig.arm.goals[-1][LIFT] == pytest.approx(held[LIFT] + 3.0)
    others = np.arange(6) != LIFT
    assert (rig.arm.goals[-1][others] == held[others]).all()
