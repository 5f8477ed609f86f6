"""Faults inside servos, through registers and physics, in lockstep."""

from __future__ import annotations

import numpy as np
import pytest

from robot import packets
from robot.errors import ConfigError, ServoError
from robot.registers import REGISTERS, StatusBit, decode_signed
from robot.twin.bus_faults import BusFaults
from robot.twin.emulator import BusEmulator
from robot.twin.faults import parse_fault
from robot.twin.lockstep import LockstepArm
from robot.twin.servo import ServoBank
from robot.twin.world import World


@pytest.fixture
def world() -> World:
    return World()


def happen(bank: ServoBank, kind: str, **values: object) -> None:
    parse_fault({"kind": kind, **values}).apply(bank, BusFaults())


def get(bank: ServoBank, servo_id: int, name: str) -> int:
    register = REGISTERS[name]
    return int.from_bytes(bank.read(servo_id, register.address, register.size), "little")


def run(world: World, seconds: float) -> None:
    for _ in range(round(seconds / world.timestep_s)):
        world.step()


def test_forced_registers_outlast_a_reboot_where_they_are_no_ram(world: World) -> None:
    bank = world.follower
    happen(bank, "register", servo_id=2, name="homing_offset", value=-17)
    happen(bank, "register", servo_id=2, name="lock", value=0)
    happen(bank, "model", servo_id=2, value=2825)
    happen(bank, "baud", servo_id=2, value=4)
    assert get(bank, 2, "lock") == 0
    bank.reboot(2)
    assert decode_signed(get(bank, 2, "homing_offset"), 11) == -17
    assert get(bank, 2, "lock") == 1
    assert get(bank, 2, "model_number") == 2825
    assert get(bank, 2, "baud_rate") == 4


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_torqe", 1, "no register"),
        ("present_position", 1, "measured"),
        ("lock", 256, "cannot hold"),
        ("homing_offset", 2048, "cannot hold"),
        ("lock", -1, "cannot hold"),
    ],
)
def test_a_register_that_cannot_be_forced_is_named(world: World, name: str, value: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        happen(world.follower, "register", servo_id=1, name=name, value=value)


def test_a_double_id_hears_twice_and_lasts(world: World) -> None:
    bank = world.follower
    happen(bank, "duplicate", servo_id=5, value=4)
    bank.power_cycle()
    assert bank.ids == (1, 2, 3, 4, 4, 6)
    bank.write(4, REGISTERS["acceleration"].address, b"\x07")
    happen(bank, "duplicate", servo_id=4, value=9)
    assert bank.ids == (1, 2, 3, 9, 9, 6)
    assert get(bank, 9, "acceleration") == 7


def test_overload_takes_force_until_torque_is_cycled(world: World) -> None:
    arm, bank = LockstepArm(world), world.follower
    arm.enable()
    happen(bank, "overload", servo_id=2)
    world.step()
    assert bank.error_byte(2) == StatusBit.OVERLOAD
    weak = bank._force_limit[1]
    run(world, 1.0)
    assert bank.error_byte(2) == StatusBit.OVERLOAD
    bank.write(2, 40, b"\x00")
    bank.write(2, 40, b"\x01")
    world.step()
    assert bank.error_byte(2) == 0
    assert weak == pytest.approx(0.2 * bank._force_limit[1])


def test_a_deaf_overload_ends_with_a_power_cycle_alone(world: World) -> None:
    bank = world.follower
    LockstepArm(world).enable()
    happen(bank, "overload_deaf", servo_id=3)
    assert bank.ids == (1, 2, 4, 5, 6)
    run(world, 0.5)
    assert 3 not in bank.ids
    with pytest.raises(ServoError, match="elbow_flex") as caught:
        LockstepArm(world).read()
    assert caught.value.missing == ("elbow_flex",)
    happen(bank, "power_cycle")
    assert bank.ids == (1, 2, 3, 4, 5, 6)
    assert bank.error_byte(3) == 0
    assert get(bank, 1, "torque_enable") == 0


def test_a_wild_temperature_is_one_reading_and_misleads_no_protection(world: World) -> None:
    bank = world.follower
    happen(bank, "glitch", servo_id=2, temperature_c=92, count=2)
    assert get(bank, 2, "present_position") > 0  # asks for other bytes: uses none up
    assert [get(bank, 2, "present_temperature") for _ in range(3)] == [92, 92, 25]
    run(world, 0.2)
    assert bank.error_byte(2) == 0
    happen(bank, "glitch", servo_id=2, temperature_c=92, count=0)
    assert get(bank, 2, "present_temperature") == 25


def test_an_idle_leader_cools(world: World) -> None:
    happen(world.leader, "heat", servo_id=3, temperature_c=80)
    run(world, 10.0)
    assert 78 < world.leader.temperature_c[2] < 79.5  # 1/480 of what it is too warm in a second


def test_a_wild_position_is_read_and_not_regulated_on(world: World) -> None:
    arm, bank = LockstepArm(world), world.follower
    held = arm.enable()
    run(world, 0.5)
    before, joint = get(bank, 1, "present_position"), world.joint_user[0]
    happen(bank, "encoder", servo_id=1, ticks=-2000, count=2)
    readings = []
    for _ in range(3):
        readings.append(get(bank, 1, "present_position") - before)
        run(world, 0.1)
    assert readings == pytest.approx([-2000, -2000, 0], abs=2)
    assert world.joint_user[0] == pytest.approx(joint, abs=0.2)
    assert held[0] == pytest.approx(joint, abs=4.0)


def test_a_slipped_magnet_drives_the_joint_until_the_reading_agrees(world: World) -> None:
    bank = world.follower
    LockstepArm(world).enable()
    run(world, 0.5)
    before, joint = get(bank, 1, "present_position"), world.joint_user[0]
    happen(bank, "encoder", servo_id=1, ticks=200, count=0)
    assert get(bank, 1, "present_position") - before == pytest.approx(200, abs=2)
    run(world, 2.0)
    assert get(bank, 1, "present_position") == pytest.approx(before, abs=15)
    assert world.joint_user[0] - joint == pytest.approx(-200 * 360 / 4096, abs=2.0)


def test_a_stuck_joint_stays_and_its_motor_overloads(world: World) -> None:
    arm, bank = LockstepArm(world), world.follower
    goal = arm.enable()
    happen(bank, "stuck", servo_id=1)
    before = world.joint_user[0]
    goal[0] += 60.0
    arm.write(goal)
    run(world, 1.0)
    assert abs(decode_signed(get(bank, 1, "present_load"), 10)) == 1000
    assert get(bank, 1, "present_current") > 100
    run(world, 2.0)
    assert bank.error_byte(1) & (StatusBit.OVERLOAD | StatusBit.CURRENT)
    assert world.joint_user[0] == pytest.approx(before, abs=0.1)
    happen(bank, "stuck", servo_id=1, on=False)
    arm.release()
    arm.enable()
    arm.write(goal)
    run(world, 2.0)
    assert world.joint_user[0] == pytest.approx(before + 60.0, abs=3.0)


def test_a_stuck_leader_is_not_driven(world: World) -> None:
    bank = world.leader
    happen(bank, "stuck", servo_id=1)
    before = get(bank, 1, "present_position")
    for register, value in (("goal_position", before + 500), ("torque_enable", 1)):
        bank.write(1, REGISTERS[register].address, value.to_bytes(REGISTERS[register].size, "little"))
    run(world, 0.5)
    assert get(bank, 1, "present_position") == before


@pytest.mark.parametrize("boot", ["reboot", "power_cycle", "reset"])
def test_a_write_that_waits_for_its_action_is_forgotten_at_a_boot(world: World, boot: str) -> None:
    bank, bus = world.follower, BusEmulator(world.follower)
    bus.feed(packets.reg_write(1, 41, b"\x07"), 0.0)
    assert get(bank, 1, "async_write_flag") == 1
    if boot == "reset":
        world.reset()
    else:
        happen(bank, boot, **({"servo_id": 1} if boot == "reboot" else {}))
    assert get(bank, 1, "async_write_flag") == 0
    bus.feed(packets.action(), 1.0)
    assert get(bank, 1, "acceleration") != 7


def test_a_reset_ends_what_is_no_eeprom(world: World) -> None:
    bank = world.follower
    before = get(bank, 1, "present_position")
    for kind, values in (
        ("encoder", {"ticks": 300, "count": 0}),
        ("encoder", {"ticks": 99, "count": 9}),
        ("stuck", {}),
        ("glitch", {"count": 9}),
        ("overload_deaf", {}),
        ("model", {"value": 5}),
    ):
        happen(bank, kind, servo_id=1, **values)
    happen(bank, "supply", voltage_v=5.0)
    world.reset()
    assert bank.ids == (1, 2, 3, 4, 5, 6)
    assert get(bank, 1, "present_position") == before
    assert get(bank, 1, "present_temperature") == 25
    assert get(bank, 1, "present_voltage") == 74
    assert bank.error_byte(1) == 0
    assert not bank.stuck.any()
    assert get(bank, 1, "model_number") == 5


def test_port_kinds_need_a_port(world: World) -> None:
    with pytest.raises(ConfigError, match="only a live twin"):
        happen(world.follower, "unplug")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"kind": "register", "servo_id": 1, "name": "lock"}, "needs value"),
        ({"kind": "duplicate", "servo_id": 1}, "needs value"),
        ({"kind": "duplicate", "servo_id": 1, "value": 254}, "no servo id"),
        ({"kind": "encoder", "ticks": 5}, "needs servo_id"),
        ({"kind": "unreliable", "lose_share": 1.5}, "lose_share"),
    ],
)
def test_incomplete_events_are_refused(raw: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_fault(raw)


def test_a_joint_that_is_blocked_at_speed_stands_and_the_others_do_not_notice(world: World) -> None:
    happen(world.follower, "stuck", servo_id=6)
    run(world, 0.1)
    np.testing.assert_allclose(world.model.dof_armature[world._qvel][:5], 0.0284)
    happen(world.follower, "stuck", servo_id=6, on=False)
    world.data.qvel[world._qvel] = 1.0
    run(world, 0.02)
    before, speed = world.data.qpos[world._qpos].copy(), world.data.qvel[world._qvel].copy()
    happen(world.follower, "stuck", servo_id=2)
    run(world, 0.05)
    moved = world.data.qpos[world._qpos] - before
    assert abs(speed[1]) > 0.1 and abs(moved[1]) < 0.005
    assert np.abs(moved).max() < 0.1
