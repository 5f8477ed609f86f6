"""Cameras that exist only as numbers, and what they would see."""

from __future__ import annotations

import cv2
import numpy as np

from calibration.lens import Lens
from calibration.views import BoardFinder, View
from robot import printed

SIZE = (640, 480)
LENS = Lens(
    width_px=640, height_px=480, fx_px=520.0, fy_px=515.0, cx_px=311.0, cy_px=247.0,
    k1=-0.28, k2=0.09, p1=0.0015, p2=-0.001,
)  # fmt: skip


def poses(count: int, seed: int, tilt_deg: float = 35.0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ways to hold the board before a camera: rotation vector and where its middle is, OpenCV's frame."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        depth = random.uniform(0.25, 0.5)
        middle = np.array([random.uniform(-0.45, 0.45) * depth, random.uniform(-0.35, 0.35) * depth, depth])
        tilt, roll = np.radians(random.uniform(-tilt_deg, tilt_deg, 2)), np.radians(random.uniform(-20, 20))
        turn = cv2.Rodrigues(np.array([*tilt, 0.0]))[0] @ cv2.Rodrigues(np.array([0.0, 0.0, roll]))[0]
        found.append((cv2.Rodrigues(turn)[0].ravel(), middle))
    return found


def seen(
    lens: Lens, turn: np.ndarray, middle: np.ndarray, finder: BoardFinder, noise_px: float, seed: int
) -> View | None:
    """The corners that fall into the picture."""
    board = finder.corners_m - finder.middle_m
    pixels, _ = cv2.projectPoints(board, turn, middle, lens.matrix, lens.distortion)
    pixels = pixels.reshape(-1, 2) + np.random.default_rng(seed).normal(0, noise_px, (len(board), 2))
    inside = ((pixels >= 0) & (pixels <= np.array(SIZE) - 1)).all(axis=1)
    if inside.sum() < 4:
        return None
    homography, _ = cv2.findHomography(finder.corners_m[inside, :2], pixels[inside])
    if homography is None:
        return None
    return View(np.flatnonzero(inside), pixels[inside], 0.4, finder._tilt(homography))


def picture(turn: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """The printed sheet as a straight lens sees it, RGB."""
    k = np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]])
    scale = 4
    sheet = cv2.resize(printed.board_sheet_image(), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    px_per_m = 1000.0 * printed.PIXELS_PER_MM * scale
    board = (np.array(printed.BOARD_LEFT_TOP_MM) + np.array(printed.SQUARES) * printed.SQUARE_MM / 2) / 1000
    to_board = np.array(
        [
            [1 / px_per_m, 0, 0.5 / px_per_m - board[0]],
            [0, 1 / px_per_m, 0.5 / px_per_m - board[1]],
            [0, 0, 1],
        ]
    )
    rotation = cv2.Rodrigues(turn)[0]
    homography = k @ np.column_stack([rotation[:, :2], middle]) @ to_board
    grey = cv2.warpPerspective(sheet, homography, SIZE, flags=cv2.INTER_AREA, borderValue=120)
    return cv2.cvtColor(cv2.GaussianBlur(grey, (0, 0), 0.6), cv2.COLOR_GRAY2RGB)
