from __future__ import annotations

import numpy as np
import pytest

from robot.errors import TwinError
from robot.twin.render import Renderer
from robot.twin.scene import load_scene
from robot.twin.world import World


def test_paper_is_seen_where_it_is_placed_and_nothing_is_left_of_it() -> None:
    world, renderer = World(), Renderer()
    try:
        before = renderer.render(world.render_state(), "overhead")
        world.place_board((0.35, 0.15, 0.0))
        world.props.place_marker(42, 0.3, -0.1)
        placed = renderer.render(world.render_state(), "overhead")
        changed = np.argwhere((placed != before).any(axis=2))
        assert len(changed) > 5000
        world.props.remove()
        assert (renderer.render(world.render_state(), "overhead") == before).all()
    finally:
        renderer.close()


def test_the_disc_is_where_it_is_said_to_be_and_not_of_the_cubes_colour() -> None:
    world, renderer = World(), Renderer()
    try:
        before = renderer.render(world.render_state(), "overhead")
        world.props.place_disc(0.30, 0.10)
        assert world.truth()["disc"] == {"x_m": 0.30, "y_m": 0.10}
        placed = renderer.render(world.render_state(), "overhead")
        rows, columns = np.nonzero((placed != before).any(axis=2))
        # The overhead camera looks straight down: up is +x, right is -y, 1.423 mm a pixel on the table.
        middle_m = 0.20 - (rows.mean() - 239.5) * 0.001423, -0.05 - (columns.mean() - 319.5) * 0.001423
        assert middle_m == pytest.approx((0.30, 0.10), abs=0.002)
        assert len(rows) * 0.001423**2 == pytest.approx(np.pi * 0.030**2, rel=0.05)
        red, _, blue = placed[rows, columns].astype(float).mean(axis=0)
        assert blue > 2 * red
        world.props.remove_disc()
        assert world.truth()["disc"] is None
        assert (renderer.render(world.render_state(), "overhead") == before).all()
    finally:
        renderer.close()


def test_physics_knows_no_paper() -> None:
    with_board, without = World(), World()
    with_board.place_board((0.24, 0.0, 0.02))
    for _ in range(50):
        with_board.step()
        without.step()
    assert (with_board.data.qpos == without.data.qpos).all()
    assert with_board.model.nbody == load_scene().nbody


def test_impossible_places_are_refused() -> None:
    world = World()
    with pytest.raises(TwinError, match="no marker 7"):
        world.props.place_marker(7, 0.2, 0.0)
    with pytest.raises(TwinError, match="3 finite numbers"):
        world.place_board((0.2, float("nan"), 0.0))
    with pytest.raises(TwinError, match="quaternion"):
        world.place_board((0.2, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0))
    with pytest.raises(TwinError, match="no camera 'side'"):
        world.place_board((0.0, 0.0, -0.3), before="side")
