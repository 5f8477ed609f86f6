"""Looking for the printed board in pictures, and choosing those that teach something about a lens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cv2
import numpy as np

from robot import printed
from robot.errors import CalibrationError
from robot.seams import ByteArray, FloatArray

MIN_CORNERS = 10
"""Of 24; fewer say little about a pose."""
STILL_PX = 0.6
"""Corners that moved more than this since the picture before belong to a board, or an arm, in motion."""
SHARP_SHARE_PER_PX = 0.22
"""Steepest rise of an edge as a share of its contrast. A sharp one reaches 0.35 and more; with a blur of
two pixels (standard deviation) it is 0.23, with three no markers are read any more."""
NEW_DISTANCE = 0.10
"""How far a view's descriptor must lie from that of every other, see :func:`_descriptor`."""
GRID = (8, 6)
"""Cells of the picture, across and down, in which coverage is counted."""


@dataclass(frozen=True, slots=True)
class View:
    """The board in one picture.

    Attributes:
        ids: of the corners seen, shape (n,).
        pixels: where, shape (n, 2).
        sharpness: see :data:`SHARP_SHARE_PER_PX`.
        tilt: change of scale across the board, along its x and y, shape (2,); 0 where it faces the camera.
    """

    ids: FloatArray
    pixels: FloatArray
    sharpness: float
    tilt: FloatArray


class Verdict(StrEnum):
    """What became of a picture."""

    TAKEN = "taken"
    NO_BOARD = "no board is seen"
    FEW_CORNERS = "only a part of the board is seen"
    BLURRED = "the picture is blurred: more light, or set the focus"
    MOVING = "hold it still"
    KNOWN = "such a view is there already: move, tilt, come nearer"


class BoardFinder:
    """Finds the corners of the printed board.

    Args:
        square_mm: side of a square as it was measured on the paper.
    """

    def __init__(self, square_mm: float = printed.SQUARE_MM) -> None:
        self._board = printed.board(square_mm)
        parameters = cv2.aruco.CharucoParameters()
        parameters.minMarkers = 2
        parameters.tryRefineMarkers = True
        self._detector = cv2.aruco.CharucoDetector(self._board, parameters)
        self.corners_m: FloatArray = np.asarray(self._board.getChessboardCorners(), np.float64)
        """All inner corners on the board, z = 0, shape (24, 3)."""
        middle = np.array(self._board.getChessboardSize()) * self._board.getSquareLength() / 2
        self.middle_m: FloatArray = np.append(middle, 0.0)

    def find(self, image: ByteArray) -> View | None:
        """The board in an RGB picture, ``None`` where it is not seen."""
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        corners, ids, _, _ = self._detector.detectBoard(grey)
        if ids is None or len(ids) < 4:
            return None
        found, pixels = ids.ravel(), np.asarray(corners, np.float64).reshape(-1, 2)
        homography, _ = cv2.findHomography(self.corners_m[found, :2], pixels)
        if homography is None:
            return None
        return View(found, pixels, _sharpness(grey, pixels), self._tilt(homography))

    def is_mirrored(self, image: ByteArray) -> bool:
        """Whether a picture shows the mirror image of the board, as a flipped camera does."""
        view = self.find(np.ascontiguousarray(image[:, ::-1]))
        return view is not None and len(view.ids) >= MIN_CORNERS

    def _tilt(self, homography: FloatArray) -> FloatArray:
        h = homography / (homography[2] @ np.append(self.middle_m[:2], 1.0))
        return np.asarray(h[2, :2] * 2 * self.middle_m[:2])


def _sharpness(grey: ByteArray, pixels: FloatArray) -> float:
    """Median over corners of the steepest rise there, as a share of the contrast, per pixel."""
    values = []
    height, width = grey.shape
    for u, v in np.rint(pixels).astype(int):
        patch = grey[max(0, v - 4) : min(height, v + 5), max(0, u - 4) : min(width, u + 5)].astype(np.float64)
        contrast = float(np.ptp(patch))
        if contrast < 20 or min(patch.shape) < 5:
            continue
        rise = max(np.abs(np.diff(patch, axis=0)).max(), np.abs(np.diff(patch, axis=1)).max())
        values.append(float(rise) / contrast)
    return float(np.median(values)) if values else 0.0


