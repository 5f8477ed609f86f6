from __future__ import annotations

import re
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.sheets import write_sheets
from calibration.views import BoardFinder
from robot import printed
from robot.errors import CalibrationError

POINTS_PER_MM = 72 / 25.4
DOTS_PER_MM = 8


def pages(path: Path) -> list[tuple[tuple[float, float], str]]:
    """Size in points and drawing commands of every page."""
    raw = path.read_bytes()
    sizes = [tuple(map(float, box.split()[2:])) for box in re.findall(rb"/MediaBox \[([^\]]*)\]", raw)]
    streams = []
    for found in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", raw, re.DOTALL):
        try:
            text = zlib.decompress(found[1]).decode("latin-1")
        except zlib.error:
            continue
        if "/DeviceRGB cs" in text:  # a page; the others are letters of its fonts
            streams.append(text)
    return list(zip(sizes, streams, strict=True))  # type: ignore[arg-type]


def raster(size: tuple[float, float], drawing: str) -> np.ndarray:
    """Filled paths of a page, uint8, 8 dots to the millimetre of paper."""
    width, height = (round(side / POINTS_PER_MM * DOTS_PER_MM) for side in size)
    image = np.full((height, width), 255, np.uint8)
    number = r"(-?[\d.]+) (-?[\d.]+)"
    for quad in re.findall(rf"{number} m\n{number} l\n{number} l\n{number} l\nh\n", drawing):
        points = np.array(quad, float).reshape(4, 2) / POINTS_PER_MM * DOTS_PER_MM
        (left, low), (right, high) = np.rint(points.min(axis=0)), np.rint(points.max(axis=0))
        if right - left < width * 0.9:  # not the page's own ground
            image[height - int(high) : height - int(low), int(left) : int(right)] = 0
    return image


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[tuple[float, float], str]]:
    path = tmp_path_factory.mktemp("sheets") / "board.pdf"
    write_sheets(path)
    return pages(path)


def test_the_sheets_are_a4_and_the_board_on_them_is_to_scale(
    sheets: list[tuple[tuple[float, float], str]],
) -> None:
    assert len(sheets) == 2
    for size, _ in sheets:
        assert np.allclose(np.array(size) / POINTS_PER_MM, printed.SHEET_MM, atol=0.01)
    finder = BoardFinder()
    view = finder.find(cv2.cvtColor(raster(*sheets[0]), cv2.COLOR_GRAY2RGB))
    assert view is not None and len(view.ids) == 24
    on_paper_mm = (view.pixels + 0.5) / DOTS_PER_MM
    wanted_mm = 1000 * finder.corners_m[view.ids, :2] + printed.BOARD_LEFT_TOP_MM
    assert np.abs(on_paper_mm - wanted_mm).max() < 0.1


def test_every_single_marker_is_printed_at_its_size(sheets: list[tuple[tuple[float, float], str]]) -> None:
    corners, ids, _ = cv2.aruco.ArucoDetector(printed.dictionary()).detectMarkers(raster(*sheets[1]))
    assert sorted(ids.ravel()) == list(printed.TOUCH_IDS)
    for square in corners:
        sides = np.linalg.norm(square[0] - np.roll(square[0], 1, axis=0), axis=1) / DOTS_PER_MM
        assert np.allclose(sides, printed.TOUCH_MM, atol=0.3)


def test_the_ruler_is_100_mm_long(sheets: list[tuple[tuple[float, float], str]]) -> None:
    number = r"(-?[\d.]+) (-?[\d.]+)"
    for _, drawing in sheets:
        lines = np.array(re.findall(rf"{number} m\n{number} l\s+S", drawing), float) / POINTS_PER_MM
        lengths = np.abs(lines[:, 2] - lines[:, 0])
        assert np.isclose(lengths.max(), 100.0, atol=0.01)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"board\.pdf cannot be written"):
        write_sheets(tmp_path / "absent" / "board.pdf")
