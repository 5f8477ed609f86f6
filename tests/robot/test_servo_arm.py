"""The arm over emulated servos on a pty. There is no physics here: the test moves the joints."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from served_bus import ServedBus

from robot.bus import encode
from robot.calibration_file import Calibration, parse_calibration
from robot.errors import AlarmError, CalibrationError, OutsideError, PortError, ServoError
from robot.registers import REGISTERS, StatusBit
from robot.servo_arm import FULL_SPEED_STEPS_S, ServoArm
from robot.twin.world import twin_calibration

EEPROM_END = 40


@pytest.fixture
def arm(served: ServedBus, calibration: Calibration) -> Iterator[ServoArm]:
    arm = ServoArm.connect(served.path, calibration, margin_s=0.2)
    yield arm
    arm.close()


def put(served: ServedBus, servo_id: int, name: str, value: int) -> None:
    register = REGISTERS[name]
    served.bank.write(servo_id, register.address, encode(register, value))


def get(served: ServedBus, servo_id: int, name: str) -> int:
    register = REGISTERS[name]
    return int.from_bytes(served.bank.read(servo_id, register.address, register.size), "little")


def eeprom(served: ServedBus) -> list[bytes]:
    return [served.bank.read(servo_id, 0, EEPROM_END) for servo_id in served.bank.ids]


def test_read_in_user_units(arm: ServoArm, served: ServedBus) -> None:
    pose = np.deg2rad([10.0, -20.0, 30.0, -40.0, 50.0, 0.0])
    served.bank.position_rad = pose
    served.bank.velocity_rad_s = np.array([0.5, 0, 0, 0, 0, 0])
    served.bank.temperature_c[:] = 31.0
    state = arm.read()
    np.testing.assert_allclose(state.position[:5], [10, -20, 30, -40, 50], atol=0.1)
    assert state.velocity[0] == pytest.approx(np.rad2deg(0.5), abs=5)
    assert (state.temperature_c == 31).all()
    assert state.voltage_v == pytest.approx(np.full(6, 7.4), abs=0.11)
    assert (state.status == 0).all()
    assert state.position.shape == state.load_pct.shape == state.current_ma.shape == (6,)


def test_status_byte_of_each_servo_is_in_the_state(arm: ServoArm, served: ServedBus) -> None:
    served.bank.overloaded[5] = True
    assert arm.read().status.tolist() == [0, 0, 0, 0, 0, StatusBit.OVERLOAD]


def test_write_sends_the_nearest_ticks(arm: ServoArm, served: ServedBus, calibration: Calibration) -> None:
    goal = np.array([12.3, -34.5, 45.6, -56.7, 78.9, 33.3])
    arm.write(goal)
    arm.read()  # a sync write has no answer; the next answer proves that it has been carried out
    sent = np.array([get(served, i, "goal_position") for i in served.bank.ids])
    np.testing.assert_array_equal(sent, calibration.to_ticks(goal))


@pytest.mark.parametrize("bad", [np.full(6, np.nan), np.array([0, 0, 0, 0, 0, np.inf]), np.zeros(5)])
def test_impossible_goals_never_reach_the_wire(arm: ServoArm, served: ServedBus, bad: np.ndarray) -> None:
    before = [get(served, i, "goal_position") for i in served.bank.ids]
    transactions = arm.bus.counters.transactions
    with pytest.raises(ValueError):
        arm.write(bad)
    assert arm.bus.counters.transactions == transactions
    assert [get(served, i, "goal_position") for i in served.bank.ids] == before


def test_enable_takes_the_present_pose_before_torque(arm: ServoArm, served: ServedBus) -> None:
    order: list[tuple[str, int]] = []
    write = served.bank.write_slot

    def spy(slot: int, address: int, data: bytes) -> None:
        for name in ("goal_position", "torque_enable"):
            if address <= REGISTERS[name].address < address + len(data):
                order.append((name, slot + 1))
        write(slot, address, data)

    served.bank.write_slot = spy  # type: ignore[method-assign]
    for servo_id in served.bank.ids:
        put(served, servo_id, "goal_position", 3000)  # stale, from an hour ago
    order.clear()
    pose = arm.enable()
    assert order[:6] == [("goal_position", i) for i in range(1, 7)]
    assert order[6:12] == [("torque_enable", i) for i in range(1, 7)]
    np.testing.assert_allclose(pose, arm.read().position, atol=0.1)
    for servo_id in served.bank.ids:
        assert get(served, servo_id, "goal_position") == get(served, servo_id, "present_position")
        assert get(served, servo_id, "lock") == 1
        assert get(served, servo_id, "acceleration") == 254
        assert get(served, servo_id, "goal_speed") == 0
    assert get(served, 6, "torque_limit") == 500
    assert arm.torque_enabled()


def test_servos_that_hold_keep_their_goal(arm: ServoArm, served: ServedBus) -> None:
    arm.enable()
    present = get(served, 2, "present_position")
    put(served, 2, "goal_position", present + 40)  # it sags below its goal
    put(served, 3, "goal_position", get(served, 3, "present_position") - 400)  # stopped on a long way
    put(served, 6, "goal_position", get(served, 6, "present_position") - 300)  # squeezes something
    squeeze = get(served, 6, "goal_position")
    arm.enable()
    assert get(served, 2, "goal_position") == present + 40
    assert get(served, 3, "goal_position") == get(served, 3, "present_position")
    assert get(served, 6, "goal_position") == max(squeeze, arm.calibration.range_min[5])


def test_speed_is_given_where_zero_means_stay(served: ServedBus, calibration: Calibration) -> None:
    put(served, 3, "phase", 4)
    arm = ServoArm.connect(served.path, calibration, margin_s=0.2)
    arm.enable()
    assert get(served, 3, "goal_speed") == FULL_SPEED_STEPS_S
    assert get(served, 2, "goal_speed") == 0
    arm.close()


def test_release_and_reboot_are_seen(arm: ServoArm, served: ServedBus) -> None:
    arm.enable()
    served.bank.reboot(4)
    assert not arm.torque_enabled()
    arm.enable()
    assert arm.torque_enabled()
    arm.release()
    assert [get(served, i, "torque_enable") for i in served.bank.ids] == [0] * 6


def test_alarm_keeps_torque_off(arm: ServoArm, served: ServedBus) -> None:
    served.bank.temperature_c[2] = 90.0
    with pytest.raises(ServoError, match=r"elbow_flex.*temperature alarm") as caught:
        arm.enable()
    assert caught.value.joint == "elbow_flex"
    assert not arm.torque_enabled()


def test_limp_joint_far_outside_its_range_would_leap_and_gets_no_torque(
    arm: ServoArm, served: ServedBus
) -> None:
    put(served, 3, "goal_position", 1000)
    before = [served.bank.read(servo_id, 0, 87) for servo_id in served.bank.ids]
    served.bank.position_rad[2] = np.deg2rad(96.8 + 12.0)
    what = r"elbow_flex \(servo 3\) on .* stands 12 degrees outside.* by hand.*`so101 calibrate arm`"
    with pytest.raises(OutsideError, match=what) as caught:
        arm.enable()
    assert (caught.value.joint, caught.value.servo_id) == ("elbow_flex", 3)
    assert [served.bank.read(servo_id, 0, 56) for servo_id in served.bank.ids] == [b[:56] for b in before]


def test_joint_a_little_outside_or_with_torque_and_any_gripper_is_energised(
    arm: ServoArm, served: ServedBus
) -> None:
    served.bank.position_rad[2] = np.deg2rad(96.8 + 4.0)
    served.bank.position_rad[5] = np.deg2rad(130.0)
    arm.enable()
    assert get(served, 3, "goal_position") == arm.calibration.range_max[2]
    served.bank.position_rad[2] = np.deg2rad(96.8 + 12.0)  # it holds against something that bends it
    arm.enable()
    assert arm.torque_enabled()


def test_nothing_here_writes_eeprom(arm: ServoArm, served: ServedBus) -> None:
    before = eeprom(served)
    for servo_id in served.bank.ids:
        put(served, servo_id, "lock", 0)  # as a careless tool leaves it
    arm.enable()
    arm.write(np.zeros(6))
    arm.release()
    assert eeprom(served) == before


def test_dead_servo_is_named(arm: ServoArm, served: ServedBus) -> None:
    served.faults.muted.add(4)
    with pytest.raises(ServoError, match="wrist_flex") as caught:
        arm.read()
    assert (caught.value.joint, caught.value.servo_id) == ("wrist_flex", 4)


def test_one_lost_packet_is_nobodys_business(arm: ServoArm, served: ServedBus) -> None:
    served.faults.lose[4] = 1
    arm.read()
    assert arm.bus.counters.retries == 1


def test_other_arms_calibration_is_refused(served: ServedBus) -> None:
    raw = twin_calibration()
    raw["elbow_flex"] = raw["elbow_flex"] | {"homing_offset": 7}
    with pytest.raises(CalibrationError, match="elbow_flex homing_offset is 1512, not 7"):
        ServoArm.connect(served.path, parse_calibration(raw, "other.json"), margin_s=0.2)


def test_failed_connect_gives_the_port_back(served: ServedBus, calibration: Calibration) -> None:
    served.faults.muted.add(1)
    with pytest.raises(ServoError, match="shoulder_pan"):
        ServoArm.connect(served.path, calibration, margin_s=0.2)
    served.faults.muted.clear()
    ServoArm.connect(served.path, calibration, margin_s=0.2).close()


def test_wrong_model_is_refused(served: ServedBus, calibration: Calibration) -> None:
    served.bank.force(2, "model_number", 2825)
    with pytest.raises(ServoError, match=r"shoulder_lift.*model 2825"):
        ServoArm.connect(served.path, calibration, margin_s=0.2)


def test_unplugged(arm: ServoArm, served: ServedBus) -> None:
    served.unplug()
    with pytest.raises(PortError):
        arm.read()


def test_dead_servo_does_not_hide_what_the_others_say(arm: ServoArm, served: ServedBus) -> None:
    served.bank.temperature_c[1] = 66.0
    served.bank.overloaded[2] = True
    served.faults.muted.add(4)
    with pytest.raises(ServoError, match="wrist_flex") as caught:
        arm.read()
    assert caught.value.missing == ("wrist_flex",)
    assert caught.value.seen is not None
    assert caught.value.seen.temperature_c[1] == 66.0
    assert caught.value.seen.status.tolist() == [0, 0, StatusBit.OVERLOAD, 0, 0, 0]


def test_silent_bus_carries_nothing(arm: ServoArm, served: ServedBus) -> None:
    served.faults.muted |= set(served.bank.ids)
    with pytest.raises(ServoError) as caught:
        arm.read()
    assert caught.value.seen is None


def test_limp_servo_is_named_although_another_is_dead(arm: ServoArm, served: ServedBus) -> None:
    arm.enable()
    served.faults.muted.add(4)
    with pytest.raises(ServoError, match="wrist_flex"):
        arm.limp_joints()
    served.bank.reboot(2)
    assert arm.limp_joints() == ("shoulder_lift",)


def test_alarm_does_not_keep_an_arm_that_holds_from_being_taken_over(
    arm: ServoArm, served: ServedBus
) -> None:
    arm.enable()
    served.bank.temperature_c[2] = 90.0
    held = get(served, 3, "goal_position")
    arm.enable()
    assert get(served, 3, "goal_position") == held
    served.bank.reboot(3)
    with pytest.raises(AlarmError, match=r"elbow_flex.*temperature alarm"):
        arm.enable()
