"""Joints that a hand moves, cables that are out, and servos that nobody has set up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from robot.joints import JOINTS
from robot.registers import REGISTERS, decode_signed
from robot.twin.lockstep import LockstepArm
from robot.twin.world import World, WorldConfig, twin_calibration

POSE = np.array([40.0, -30.0, 20.0, -50.0, 90.0, 60.0])


def run(world: World, seconds: float) -> None:
    for _ in range(round(seconds / world.timestep_s)):
        world.step()


def read(world: World, servo_id: int, name: str) -> int:
    register = REGISTERS[name]
    word = int.from_bytes(world.follower.read(servo_id, register.address, register.size), "little")
    return word if register.sign_bit is None else decode_signed(word, register.sign_bit)


def test_a_hand_leads_limp_joints_without_a_jerk_and_holds_them() -> None:
    world = World(WorldConfig(bare=True))
    world.hold("follower", POSE)
    fastest_deg_s, before = 0.0, world.joint_user
    for _ in range(900):
        world.step()
        fastest_deg_s = max(fastest_deg_s, float(np.abs(world.joint_user[:5] - before[:5]).max()) * 300)
        before = world.joint_user
    np.testing.assert_allclose(world.joint_user, POSE, atol=0.6)
    assert fastest_deg_s < 250.0
    run(world, 2.0)
    np.testing.assert_allclose(world.joint_user, POSE, atol=0.6)


def test_a_hand_that_lets_go_lets_the_arm_fall() -> None:
    world = World(WorldConfig(bare=True))
    world.hold("follower", POSE)
    run(world, 3.0)
    world.hold("follower", None)
    run(world, 2.0)
    assert abs(world.joint_user[1] - POSE[1]) > 10.0


def test_a_hand_does_not_move_driven_joints() -> None:
    world = World(WorldConfig(bare=True))
    LockstepArm(world).enable()
    run(world, 0.5)
    world.follower.write(1, REGISTERS["torque_enable"].address, b"\x00")
    before = world.joint_user
    world.hold("follower", POSE)
    run(world, 2.0)
    assert world.joint_user[0] == pytest.approx(POSE[0], abs=0.6)
    np.testing.assert_allclose(world.joint_user[1:], before[1:], atol=3.0)


def test_a_hand_sweeps_to_the_stops() -> None:
    world = World(WorldConfig(bare=True))
    world.hold("follower", np.array([-180.0, 0.0, 0.0, 0.0, 0.0, 200.0]))
    run(world, 3.0)
    low, high = world.model.joint("shoulder_pan").range[0], world.model.joint("gripper").range[1]
    assert world.data.qpos[world._qpos][0] == pytest.approx(low, abs=0.05)
    assert world.data.qpos[world._qpos][5] == pytest.approx(high, abs=0.05)


def test_a_hand_on_the_leader() -> None:
    world = World()
    world.hold("leader", POSE)
    run(world, 3.0)
    entry = twin_calibration()["shoulder_pan"]
    ticks = int.from_bytes(world.leader.read(1, 56, 2), "little")
    assert ticks == pytest.approx((entry["range_min"] + entry["range_max"]) / 2 + 40.0 * 4095 / 360, abs=2)
    world.hold("leader", None)
    run(world, 0.5)
    assert int.from_bytes(world.leader.read(1, 56, 2), "little") == ticks


def test_a_cable_that_is_out_takes_the_servo_its_force_and_its_ram() -> None:
    world = World(WorldConfig(bare=True))
    world.hold("follower", POSE)
    run(world, 3.0)
    LockstepArm(world).enable()
    world.hold("follower", None)
    world.follower.plug({0, 2, 3, 4, 5})
    assert world.follower.ids == (1, 3, 4, 5, 6)
    run(world, 1.0)
    assert abs(world.joint_user[1] - POSE[1]) > 10.0
    world.follower.plug(range(6))
    assert world.follower.ids == (1, 2, 3, 4, 5, 6)
    assert [read(world, i, "torque_enable") for i in (1, 2, 3)] == [1, 0, 1]


def test_factory_servos_all_have_id_1_and_know_nothing_of_the_arm() -> None:
    world = World(WorldConfig(factory=True, bare=True))
    for bank in (world.follower, world.leader):
        assert bank.ids == (1,)
        bank.plug(range(6))
        assert bank.ids == (1,) * 6
    assert read(world, 1, "homing_offset") == 0
    assert (read(world, 1, "min_position"), read(world, 1, "max_position")) == (0, 4095)
    assert read(world, 1, "p_gain") == 32


def test_a_factory_arm_is_the_same_arm_before_its_calibration() -> None:
    """Whoever homes it with the shipped offsets reads what the shipped twin reads."""
    shipped, fresh = World(WorldConfig(bare=True)), World(WorldConfig(bare=True, factory=True))
    for i, name in enumerate(JOINTS):
        fresh.follower.plug({i})
        assert fresh.follower.ids == (1,)
        raw = read(fresh, 1, "present_position")
        offset = twin_calibration()[name]["homing_offset"]
        assert (raw - offset) % 4096 == pytest.approx(read(shipped, i + 1, "present_position"), abs=1)
        fresh.follower.write(1, REGISTERS["lock"].address, b"\x00")
        fresh.follower.write(1, REGISTERS["id"].address, bytes((i + 1,)))
    fresh.follower.plug(range(6))
    assert fresh.follower.ids == (1, 2, 3, 4, 5, 6)
    assert json.dumps(fresh.truth()) == json.dumps(shipped.truth())
