"""Looks change what cameras see and nothing else, and what a test shows was never trained on."""

from __future__ import annotations

import numpy as np
import pytest

from robot.twin import looks
from robot.twin.looks import Look, Surface, draw_look
from robot.twin.render import Renderer
from robot.twin.world import World

DRAWS = 300
FAMILIES = (*looks.TRAINING_FAMILIES, *looks.UNSEEN_FAMILIES)


def draws(unseen: bool) -> list[Look]:
    return [draw_look(np.random.default_rng([7, k]), unseen=unseen) for k in range(DRAWS)]


def test_a_look_is_shown_and_taken_back_to_the_byte() -> None:
    world, renderer = World(), Renderer(64, 48)
    world.place_cube(0.25, 0.05)
    state = world.render_state()

    def overhead(look: Look) -> np.ndarray:
        renderer.show(look)
        return renderer.render(state, "overhead").astype(int)

    try:
        as_it_is = renderer.render(state, "overhead")
        painted = {
            family: overhead(Look(table=Surface(family=family, other_rgb=(0.1, 0.2, 0.3))))
            for family in FAMILIES
        }
        dark, warm = overhead(Look(lamp=0.3, ambient=0.5)), overhead(Look(kelvin=3000))
        level = overhead(Look(lamp_direction=(1.0, 0.0, -0.2)))
        assert (overhead(Look()) == as_it_is).all()
    finally:
        renderer.close()
    for family in set(FAMILIES) - {"plain"}:
        assert (np.abs(painted[family] - as_it_is) > 3).mean() > 0.05, family
    assert (painted["plain"] == as_it_is).all()
    assert dark.mean() < 0.7 * as_it_is.mean()
    assert warm[..., 0].mean() / warm[..., 2].mean() > 1.3 * as_it_is[..., 0].mean() / as_it_is[..., 2].mean()
    assert level.mean() < 0.9 * as_it_is.mean()


def test_no_unseen_look_is_one_of_training() -> None:
    trained, unseen = draws(False), draws(True)
    assert {look.table.family for look in trained} == set(looks.TRAINING_FAMILIES)
    assert {look.table.family for look in unseen} == set(looks.UNSEEN_FAMILIES)
    assert not set(looks.TRAINING_FAMILIES) & set(looks.UNSEEN_FAMILIES)
    for what in ("lamp", "ambient", "kelvin"):
        values = np.array([getattr(look, what) for look in trained])
        others = np.array([getattr(look, what) for look in unseen])
        assert not ((others >= values.min()) & (others <= values.max())).any(), what
        assert (others < values.min()).any() and (others > values.max()).any(), what
    tilt = [np.degrees(np.arccos(-look.lamp_direction[2])) for look in trained]
    unseen_tilt = [np.degrees(np.arccos(-look.lamp_direction[2])) for look in unseen]
    assert max(tilt) < min(unseen_tilt)


def test_no_table_is_as_red_as_the_cube() -> None:
    redness = looks.CUBE_RGB[0] - max(looks.CUBE_RGB[1:])
    for look in (*draws(False), *draws(True)):
        for rgb in (look.table.rgb, look.table.other_rgb):
            assert rgb[0] - max(rgb[1:]) < redness / 2


def test_a_look_is_the_same_wherever_it_is_drawn_and_survives_json() -> None:
    look = draw_look(np.random.default_rng(3))
    assert draw_look(np.random.default_rng(3)) == look != draw_look(np.random.default_rng(4))
    assert Look.model_validate_json(look.model_dump_json()) == look


@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_top_is_a_function_of_its_surface(family: str) -> None:
    surface = Surface.model_validate(
        {"family": family, "rgb": (0.2, 0.4, 0.6), "other_rgb": (0.8, 0.7, 0.3), "seed": 5}
    )
    picture = looks.picture(surface)
    assert (picture == looks.picture(surface)).all()
    # From the one colour to the other and never beyond.
    assert picture[..., 0].min() >= 51 and picture[..., 0].max() <= 204
    if family == "plain":
        assert (picture == (51, 102, 153)).all()
    else:
        assert picture[..., 0].std() > 10


def test_light_of_6500_kelvin_has_no_colour_and_the_lower_is_the_redder() -> None:
    assert looks.tint(6500.0) == pytest.approx((1, 1, 1))
    ratios = [float(looks.tint(k)[0] / looks.tint(k)[2]) for k in (3000, 4100, 5000, 6500, 9000, 12000)]
    assert ratios == sorted(ratios, reverse=True) and ratios[0] > 1.5 and ratios[-1] < 0.9
