"""From points of the table whose pixels are known to the map of a plane over it."""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np

from calibration.camera_file import TableCalibration
from calibration.lens import Lens
from calibration.table import TableMap
from robot import printed
from robot.errors import CalibrationError
from robot.seams import FloatArray

Method = Literal["markers", "touch"]
MAX_RMS_MM: dict[Method, float] = {"markers": 2.0, "touch": 4.0}
"""Above these a map is refused; a finger is put down less exactly than a corner is seen."""
MIN_SPREAD_M = 0.03
"""Of the points across their narrower side (standard deviation): points in a line span no plane."""
LEFT_OUT_POINTS = 6
"""From so many points on the error at points left out is told."""
BASE_FRONT_X_M = 0.0513
"""Front of the base: the housing of the pan servo in the published model."""
_BOARD_TO_EDGE_MM = (
    printed.SHEET_MM[1] - printed.BOARD_LEFT_TOP_MM[1] - printed.SQUARES[1] * printed.SQUARE_MM / 2
)
BOARD_AT_BASE = (BASE_FRONT_X_M + _BOARD_TO_EDGE_MM / 1000.0, 0.0, 0.0)
"""x_m, y_m, yaw_deg of the board when the sheet's lower edge lies against the base's front, centred."""


def board_on_table(corners_m: FloatArray, middle_m: FloatArray, at: tuple[float, float, float]) -> FloatArray:
    """Base-frame x, y of the corners of a board that lies on the table, shape (n, 2).

    Args:
        corners_m: on the board, x right and y down as it is read, shape (n, 3).
        middle_m: of the board, likewise.
        at: x_m and y_m of its middle, and yaw_deg: with 0 its top points away from the base, more turns
            it to the left.
    """
    right, down = (corners_m - middle_m)[:, :2].T
    c, s = math.cos(math.radians(at[2])), math.sin(math.radians(at[2]))
    forward, left = -down, -right
    return np.column_stack([at[0] + c * forward - s * left, at[1] + s * forward + c * left])


def fit_table(
    points_m: FloatArray,
    pixels: FloatArray,
    lens: Lens | None,
    *,
    size_px: tuple[int, int],
    height_m: float,
    method: Method,
    date: str,
) -> TableCalibration:
    """The map of the plane at ``height_m`` from points that lie on the table itself.

    With a lens, the camera's pose is found, and with it the plane at any height. Without, the homography of
    the table is all that there is.

    Args:
        points_m: x, y in the base frame, shape (n, 2), n at least 4.
        pixels: where the camera sees them, as they come, shape (n, 2).
        lens: of the camera, ``None`` where it was not measured.
        size_px: width and height of the pictures.
        height_m: of the plane.
        method: where the points are from; it decides which residual is refused.
        date: for the file.

    Raises:
        CalibrationError: too few points, points in a line, a height without a lens, or a residual above
            :data:`MAX_RMS_MM`.
    """
    points, seen = np.asarray(points_m, dtype=np.float64), np.asarray(pixels, dtype=np.float64)
    if len(points) < 4:
        raise CalibrationError(f"{len(points)} points on the table are known, a map needs 4")
    if _in_a_line(points):
        raise CalibrationError("the points lie almost in a line: spread them over the table")
    if lens is None and height_m != 0.0:
        raise CalibrationError(
            f"a map for the plane {1000 * height_m:.0f} mm over the table needs the camera's lens: run "
            "`so101 calibrate camera` first, or take --height-m 0 for the table itself"
        )
    straight = seen if lens is None else lens.straighten(seen)
    error_mm = _residuals_mm(points, straight, points, straight, lens)
    rms_mm, worst = _rms(error_mm), int(error_mm.argmax())
    if rms_mm > MAX_RMS_MM[method]:
        x_m, y_m = points[worst]
        raise CalibrationError(
            f"the points lie {rms_mm:.1f} mm beside the map (rms), at most "
            f"{MAX_RMS_MM[method]:g} is accepted; the worst is "
            f"({x_m:.3f}, {y_m:.3f}) m with {error_mm[worst]:.1f} mm: "
            + (
                "touch it again"
                if method == "touch"
                else "is the sheet flat, and the lens measured and this camera's?"
            )
        )
    found = _plane(points, straight, lens, height_m)
    return TableCalibration(
        pixel_to_table=found.matrix, lens=lens, width_px=size_px[0], height_px=size_px[1], height_m=height_m,
        method=method, points=len(points), rms_mm=rms_mm, worst_mm=float(error_mm[worst]),
        left_out_rms_mm=_left_out_rms_mm(points, straight, lens), date=date,
    )  # fmt: skip


def _in_a_line(points: FloatArray) -> bool:
    across_m = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[1] / math.sqrt(len(points))
    return bool(across_m < MIN_SPREAD_M)


def _left_out_rms_mm(points: FloatArray, straight: FloatArray, lens: Lens | None) -> float | None:
    """Error at each point of a map from all the others; ``None`` where the others give none.

    Without one of five, the corners and the middle, two lines of three points may be left.
    """
    if len(points) < LEFT_OUT_POINTS:
        return None
    errors = []
    for i in range(len(points)):
        rest = np.arange(len(points)) != i
        if _in_a_line(points[rest]):
            return None
        try:
            errors.append(_residuals_mm(points[rest], straight[rest], points[~rest], straight[~rest], lens))
        except (CalibrationError, cv2.error):
            return None
    rms_mm = _rms(np.concatenate(errors))
    return rms_mm if math.isfinite(rms_mm) else None


def _plane(points: FloatArray, straight: FloatArray, lens: Lens | None, height_m: float) -> TableMap:
    """Map of straight pixels."""
    if lens is None:
        matrix, _ = cv2.findHomography(straight, points)
        if matrix is None:
            raise CalibrationError("these points give no map: spread them over the table")
        return TableMap(matrix)
    spatial = np.column_stack([points, np.zeros(len(points))])
    ok, turn, shift = cv2.solvePnP(spatial, straight, lens.matrix, None, flags=cv2.SOLVEPNP_IPPE)
    if not ok:
        raise CalibrationError("these points give no pose of the camera: spread them over the table")
    turn, shift = cv2.solvePnPRefineLM(spatial, straight, lens.matrix, None, turn, shift)
    rotation, _ = cv2.Rodrigues(turn)
    return TableMap.from_pinhole(lens.matrix, rotation.T, (-rotation.T @ shift).ravel(), height_m)


def _residuals_mm(
    points: FloatArray,
    straight: FloatArray,
    test_points: FloatArray,
    test_straight: FloatArray,
    lens: Lens | None,
) -> FloatArray:
    """Distances on the table of test points from a map that was made with others, shape (n,)."""
    found = _plane(points, straight, lens, 0.0)
    mapped = np.array([found.to_table(float(u), float(v)) for u, v in test_straight])
    return np.asarray(1000.0 * np.linalg.norm(mapped - test_points, axis=1))


def _rms(errors: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))
