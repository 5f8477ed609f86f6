from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent))
from camera_rig import LENS, SIZE, picture, poses, seen

from calibration.intrinsics import missing, solve_lens
from calibration.lens import Lens
from calibration.views import BoardFinder, Verdict, ViewCollector
from robot.errors import CalibrationError

FINDER = BoardFinder()
STRAIGHT_ON = (np.zeros(3), np.array([0.0, 0.0, 0.4]))


def collected(
    lens: Lens, tilt_deg: float = 35.0, count: int = 40, seed: int = 1, noise: float = 0.05
) -> ViewCollector:
    collector = ViewCollector(FINDER, *SIZE, stills=True)
    for index, (turn, middle) in enumerate(poses(count, seed, tilt_deg)):
        collector.consider(seen(lens, turn, middle, FINDER, noise, index))
    return collector


@settings(max_examples=8)
@given(
    focal=st.floats(420, 700),
    centre=st.tuples(st.floats(300, 340), st.floats(225, 255)),
    k1=st.floats(-0.3, 0.1),
    seed=st.integers(0, 1000),
)
def test_a_known_lens_is_recovered(focal: float, centre: tuple[float, float], k1: float, seed: int) -> None:
    lens = LENS.model_copy(
        update={"fx_px": focal, "fy_px": focal * 1.01, "cx_px": centre[0], "cy_px": centre[1], "k1": k1}
    )
    found = solve_lens(collected(lens, seed=seed, count=60), FINDER, *SIZE, "today").lens
    assert found.fx_px == pytest.approx(lens.fx_px, rel=0.01)
    assert found.fy_px == pytest.approx(lens.fy_px, rel=0.01)
    pixels = np.array([[320.0, 240.0], [60.0, 50.0], [580.0, 430.0], [600.0, 40.0]])
    ray = (lens.straighten(pixels) - [lens.cx_px, lens.cy_px]) / [lens.fx_px, lens.fy_px]
    found_ray = (found.straighten(pixels) - [found.cx_px, found.cy_px]) / [found.fx_px, found.fy_px]
    assert np.abs(ray - found_ray).max() < 0.01  # 5 px at 500 px; 4 of 5 parameters could not do it


@given(st.lists(st.tuples(st.floats(0, 639), st.floats(0, 479)), min_size=1, max_size=20))
def test_bending_undoes_straightening(pixels: list[tuple[float, float]]) -> None:
    assert np.allclose(LENS.bend(LENS.straighten(np.array(pixels))), pixels, atol=1e-4)


def test_a_board_that_always_faces_the_camera_is_not_enough() -> None:
    collector = collected(LENS, tilt_deg=2.0, count=120)
    assert len(collector.views) >= 12
    assert "tilt it" in (missing(collector) or "")
    with pytest.raises(CalibrationError, match="tilt it"):
        solve_lens(collector, FINDER, *SIZE, "")


def test_too_few_views_are_refused_with_what_to_do() -> None:
    with pytest.raises(CalibrationError, match=r"3 views cover .* Next: show it near the"):
        solve_lens(collected(LENS, count=3), FINDER, *SIZE, "")


def test_a_bent_view_is_dropped_and_the_lens_stays() -> None:
    collector = collected(LENS)
    bad = collector.views[4]
    bad.pixels[:] += np.random.default_rng(3).normal(0, 6.0, bad.pixels.shape)
    result = solve_lens(collector, FINDER, *SIZE, "")
    assert result.dropped >= 1
    assert result.lens.fx_px == pytest.approx(LENS.fx_px, rel=0.01)


def test_corners_that_fit_no_lens_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"px from where this lens"):
        solve_lens(collected(LENS, noise=2.0), FINDER, *SIZE, "")


def test_a_picture_of_another_size_is_refused() -> None:
    collector = ViewCollector(FINDER, 800, 600)
    with pytest.raises(CalibrationError, match="640x480 pixels, the camera is set to 800x600"):
        collector.offer(picture(*STRAIGHT_ON))


def test_a_mirrored_board_is_named() -> None:
    collector = ViewCollector(FINDER, *SIZE)
    with pytest.raises(CalibrationError, match="mirrored"):
        collector.offer(np.ascontiguousarray(picture(*STRAIGHT_ON)[:, ::-1]))


def test_a_blurred_picture_is_not_taken() -> None:
    collector, image = ViewCollector(FINDER, *SIZE, stills=True), picture(*STRAIGHT_ON)
    assert collector.offer(cv2.GaussianBlur(image, (0, 0), 4.0)) is Verdict.NO_BOARD
    assert collector.offer(cv2.GaussianBlur(image, (0, 0), 2.5)) is Verdict.BLURRED
    assert collector.offer(image) is Verdict.TAKEN
    assert collector.offer(image) is Verdict.KNOWN


def test_only_a_board_that_is_held_still_is_taken() -> None:
    collector = ViewCollector(FINDER, *SIZE)
    turn, middle = STRAIGHT_ON
    for step in range(4):
        assert collector.offer(picture(turn, middle + np.array([0.004 * step, 0, 0]))) is Verdict.MOVING
    assert collector.offer(picture(turn, middle + np.array([0.012, 0, 0]))) is Verdict.TAKEN


def test_corners_are_found_where_they_are() -> None:
    turn, middle = poses(1, 5)[0]
    view = FINDER.find(picture(turn, middle))
    assert view is not None and len(view.ids) >= 20
    k = np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
    true, _ = cv2.projectPoints(FINDER.corners_m[view.ids] - FINDER.middle_m, turn, middle, k, None)
    error_px = view.pixels - true.reshape(-1, 2)
    assert np.abs(error_px.mean(axis=0)).max() < 0.1 and np.abs(error_px).max() < 0.8
