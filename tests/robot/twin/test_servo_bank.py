"""What the emulated firmware does with its registers."""

from __future__ import annotations

import numpy as np
import pytest

from robot.registers import REGISTERS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE, StatusBit, encode_signed
from robot.twin.lockstep import LockstepArm
from robot.twin.motor import ServoParameters
from robot.twin.world import World, WorldConfig


def get(world: World, servo_id: int, name: str) -> int:
    register = REGISTERS[name]
    return int.from_bytes(world.follower.read(servo_id, register.address, register.size), "little")


def put(world: World, servo_id: int, name: str, value: int) -> None:
    register = REGISTERS[name]
    world.follower.write(servo_id, register.address, value.to_bytes(register.size, "little"))


def run(world: World, seconds: float) -> None:
    for _ in range(round(seconds / world.timestep_s)):
        world.step()


@pytest.fixture
def world() -> World:
    return World()


def test_the_register_file_is_a_real_followers(world):
    for servo_id in range(1, 7):
        assert get(world, servo_id, "model_number") == 777
        assert get(world, servo_id, "p_gain") == 16
        assert get(world, servo_id, "id") == servo_id
    assert get(world, 6, "max_torque") == 500
    assert get(world, 6, "torque_limit") == 500  # copied from max_torque at boot


def test_read_only_registers_cannot_be_written(world):
    before = get(world, 1, "present_position")
    put(world, 1, "present_position", 17)
    assert get(world, 1, "present_position") == before
    put(world, 1, "model_number", 1)
    assert get(world, 1, "model_number") == 777


def test_locked_eeprom_writes_are_forgotten_at_reboot_and_unlocked_ones_stay(world):
    put(world, 2, "lock", 1)
    put(world, 2, "p_gain", 30)
    world.follower.reboot(2)
    assert get(world, 2, "p_gain") == 16
    put(world, 2, "lock", 0)
    put(world, 2, "p_gain", 30)
    world.follower.reboot(2)
    assert get(world, 2, "p_gain") == 30


def test_enabling_with_the_present_pose_as_goal_does_not_snap(world):
    arm = LockstepArm(world)
    run(world, 0.5)
    before = world.joint_user
    arm.enable()
    worst = 0.0
    for _ in range(150):
        world.step()
        worst = max(worst, float(np.abs(world.joint_user - before).max()))
    assert worst < 2.0


def test_a_stale_goal_is_chased_when_torque_comes_on(world):
    for servo_id in range(1, 7):
        world.follower.reboot(servo_id)  # goals fall back to 0
    before = world.joint_user[0]
    put(world, 1, "torque_enable", 1)
    run(world, 1.0)
    assert abs(world.joint_user[0] - before) > 45.0


def test_a_firmware_that_ignores_a_stale_goal_holds_still_until_it_is_told_one():
    world = World(WorldConfig(follower=ServoParameters(stale_goal_jump=False)))
    world.follower.reboot(1)
    before = world.joint_user[0]
    put(world, 1, "torque_enable", 1)
    run(world, 0.5)
    assert world.joint_user[0] == pytest.approx(before, abs=1.0)
    put(world, 1, "goal_position", 2500)
    run(world, 0.5)
    assert abs(world.joint_user[0] - before) > 20.0


def test_goal_speed_limits_the_motion_and_position_limits_clamp_the_goal(world):
    LockstepArm(world).enable()
    put(world, 1, "goal_speed", 200)  # 17.6 deg/s
    put(world, 1, "max_position", 2600)  # long before the mechanical stop
    put(world, 1, "goal_position", 4095)
    before = world.joint_user[0]
    run(world, 1.0)
    assert 10.0 < world.joint_user[0] - before < 18.5
    put(world, 1, "goal_speed", 0)
    run(world, 3.0)
    assert 2500 < get(world, 1, "present_position") <= 2608


def test_a_higher_p_gain_sags_less(world):
    arm = LockstepArm(world)
    reach = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 20.0])

    def sag(p_gain: int) -> float:
        world.reset()
        arm.enable()
        for servo_id in range(1, 7):
            put(world, servo_id, "p_gain", p_gain)
        arm.write(reach)
        run(world, 3.0)
        return float(abs(world.joint_user - reach)[2])

    soft, stiff = sag(16), sag(32)
    # 0.45 N m of elbow gravity over 8.8 N m/rad is 2.9 degrees.
    assert 2.0 < soft < 3.5
    assert stiff < 0.65 * soft


