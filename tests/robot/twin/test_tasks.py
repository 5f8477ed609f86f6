"""Where pick and place begins, and when it is done."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robot.errors import TwinError
from robot.twin.tasks import (
    BOWL_APART_M,
    BOWL_XY_M,
    CUBES_APART_M,
    CubePlace,
    PickPlace,
    PickPlaceConfuser,
    task_named,
)
from robot.twin.world import World


def test_places_fill_the_field_and_stay_clear_of_the_bowl_and_of_each_other() -> None:
    assert World().bowl_xy_m == pytest.approx(BOWL_XY_M)
    task, rng, places = PickPlaceConfuser(), np.random.default_rng(0), []
    for _ in range(2000):
        layout = task.sample(rng)
        assert layout.cube is not None and layout.confuser is not None
        assert layout.told_xy_m == layout.cube.xy_m
        assert math.dist(layout.cube.xy_m, layout.confuser.xy_m) >= CUBES_APART_M
        places += [layout.cube, layout.confuser]
    x, y = np.array([place.xy_m for place in places]).T
    assert (x.min(), x.max()) == pytest.approx((0.16, 0.32), abs=0.001)
    assert (y.min(), y.max()) == pytest.approx((-0.18, 0.18), abs=0.001)
    assert np.hypot(x - BOWL_XY_M[0], y - BOWL_XY_M[1]).min() >= BOWL_APART_M


def test_a_cube_that_is_placed_anywhere_in_the_field_lies_still() -> None:
    """Nearest to the bowl too."""
    world = World()
    for yaw in np.linspace(0, math.pi / 2, 5):
        x, y = BOWL_XY_M[0], BOWL_XY_M[1] + BOWL_APART_M
        world.place_cube(x, y, float(yaw))
        for _ in range(60):
            world.step()
        assert world.cube_xyz_m[:2] == pytest.approx((x, y), abs=0.0005)


def test_a_seed_has_its_cube_in_the_same_place_with_a_confuser_and_without() -> None:
    alone, both = (task.sample(np.random.default_rng(5)) for task in (PickPlace(), PickPlaceConfuser()))
    assert alone.cube == both.cube and alone.confuser is None and both.confuser is not None
    other = both.asked_for_the_other()
    assert (other.cube, other.confuser, other.told_xy_m) == (both.confuser, both.cube, both.confuser.xy_m)
    with pytest.raises(TwinError, match="confuser"):
        alone.asked_for_the_other()


@pytest.mark.parametrize(
    ("cube", "confuser", "done"),
    [
        (True, None, True),
        (True, False, True),
        (True, True, False),
        (False, True, False),
        (False, None, False),
    ],
)
def test_done_is_the_cube_that_was_meant_and_no_other(cube: bool, confuser: bool | None, done: bool) -> None:
    world, (x, y) = World(), BOWL_XY_M
    world.place_cube(x, y - 0.02) if cube else world.place_cube(0.25, 0.1)
    if confuser is not None:
        world.place_confuser(x, y + 0.02) if confuser else world.place_confuser(0.25, -0.1)
    for _ in range(200):
        world.step()
    assert PickPlaceConfuser().success(world) is done
    assert PickPlace().success(world) is done


def test_a_task_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(TwinError, match=r"no task 'juggle', there is: pick_place, pick_place_confuser"):
        task_named("juggle")
    assert CubePlace(0.2, 0.1, 0.0).alone().told_xy_m == (0.2, 0.1)
