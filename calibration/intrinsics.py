"""From views of the board to a lens."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from calibration.lens import Lens
from calibration.views import GRID, BoardFinder, View, ViewCollector
from robot.errors import CalibrationError

MIN_VIEWS = 12
MIN_COVERAGE = 0.6
"""Share of the picture's cells: distortion is strongest at the rim and unknown where no corner was."""
TILT = 0.10
"""Change of scale across the board (about 10 degrees at 0.4 m) from which a view counts as tilted."""
MIN_TILTED = 3
"""About each axis. A board that always faces the camera cannot tell a long lens from a far board."""
MAX_RMS_PX = 1.0
"""Of all views together; a good webcam has 0.2 to 0.5."""
BAD_VIEW = 2.5
"""A view whose error is that many times the median's is dropped: bent paper, a corner taken for another."""
BAD_VIEW_PX = 0.3
"""Errors below this drop no view."""
MAX_FOCAL_STD = 0.01
"""Standard deviation of the focal length, as a share, above which the views did not settle it."""


@dataclass(frozen=True, slots=True)
class LensResult:
    """A lens and how well it fits.

    Attributes:
        lens: what was found.
        per_view_px: rms of each view that was used.
        dropped: how many views were not.
        focal_std_px: standard deviation of the focal length, from the fit.
    """

    lens: Lens
    per_view_px: tuple[float, ...]
    dropped: int
    focal_std_px: float


def missing(collector: ViewCollector) -> str | None:
    """What a person should do next so that the views suffice, ``None`` once they do."""
    sideways, upwards = collector.tilted(TILT)
    if collector.coverage < MIN_COVERAGE or len(collector.views) < MIN_VIEWS // 2:
        return f"show it {_emptiest(collector)}"
    if sideways < MIN_TILTED:
        return "tilt it: its left or right edge nearer to the camera"
    if upwards < MIN_TILTED:
        return "tilt it: its upper or lower edge nearer to the camera"
    if len(collector.views) < MIN_VIEWS:
        return "other distances, other tilts"
    return None


def _emptiest(collector: ViewCollector) -> str:
    """The part of the picture with the fewest cells taken."""
    rows, columns = np.array_split(np.arange(GRID[1]), 3), np.array_split(np.arange(GRID[0]), 3)
    shares = [[collector.covered[np.ix_(r, c)].mean() for c in columns] for r in rows]
    row, column = np.unravel_index(int(np.argmin(shares)), (3, 3))
    names = (("upper left corner", "upper edge", "upper right corner"),
             ("left edge", "middle", "right edge"),
             ("lower left corner", "lower edge", "lower right corner"))  # fmt: skip
    return f"near the {names[row][column]} of the picture"


def solve_lens(
    collector: ViewCollector, finder: BoardFinder, width_px: int, height_px: int, date: str
) -> LensResult:
    """Fit pinhole and distortion to the collected views.

    Args:
        collector: with the views.
        finder: that found them.
        width_px: of the pictures.
        height_px: of the pictures.
        date: for the file.

    Raises:
        CalibrationError: the views are too few or too alike, or the fit is poor; the message says what to do.
    """
    lack = missing(collector)
    if lack is not None:
        sideways, upwards = collector.tilted(TILT)
        raise CalibrationError(
            f"{len(collector.views)} views cover {100 * collector.coverage:.0f} % of the picture, "
            f"{sideways} are tilted sideways and {upwards} up or down; needed are {MIN_VIEWS}, "
            f"{100 * MIN_COVERAGE:.0f} % and {MIN_TILTED} each. Next: {lack}"
        )
    result = _fit(collector.views, finder, width_px, height_px)
    limit = max(BAD_VIEW * float(np.median(result.per_view_px)), BAD_VIEW_PX)
    good = [v for v, error in zip(collector.views, result.per_view_px, strict=True) if error <= limit]
    dropped = len(collector.views) - len(good)
    if dropped > len(collector.views) // 3 or len(good) < MIN_VIEWS // 2:
        raise CalibrationError(
            f"{dropped} of {len(collector.views)} views do not fit the others: is the sheet flat, on a "
            "board or glass? Begin again"
        )
    if dropped:
        result = _fit(good, finder, width_px, height_px)
    lens = result.lens
    if lens.rms_px > MAX_RMS_PX:
        raise CalibrationError(
            f"the corners lie {lens.rms_px:.2f} px from where this lens would show them, at most "
            f"{MAX_RMS_PX} is accepted: glue the sheet to something flat, hold it still, and begin again"
        )
    if result.focal_std_px > MAX_FOCAL_STD * lens.fx_px:
        raise CalibrationError(
            f"the focal length is {lens.fx_px:.0f} px, give or take {result.focal_std_px:.0f}: take more "
            "views that are tilted, some near and some far"
        )
    return replace(result, lens=lens.model_copy(update={"date": date}), dropped=dropped)


def _fit(views: list[View], finder: BoardFinder, width_px: int, height_px: int) -> LensResult:
    points = [finder.corners_m[view.ids].astype(np.float32) for view in views]
    pixels = [view.pixels.astype(np.float32) for view in views]
    try:
        rms, k, d, _, _, std, _, per_view = cv2.calibrateCameraExtended(
            points, pixels, (width_px, height_px), None, None
        )
    except cv2.error as error:
        raise CalibrationError(f"these views give no lens ({error.err}): begin again") from error
    k1, k2, p1, p2, k3 = np.asarray(d).ravel()[:5].tolist()
    numbers = [rms, *np.ravel(k), k1, k2, p1, p2, k3]
    if not np.isfinite(numbers).all() or min(k[0, 0], k[1, 1]) <= 0:
        raise CalibrationError("these views give no lens: begin again, with more tilted ones")
    lens = Lens(
        width_px=width_px, height_px=height_px,
        fx_px=float(k[0, 0]), fy_px=float(k[1, 1]), cx_px=float(k[0, 2]), cy_px=float(k[1, 2]),
        k1=k1, k2=k2, p1=p1, p2=p2, k3=k3,
        rms_px=float(rms), views=len(views),
    )  # fmt: skip
    return LensResult(lens, tuple(np.ravel(per_view).tolist()), 0, float(np.ravel(std)[0]))