def overload_gripper(world: World) -> None:
    arm = LockstepArm(world)
    arm.enable()
    put(world, 6, "goal_position", 0)  # far past the lower stop
    run(world, 0.8)
    put(world, 6, "min_position", 0)
    put(world, 6, "goal_position", 0)
    run(world, 2.5)
    assert world.follower.error_byte(6) & StatusBit.OVERLOAD


def test_a_squeezed_gripper_overloads_and_falls_to_protective_torque_whatever_goals_stream_in(world):
    overload_gripper(world)
    for goal in range(60):
        put(world, 6, "goal_position", goal)
        put(world, 6, "torque_enable", 1)
        run(world, 1 / 60)
        assert world.follower.error_byte(6) & StatusBit.OVERLOAD
    load = get(world, 6, "present_load") & 0x3FF
    assert load <= 205  # protective torque is 20 percent


def test_switching_torque_or_a_reboot_ends_an_overload(world):
    overload_gripper(world)
    put(world, 6, "torque_enable", 0)
    assert not world.follower.error_byte(6) & StatusBit.OVERLOAD
    put(world, 6, "goal_position", 1600)
    put(world, 6, "torque_enable", 1)
    run(world, 0.5)
    assert not world.follower.error_byte(6) & StatusBit.OVERLOAD
    world.reset()
    overload_gripper(world)
    world.follower.reboot(6)
    assert not world.follower.error_byte(6) & StatusBit.OVERLOAD


def test_over_current_for_its_time_lets_go_until_torque_is_switched(world):
    LockstepArm(world).enable()
    put(world, 6, "lock", 0)
    put(world, 6, "protection_current", 20)  # 130 mA
    put(world, 6, "over_current_time", 50)  # 0.5 s
    put(world, 6, "overload_torque", 100)
    put(world, 6, "min_position", 0)
    put(world, 6, "goal_position", 0)  # far past the lower stop
    run(world, 0.4)
    assert not world.follower.error_byte(6)
    run(world, 0.8)
    assert world.follower.error_byte(6) == StatusBit.CURRENT
    assert get(world, 6, "present_current") == 0
    put(world, 6, "goal_position", 1600)
    run(world, 0.1)
    assert world.follower.error_byte(6) == StatusBit.CURRENT
    assert get(world, 6, "present_load") == 0
    put(world, 6, "torque_enable", 0)
    assert not world.follower.error_byte(6)


@pytest.mark.parametrize(("unloading", "falls"), [(44, True), (40, False)])
def test_a_servo_that_is_too_hot_lets_go_if_its_unloading_condition_says_so(world, unloading, falls):
    arm = LockstepArm(world)
    arm.enable()
    put(world, 2, "unloading_condition", unloading)
    arm.write(np.zeros(6))
    run(world, 3.0)
    raised = world.joint_user[1]
    world.follower.temperature_c[1] = 80.0
    run(world, 1.0)
    assert world.follower.error_byte(2) == StatusBit.HEAT
    assert bool(abs(world.joint_user[1] - raised) > 15.0) is falls
    assert (get(world, 2, "present_load") == 0) is falls


def turn(world: World, speed: int, acceleration: int = 254) -> None:
    put(world, 5, "operating_mode", 1)
    put(world, 5, "acceleration", acceleration)
    put(world, 5, "goal_speed", encode_signed(speed, 15))
    put(world, 5, "torque_enable", 1)


@pytest.mark.parametrize("speed", [300, 1000, -1000])
def test_velocity_mode_turns_at_the_goal_speed(world, speed):
    turn(world, speed)
    run(world, 0.3)
    before = world.joint_user[4]
    run(world, 0.5)
    assert (world.joint_user[4] - before) / 0.5 == pytest.approx(speed * 360 / 4096, rel=0.03)


def test_velocity_mode_keeps_to_the_acceleration(world):
    before = world.joint_user[4]
    turn(world, 1000, acceleration=10)  # 1000 steps/s^2
    run(world, 0.5)
    # Half of a t^2 is 125 steps or 11 degrees, less the lag behind the setpoint.
    assert 7.0 < world.joint_user[4] - before < 11.0