class ViewCollector:
    """Keeps the views that differ, and says what is missing.

    Args:
        finder: of the board.
        width_px: of the pictures.
        height_px: of the pictures.
        stills: pictures stand each for itself, so that none can be in motion.
    """

    def __init__(self, finder: BoardFinder, width_px: int, height_px: int, *, stills: bool = False) -> None:
        self._finder, self._size, self._stills = finder, np.array([width_px, height_px]), stills
        self._last: View | None = None
        self._descriptors: list[FloatArray] = []
        self._unseen = 0
        self.views: list[View] = []
        self.covered = np.zeros(GRID[::-1], dtype=bool)
        """Cells of the picture in which a corner was taken, shape (6, 8)."""

    def offer(self, image: ByteArray) -> Verdict:
        """Look at a picture and keep its view if it is good and new.

        Raises:
            CalibrationError: the picture has another size than the camera is set to, or it shows the board
                mirrored.
        """
        height, width = image.shape[:2]
        if (width, height) != tuple(self._size):
            raise CalibrationError(
                f"a picture has {width}x{height} pixels, the camera is set to "
                f"{self._size[0]}x{self._size[1]}: a lens is measured at the size it is used at"
            )
        view = self._finder.find(image)
        if view is None or len(view.ids) < MIN_CORNERS:
            self._refuse_mirrored(image)
        return self.consider(view)

    def consider(self, view: View | None) -> Verdict:
        """Keep a view if it is good and new; ``None``: nothing was found in the newest picture."""
        before, self._last = self._last, view
        if view is None:
            return Verdict.NO_BOARD
        if len(view.ids) < MIN_CORNERS:
            return Verdict.FEW_CORNERS
        if view.sharpness < SHARP_SHARE_PER_PX:
            return Verdict.BLURRED
        if not self._stills and not _still(view, before):
            return Verdict.MOVING
        descriptor = self._descriptor(view)
        if any(np.linalg.norm(descriptor - known) < NEW_DISTANCE for known in self._descriptors):
            return Verdict.KNOWN
        self._descriptors.append(descriptor)
        self.views.append(view)
        cells = np.clip((view.pixels / self._size * GRID).astype(int), 0, np.array(GRID) - 1)
        self.covered[cells[:, 1], cells[:, 0]] = True
        return Verdict.TAKEN

    @property
    def coverage(self) -> float:
        """Share of the picture's cells in which a corner was taken."""
        return float(self.covered.mean())

    def tilted(self, at_least: float) -> tuple[int, int]:
        """How many views are tilted by that much about either axis of the board."""
        tilts = np.abs([view.tilt for view in self.views]).reshape(-1, 2)
        return int((tilts[:, 0] > at_least).sum()), int((tilts[:, 1] > at_least).sum())

    def _descriptor(self, view: View) -> FloatArray:
        """Place and size in shares of the picture, direction of the board's x, and tilt, shape (7,)."""
        corners = self._finder.corners_m[view.ids, :2]
        affine, _ = cv2.estimateAffinePartial2D(corners, view.pixels)
        if affine is None:  # all corners in a point: whatever it is, it is not new
            return np.full(7, np.inf)
        middle = affine @ np.append(self._finder.middle_m[:2], 1.0)
        scale = float(np.hypot(affine[0, 0], affine[1, 0]))
        turn = affine[:, 0] / scale * 0.1
        size = np.log(scale * 2 * self._finder.middle_m[0] / self._size[0]) * 0.3
        return np.concatenate([middle / self._size, [size], turn, view.tilt * 0.5])

    def _refuse_mirrored(self, image: ByteArray) -> None:
        """Every tenth picture without a board is looked at the other way round."""
        self._unseen += 1
        if self._unseen % 10 == 1 and self._finder.is_mirrored(image):
            raise CalibrationError(
                "the board is seen mirrored: print it again without mirroring, look at its printed side, and "
                "switch off flipping in the camera"
            )


def _still(view: View, before: View | None) -> bool:
    if before is None:
        return False
    _, now, then = np.intersect1d(view.ids, before.ids, return_indices=True)
    if not len(now):
        return False
    moved: Any = np.linalg.norm(view.pixels[now] - before.pixels[then], axis=1)
    return float(np.median(moved)) < STILL_PX
