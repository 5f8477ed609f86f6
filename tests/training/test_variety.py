"""Episodes that differ: a second cube beside the first, the bowl near by, servos softer or stiffer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robot.twin.looks import Look
from robot.twin.tasks import BOWL_XY_M, CubePlace, Layout, PickPlaceConfuser
from training.demonstrations import DemonstrationOptions, Demonstrator
from training.episodes import DemonstrationOrder
from training.stage import Stage
from training.variety import Variety, episode_rng

CALM = DemonstrationOptions(command_noise_deg=0.0, miss_probability=0.0)
MISSING = DemonstrationOptions(miss_probability=1.0)


def two(x_m: float, y_m: float, apart_m: float, direction_deg: float, yaw_rad: float = 0.3) -> Layout:
    angle = math.radians(direction_deg)
    other = CubePlace(x_m + apart_m * math.cos(angle), y_m + apart_m * math.sin(angle), 0.7)
    return Layout(told_xy_m=(x_m, y_m), cube=CubePlace(x_m, y_m, yaw_rad), confuser=other)


@pytest.mark.parametrize("direction_deg", [0, 70, 130, 200, 290])
def test_the_expert_takes_the_cube_that_is_meant_and_leaves_its_neighbour(stage, direction_deg):
    layout = two(0.24, 0.06, 0.045, direction_deg)
    assert Demonstrator(stage, CALM).record(layout, episode_rng(1, 0)) is not None
    assert stage.world.cube_in_bowl and not stage.world.confuser_in_bowl
    assert stage.world.confuser_xyz_m[:2] == pytest.approx(layout.confuser.xy_m, abs=0.005)


@pytest.mark.parametrize("yaw_rad", [0.0, 0.4, 0.8, 1.2])
def test_the_expert_reaches_beside_the_bowl(stage, yaw_rad):
    place = CubePlace(BOWL_XY_M[0] - 0.01, BOWL_XY_M[1] + 0.086, yaw_rad)
    assert Demonstrator(stage, CALM).record(place.alone(), episode_rng(1, 0)) is not None


@pytest.mark.parametrize(("x_m", "y_m", "yaw_rad"), [(0.3162, 0.1654, -1.803), (0.319, -0.172, -0.1)])
def test_the_expert_does_not_come_down_on_a_cube_in_a_far_corner(stage, x_m, y_m, yaw_rad):
    """There the hand leans; it once stood on the cube's edge and pushed it away, again and again."""
    demonstrator = Demonstrator(stage, CALM)
    frames = demonstrator.record(CubePlace(x_m, y_m, yaw_rad).alone(), episode_rng(1000, 39))
    assert frames is not None
    assert all(frame.loss_mask == 1.0 for frame in frames)  # at the first attempt


def test_a_miss_is_not_aimed_at_the_neighbour(stage):
    demonstrator = Demonstrator(stage, MISSING)
    layout = two(0.24, 0.0, 0.05, 90.0)
    stage.reset(layout, stage.robot.ready_pose.array())
    rng = np.random.default_rng(0)
    aims = [demonstrator._miss_aim(layout, rng) for _ in range(60)]
    distances = [math.dist(aim, layout.confuser.xy_m) for aim in aims if aim is not None]
    assert len(distances) > 30
    assert min(distances) > 0.025
    sides = [aim[1] for aim in aims if aim is not None]
    assert min(sides) < -0.01 and max(sides) > 0.005


def test_an_episode_that_pushes_the_neighbour_away_is_not_kept(stage, monkeypatch):
    demonstrator, layout = Demonstrator(stage, CALM), two(0.24, 0.06, 0.08, 0.0)
    finish = demonstrator.finish

    def push(*args, **kwargs):
        frames = finish(*args, **kwargs)
        stage.world.place_confuser(layout.confuser.x_m + 0.012, layout.confuser.y_m)
        return frames

    monkeypatch.setattr(demonstrator, "finish", push)
    assert demonstrator.record(layout, episode_rng(1, 0)) is None


def test_what_is_varied_leaves_the_rest_of_an_episode_as_it_is(stage, monkeypatch):
    """The same cube and the same start, with and without each kind of variety; of each about its share."""
    seen: list[tuple[Layout, Look, float, np.ndarray]] = []

    def reset(layout, start, *, look=None, stiffness=1.0):
        seen.append((layout, look, stiffness, start))
        raise StopIteration

    monkeypatch.setattr(stage, "reset", reset)

    def trials(**variety):
        seen.clear()
        demonstrator = Demonstrator(stage, seed=3, variety=Variety(**variety))
        for number in range(40):
            with pytest.raises(StopIteration):
                demonstrator.episode(number)
        return list(seen)

    plain = trials()
    assert all(
        look == Look() and stiffness == 1.0 and not layout.confuser for layout, look, stiffness, _ in plain
    )
    mixed = trials(confuser_share=0.5, look_share=0.3, stiffness_spread=0.2)
    for before, after in zip(plain, mixed, strict=True):
        assert before[0].cube == after[0].cube and (before[3] == after[3]).all()
    assert 10 < sum(layout.confuser is not None for layout, *_ in mixed) < 30
    assert 4 < sum(look != Look() for _, look, *_ in mixed) < 22
    factors = [stiffness for *_, stiffness, _ in mixed]
    assert 0.8 <= min(factors) < 0.85 and 1.15 < max(factors) <= 1.2
    alone = trials(stiffness_spread=0.2)
    assert [trial[2] for trial in alone] == factors


def test_softer_servos_sag_more_and_a_reset_makes_them_what_they_were(stage):
    pose = stage.robot.ready_pose.array().copy()
    pose[1], pose[2], pose[3] = 30.0, -20.0, 0.0  # stretched out
    sag = {}
    for factor in (0.8, 1.0, 1.2):
        command = stage.reset(CubePlace(0.2, 0.15, 0.0).alone(), pose, stiffness=factor)
        for _ in range(60):
            stage.arm.write(command)
            stage.advance()
        sag[factor] = float(np.abs(stage.world.joint_user - command)[1])
    assert sag[0.8] > 1.1 * sag[1.0] > 1.2 * sag[1.2]
    stage.world.reset()
    assert stage.world.follower.stiffness_factor == 1.0


@pytest.mark.parametrize("stiffness", [0.8, 1.2])
def test_the_expert_knows_how_stiff_the_servos_are(stage, stiffness):
    demonstrator = Demonstrator(stage, CALM)
    place = CubePlace(0.31, 0.16, 0.4).alone()
    assert demonstrator.record(place, episode_rng(2, 0), stiffness=stiffness) is not None


def test_black_cameras_are_black_and_the_others_see():
    stage = Stage(64, 48)
    stage.blackout = frozenset({"wrist"})
    stage.reset(CubePlace(0.2, 0.1, 0.0).alone(), stage.robot.ready_pose.array())
    pictures = stage.images()
    stage.close()
    assert pictures["wrist"].shape == (48, 64, 3) and not pictures["wrist"].any()
    assert pictures["overhead"].any()


def test_an_order_goes_to_other_processes_whole():
    variety = Variety(confuser_share=0.5, look_share=0.25, stiffness_spread=0.2)
    order = DemonstrationOrder(seed=1, task=PickPlaceConfuser().name, variety=variety)
    assert DemonstrationOrder.model_validate_json(order.model_dump_json()) == order
