"""A latched overload is released where the servo lets it be, and told of where it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from served_bus import ServedBus

from robot.calibration_file import Calibration
from robot.errors import BusError, OverloadError, ServoError
from robot.joints import GRIPPER, JOINTS
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
    write = served.bank.write_slot

    def spy(slot: int, address: int, data: bytes) -> None:
        written.append((slot + 1, address, data))
        write(slot, address, data)

    served.bank.write_slot = spy  # type: ignore[method-assign]
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
    served.bank.error_byte_slot = lambda slot: int(StatusBit.OVERLOAD)  # type: ignore[method-assign]
    with pytest.raises(OverloadError, match=r"shoulder_lift.*power-cycle the arm") as caught:
        arm.relieve(JOINTS[LIFT])
    assert caught.value.joint == JOINTS[LIFT]
    assert arm.torque_enabled()


def test_servo_that_is_deaf_needs_its_power_cycled(arm: ServoArm, served: ServedBus) -> None:
    arm.bus.margin_s = 0.01
    served.faults.muted.add(2)
    with pytest.raises(OverloadError, match=r"shoulder_lift.*power-cycle the arm"):
        arm.relieve(JOINTS[LIFT])


def test_over_current_is_released_where_the_joint_has_fallen_to(arm: ServoArm, served: ServedBus) -> None:
    served.bank.overloaded[LIFT] = False
    served.bank._protection.over_current[LIFT] = True
    served.bank.position_rad[LIFT] = 0.1  # nearer than a joint sags: but it holds nothing
    place = arm.relieve(JOINTS[LIFT])
    state = arm.read()
    assert state.status[LIFT] == 0
    assert place == pytest.approx(state.position[LIFT])


def test_servo_that_keeps_its_over_current_needs_its_power_cycled(arm: ServoArm, served: ServedBus) -> None:
    served.bank.error_byte_slot = lambda slot: int(StatusBit.CURRENT)  # type: ignore[method-assign]
    with pytest.raises(OverloadError, match="shoulder_lift"):
        arm.relieve(JOINTS[LIFT])


def test_gripper_keeps_what_it_squeezes(arm: ServoArm, served: ServedBus) -> None:
    grip = present_ticks(served, 6) - 600
    served.bank.write(6, GOAL.address, grip.to_bytes(2, "little"))
    served.bank.overloaded[GRIPPER] = True
    place = arm.relieve("gripper")
    assert int.from_bytes(served.bank.read(6, GOAL.address, 2), "little") == max(
        grip, arm.calibration.range_min[GRIPPER]
    )
    assert place < arm.read().position[GRIPPER] - 5.0
    assert arm.read().status[GRIPPER] == 0


def present_ticks(served: ServedBus, servo_id: int) -> int:
    return int.from_bytes(served.bank.read(servo_id, PRESENT.address, 2), "little")


def test_lost_answers_while_the_torque_is_cycled_leave_the_joint_holding(
    arm: ServoArm, served: ServedBus
) -> None:
    arm.bus.margin_s = arm.bus.patience_s = 0.02
    write = served.bank.write_slot

    def spy(slot: int, address: int, data: bytes) -> None:
        write(slot, address, data)
        if address == TORQUE.address and data == b"\x00":
            served.faults.lose[2] = 100

    served.bank.write_slot = spy  # type: ignore[method-assign]
    with pytest.raises(ServoError, match="shoulder_lift"):
        arm.relieve(JOINTS[LIFT])
    served.faults.lose.clear()
    assert arm.torque_enabled()


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


@pytest.mark.parametrize("bit", [StatusBit.CURRENT, StatusBit.CURRENT | StatusBit.OVERLOAD])
def test_joint_that_cut_itself_off_can_be_cleared(bit: int) -> None:
    rig = Rig().go("running")
    rig.arm.status[LIFT] = bit
    rig.ticks(10)
    assert "over_current" in rig.faults
    rig.arm.relieve = reliever(rig)  # type: ignore[attr-defined]
    assert rig.ask(op="clear_faults") == {"ok": True}
    rig.ticks(60)
    assert rig.mode == "hold"


def reliever(rig: Rig) -> Callable[[str], float]:
    def relieve(joint: str) -> float:
        rig.arm.calls.append(joint)
        i = JOINTS.index(joint)
        rig.arm.status[i] = 0
        return float(rig.arm.position[i]) + 2.0

    return relieve


def squeezing() -> Rig:
    """A run whose gripper closes on something and is strained by it."""
    rig = Rig().go("running")
    assert rig.wave is not None
    rig.arm.stuck[GRIPPER] = float(rig.arm.position[GRIPPER])
    rig.wave.answer = lambda target: np.append(target[:5], 0.0)  # closes on something
    rig.ticks(30)
    rig.arm.status[GRIPPER] = StatusBit.OVERLOAD
    rig.ticks(10)
    return rig


def test_gripper_that_holds_something_is_left_alone_when_another_joint_is_cleared() -> None:
    rig = squeezing()
    assert rig.mode == "running"
    assert "gripper_strained" in rig.faults
    squeeze = rig.arm.goals[-1][GRIPPER]
    rig.arm.status[LIFT] = StatusBit.OVERLOAD
    rig.ticks(10)
    assert rig.mode == "fault"
    rig.arm.relieve = reliever(rig)  # type: ignore[attr-defined]
    assert rig.ask(op="clear_faults") == {"ok": True}
    assert JOINTS[LIFT] in rig.arm.calls
    assert "gripper" not in rig.arm.calls
    rig.ticks(2)
    assert rig.arm.goals[-1][GRIPPER] <= squeeze


def test_gripper_that_was_strained_by_a_grasp_has_its_force_back_for_the_next_run() -> None:
    rig = squeezing()
    assert "gripper_strained" in rig.faults
    assert rig.ask(op="end_run", run_id=1) == {"ok": True}
    rig.until("ready")  # opens as far again
    rig.arm.stuck.clear()
    rig.arm.relieve = reliever(rig)  # type: ignore[attr-defined]
    assert rig.run(2) == {"ok": True}
    assert rig.arm.calls[-1] == "gripper"
    rig.ticks(2)
    assert (rig.mode, rig.faults) == ("running", {})


def test_joint_that_was_relieved_before_another_refused_is_held_where_it_is() -> None:
    rig = Rig().go("running")
    rig.arm.status[[LIFT, LIFT + 1]] = StatusBit.OVERLOAD
    rig.ticks(10)
    place = float(rig.arm.position[LIFT]) + 2.0

    def relieve(joint: str) -> float:
        if joint != JOINTS[LIFT]:
            raise BusError("lost")
        return place

    rig.arm.relieve = relieve  # type: ignore[attr-defined]
    assert not rig.ask(op="clear_faults")["ok"]
    rig.ticks(1)
    assert rig.arm.goals[-1][LIFT] == pytest.approx(place)


def test_grasp_does_not_keep_another_joints_power_cycle_from_being_seen() -> None:
    rig = overloaded()

    def relieve(joint: str) -> float:
        raise OverloadError("power-cycle the arm", servo_id=2, joint=joint)

    rig.arm.relieve = relieve  # type: ignore[attr-defined]
    rig.ask(op="clear_faults")
    assert rig.faults["overload_latched"].active
    rig.arm.status[LIFT], rig.arm.status[GRIPPER] = 0, StatusBit.OVERLOAD
    rig.ticks(2)
    assert not rig.faults["overload_latched"].active