def test_a_blocked_servo_in_velocity_mode_turns_back_at_once(world):
    turn(world, 2000)
    run(world, 1.8)  # most of it at the joint's stop
    stopped = world.joint_user[4]
    run(world, 0.5)
    assert world.joint_user[4] == pytest.approx(stopped, abs=0.5)
    put(world, 5, "goal_speed", encode_signed(-1000, 15))
    run(world, 1.0)
    assert world.joint_user[4] < stopped - 45.0


def home(world: World, servo_id: int) -> None:
    """As LeRobot calibrates: no offset, read the raw position, make it 2047."""
    put(world, servo_id, "lock", 0)
    put(world, servo_id, "min_position", 0)
    put(world, servo_id, "max_position", 4095)
    put(world, servo_id, "homing_offset", 0)
    offset = get(world, servo_id, "present_position") - 2047
    put(world, servo_id, "homing_offset", encode_signed(offset, 11))
    assert get(world, servo_id, "present_position") == pytest.approx(2047, abs=1)


def set_middle(world: World, servo_id: int) -> None:
    put(world, servo_id, "torque_enable", 128)


def factory_reset(world: World, servo_id: int) -> None:
    world.follower.factory_reset_slot(servo_id - 1)


@pytest.mark.parametrize("shift", [home, set_middle, factory_reset])
def test_torque_with_the_present_goal_holds_still_after_the_reading_was_shifted(world, shift):
    run(world, 0.5)
    before = world.joint_user
    for servo_id in range(1, 7):
        shift(world, servo_id)
        put(world, servo_id, "goal_position", get(world, servo_id, "present_position"))
    for servo_id in range(1, 7):
        put(world, servo_id, "torque_enable", 1)
    for _ in range(300):
        world.step()
        assert np.abs(world.joint_user - before).max() < 2.0


def test_a_reset_after_a_shifted_reading_leaves_goals_at_the_pose(world):
    for servo_id in range(1, 7):
        home(world, servo_id)
    world.reset()
    before = world.joint_user
    for servo_id in range(1, 7):
        assert get(world, servo_id, "goal_position") == get(world, servo_id, "present_position")
        put(world, servo_id, "torque_enable", 1)
    run(world, 0.5)
    assert np.abs(world.joint_user - before).max() < 2.0


def test_torque_that_is_on_already_may_be_switched_on_again(world):
    twin = World()
    for each in (world, twin):
        LockstepArm(each).enable()
        put(each, 1, "goal_position", 3000)
        run(each, 0.2)
    put(world, 1, "torque_enable", 1)
    for each in (world, twin):
        run(each, 0.2)
    assert (world.joint_user == twin.joint_user).all()


def test_a_lower_supply_weakens_a_driven_arm_at_once(world):
    arm = LockstepArm(world)
    arm.enable()
    arm.write(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 20.0]))
    run(world, 3.0)
    before = world.joint_user[2]
    world.follower.set_supply(4.0)
    run(world, 1.0)
    assert abs(world.joint_user[2] - before) > 1.0
    assert get(world, 3, "present_voltage") == pytest.approx(40, abs=2)


def test_an_idle_leader_reads_its_new_supply(world):
    run(world, 0.2)
    assert world.leader.idle
    world.leader.set_supply(5.0)
    run(world, 0.2)
    assert int.from_bytes(world.leader.read(1, REGISTERS["present_voltage"].address, 1), "little") == 50
    assert world.leader.idle


def test_the_state_block_has_real_units(world):
    arm = LockstepArm(world)
    arm.enable()
    arm.write(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 20.0]))
    run(world, 2.0)
    state = arm.read()
    assert state.position == pytest.approx(world.joint_user, abs=0.1)
    assert state.voltage_v == pytest.approx(np.full(6, 7.4), abs=0.3)
    assert abs(state.load_pct[1]) > 5.0
    assert state.current_ma[1] > 0.0
    assert len(world.follower.read(1, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE)) == 15


def test_speed_is_reported_in_steps_of_fifty(world):
    LockstepArm(world).enable()
    put(world, 1, "goal_position", 3000)
    seen = set()
    for _ in range(60):
        run(world, 0.02)
        seen.add(get(world, 1, "present_speed") & 0x7FFF)
    assert len(seen) > 3
    assert all(speed % 50 == 0 for speed in seen)


def test_set_middle_makes_the_present_position_2048(world):
    put(world, 3, "torque_enable", 128)
    assert get(world, 3, "present_position") in (2047, 2048)
    world.follower.reboot(3)
    assert get(world, 3, "present_position") in (2047, 2048)
