"""The lockstep gait: deterministic, physical, strict about places."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest

from robot.errors import TwinError
from robot.kinematics import Kinematics
from robot.twin.lockstep import LockstepArm, LockstepClock
from robot.twin.world import World


def wave(world: World) -> np.ndarray:
    arm, clock = LockstepArm(world), LockstepClock(world)
    pose = arm.enable()
    trace = []
    for tick in range(120):
        goal = pose + np.array([20, 30, -20, 10, 30, 20]) * math.sin(tick / 20)
        arm.write(goal)
        clock.sleep_until_s(clock.now_s() + 1 / 60)
        trace.append(world.render_state())
    return np.array(trace)


def test_two_worlds_and_a_reset_world_do_the_same_to_the_bit():
    first, second = World(), World()
    a, b = wave(first), wave(second)
    assert (a == b).all()
    first.reset()
    assert (wave(first) == a).all()


def test_time_advances_by_whole_physics_steps():
    world = World()
    clock = LockstepClock(world)
    clock.sleep_until_s(1.0)
    assert world.time_s == pytest.approx(1.0, abs=1e-9)


def test_a_cube_is_put_down_where_it_is_told_and_stays_there():
    world = World()
    world.place_cube(0.21, 0.1, 0.6)
    for _ in range(150):
        world.step()
    truth = world.truth()
    assert truth["cube"]["x_m"] == pytest.approx(0.21, abs=0.001)
    assert truth["cube"]["y_m"] == pytest.approx(0.1, abs=0.001)
    assert truth["cube"]["z_m"] == pytest.approx(0.014, abs=0.001)
    assert world.cube_yaw_rad == pytest.approx(0.6, abs=0.02)
    assert truth["cube_in_bowl"] is False
    assert truth["confuser"] is None


def test_a_cube_dropped_into_the_bowl_counts():
    world = World()
    x, y = world.bowl_xy_m
    world.place_cube(float(x), float(y))
    world.data.qpos[world._cube + 2] = 0.10
    for _ in range(400):
        world.step()
    assert world.cube_in_bowl


def test_a_cube_in_the_bowl_that_is_still_held_does_not_count():
    world = World()
    x, y = (float(v) for v in world.bowl_xy_m)
    hand = Kinematics().solve(np.array([x, y, 0.035]), jaw_yaw_rad=0.0, gripper_rad=1.0)
    world.place_cube(x, y)
    world.data.qpos[world._cube + 2] = 0.035
    counted = []
    for gripper_rad in np.arange(1.0, 0.0, -0.02):
        world.data.qpos[:6] = [*hand[:5], gripper_rad]
        mujoco.mj_forward(world.model, world.data)
        counted.append(world.cube_in_bowl)
    assert counted[0] is True
    assert counted[-1] is False


def test_the_confuser_comes_and_goes():
    world = World()
    world.place_confuser(0.25, -0.1)
    assert world.truth()["confuser"]["x_m"] == pytest.approx(0.25)
    world.remove_confuser()
    assert world.truth()["confuser"] is None


@pytest.mark.parametrize("place", [(math.nan, 0.0), (0.2, math.inf), (3.0, 0.0), (0.2, -2.0)])
def test_impossible_places_are_refused_and_move_nothing(place):
    world = World()
    before = world.render_state()
    with pytest.raises(TwinError):
        world.place_cube(*place)
    assert (world.render_state() == before).all()


def test_the_arm_falls_without_torque():
    world = World()
    arm = LockstepArm(world)
    arm.enable()
    arm.write(np.zeros(6))
    for _ in range(900):
        world.step()
    raised = world.joint_user[1]
    arm.release()
    for _ in range(600):
        world.step()
    assert abs(world.joint_user[1] - raised) > 15.0


def test_the_leader_follows_a_hand():
    world = World()
    pose = np.array([10.0, -20, 30, -5, 15, 60])
    world.set_leader(pose)
    world.step()
    raw = [int.from_bytes(world.leader.read(i, 56, 2), "little") for i in range(1, 7)]
    user = LockstepArm(world).calibration.to_user(np.array(raw))
    assert user == pytest.approx(pose, abs=0.2)
