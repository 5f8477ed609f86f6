"""What is printed for calibration: a ChArUco board on a sheet of A4, and single markers to cut out.

Calibration prints and looks for it, the twin shows it, so it is described once. Lengths on paper are in
millimetres; the picture of a sheet has its first row at the top.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from robot.seams import ByteArray

DICTIONARY = "DICT_4X4_50"
"""Of ArUco: few, large cells, which a camera of 640 x 480 still tells apart at 0.7 m."""
SQUARES = (7, 5)
"""Squares of the board, across and down: 24 inner corners."""
SQUARE_MM = 35.0
MARKER_MM = 27.0
SHEET_MM = (297.0, 210.0)
"""A4, lying."""
BOARD_LEFT_TOP_MM = (26.0, 10.0)
"""Upper left corner of the board on the sheet: margins that any printer can, the ruler and text below."""
TOUCH_IDS = (40, 41, 42, 43, 44, 45)
"""Single markers, far from the ids that the board uses."""
TOUCH_MM = 42.0
TOUCH_CUT_MM = 56.0
"""Side of a single marker with the white that it needs around it."""
PIXELS_PER_MM = 2
"""At which every edge of board and markers falls between two pixels."""


def dictionary() -> Any:
    """The ArUco dictionary of all that is printed."""
    return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, DICTIONARY))


def board(square_mm: float = SQUARE_MM) -> Any:
    """OpenCV's description of the board in metres; its origin is the upper left corner, y down.

    Args:
        square_mm: side of a square as it was measured on the paper.
    """
    side_m = square_mm / 1000.0
    return cv2.aruco.CharucoBoard(SQUARES, side_m, side_m * MARKER_MM / SQUARE_MM, dictionary())


def board_image() -> ByteArray:
    """The board alone, uint8 (350, 490), exact at :data:`PIXELS_PER_MM`."""
    width, height = (round(n * SQUARE_MM * PIXELS_PER_MM) for n in SQUARES)
    return np.asarray(board().generateImage((width, height), marginSize=0, borderBits=1), np.uint8)


def marker_image(marker: int) -> ByteArray:
    """One single marker without its white, uint8 (84, 84), exact at :data:`PIXELS_PER_MM`."""
    side = round(TOUCH_MM * PIXELS_PER_MM)
    return np.asarray(cv2.aruco.generateImageMarker(dictionary(), marker, side), np.uint8)


def board_sheet_image() -> ByteArray:
    """The sheet with the board, without text, uint8 (420, 594)."""
    sheet = np.full([round(side * PIXELS_PER_MM) for side in SHEET_MM[::-1]], 255, np.uint8)
    left, top = (round(side * PIXELS_PER_MM) for side in BOARD_LEFT_TOP_MM)
    image = board_image()
    sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def marker_sheet_image(marker: int) -> ByteArray:
    """One single marker with its white, as it is cut out, uint8 (112, 112)."""
    margin = round((TOUCH_CUT_MM - TOUCH_MM) / 2 * PIXELS_PER_MM)
    return np.pad(marker_image(marker), margin, constant_values=255)
