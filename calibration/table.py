"""Where a pixel lies on the table, and where a point on the table is seen.

A camera without lens distortion maps a plane to its picture by a homography, so nine numbers are the whole
calibration (Hartley and Zisserman, *Multiple View Geometry*, 2.3 and 8.1.1); where a lens bends, pixels are
straightened first. Pixels are counted as OpenCV does: (0, 0) is the centre of the top left pixel, u to the
right, v down.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from calibration.lens import Lens
from robot.errors import CalibrationError
from robot.seams import FloatArray

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
"""A 3x3 matrix row by row, as it stands in a camera's ``table_map``."""


class TableMap:
    """Homography between the pixels of one camera and the table plane, base frame, metres.

    Args:
        pixel_to_table: 3x3, takes (u, v, 1) to (x_m, y_m, 1) times a factor.
        lens: With which pixels are straightened before that; ``None``: the camera's pixels are straight.

    Raises:
        CalibrationError: the matrix is not 3x3, not finite or cannot be inverted.
    """

    def __init__(
        self, pixel_to_table: Sequence[Sequence[float]] | FloatArray, lens: Lens | None = None
    ) -> None:
        try:
            matrix = np.array(pixel_to_table, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise CalibrationError("a table map is nine numbers in three rows") from error
        if matrix.shape != (3, 3):
            raise CalibrationError(f"a table map has shape (3, 3), not {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise CalibrationError("a table map must be finite: calibrate the camera again")
        scale = float(np.linalg.norm(matrix))
        if scale == 0 or np.linalg.cond(matrix) > 1e12:
            raise CalibrationError("the table map cannot be inverted: calibrate the camera again")
        self._lens = lens
        self._to_table: FloatArray = matrix / scale
        self._to_pixel: FloatArray = np.asarray(np.linalg.inv(self._to_table), dtype=np.float64)

    @classmethod
    def from_pinhole(
        cls,
        intrinsics: FloatArray,
        rotation_base_camera: FloatArray,
        position_m: ArrayLike,
        height_m: float = 0.0,
        lens: Lens | None = None,
    ) -> TableMap:
        """The map of a pinhole camera whose pose is known.

        Args:
            intrinsics: 3x3 camera matrix in pixels, ``[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]``.
            rotation_base_camera: 3x3, takes directions in the camera's frame (x right, y down,
                z along the line of sight) to the base frame.
            position_m: Centre of the camera in the base frame, shape (3,).
            height_m: Of the plane, over the table.
            lens: As for the class.

        Raises:
            CalibrationError: the camera's centre lies in the table plane, or the shapes are wrong.
        """
        k = np.asarray(intrinsics, dtype=np.float64)
        r = np.asarray(rotation_base_camera, dtype=np.float64)
        c = np.asarray(position_m, dtype=np.float64)
        if k.shape != (3, 3) or r.shape != (3, 3) or c.shape != (3,):
            raise CalibrationError("a pinhole camera has (3, 3) intrinsics and rotation and a (3,) position")
        if abs(c[2] - height_m) < 1e-6:
            raise CalibrationError("the camera stands in the table plane and cannot see it")
        # A point (x, y, h) of the plane is seen at K R^T ((x, y, h) - C): h goes with the constant column.
        constant = np.array([0.0, 0.0, height_m]) - c
        table_to_camera = r.T @ np.column_stack([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], constant])
        return cls(np.linalg.inv(k @ table_to_camera), lens)

    @classmethod
    def from_mujoco(
        cls,
        fovy_deg: float,
        width_px: int,
        height_px: int,
        camera_xmat: FloatArray,
        camera_xpos_m: ArrayLike,
    ) -> TableMap:
        """The map of a MuJoCo camera, which looks along its own −z with y up and square pixels.

        Args:
            fovy_deg: Vertical field of view of the whole picture.
            width_px: Width of the picture.
            height_px: Height of the picture.
            camera_xmat: ``data.cam_xmat``, shape (9,) or (3, 3), in the base frame.
            camera_xpos_m: ``data.cam_xpos``, shape (3,), in the base frame.
        """
        focal_px = 0.5 * height_px / np.tan(np.radians(fovy_deg) / 2)
        intrinsics = np.array(
            [[focal_px, 0.0, (width_px - 1) / 2], [0.0, focal_px, (height_px - 1) / 2], [0.0, 0.0, 1.0]]
        )
        flip = np.diag([1.0, -1.0, -1.0])
        return cls.from_pinhole(intrinsics, np.reshape(camera_xmat, (3, 3)) @ flip, camera_xpos_m)

    @property
    def matrix(self) -> Matrix:
        """Straight pixel to table, row by row, scaled so that the last entry is 1 where it is not 0."""
        scale = self._to_table[2, 2] if abs(self._to_table[2, 2]) > 1e-12 else 1.0
        rows = (self._to_table / scale).tolist()
        return (tuple(rows[0]), tuple(rows[1]), tuple(rows[2]))

    def to_table(self, u_px: float, v_px: float) -> tuple[float, float]:
        """Table point (x_m, y_m) seen at a pixel.

        Raises:
            CalibrationError: the pixel lies on or above the horizon: no table there.
        """
        if self._lens is None:
            straight = np.array([u_px, v_px])
        else:
            straight = self._lens.straighten(np.array([[u_px, v_px]]))[0]
        x, y, w = self._to_table @ np.append(straight, 1.0)
        # The table in front of the camera has one sign of w, which any visible table point shares.
        if not np.isfinite(w) or w * self._side() <= 1e-12:
            raise CalibrationError(f"pixel ({u_px:.0f}, {v_px:.0f}) does not lie on the table")
        return float(x / w), float(y / w)

    def to_pixel(self, x_m: float, y_m: float) -> tuple[float, float]:
        """Pixel (u, v) at which a table point is seen, also outside the picture."""
        u, v, w = self._to_pixel @ np.array([x_m, y_m, 1.0])
        if abs(w) < 1e-12:
            raise CalibrationError(f"the table point ({x_m:.3f}, {y_m:.3f}) m is not in front of the camera")
        if self._lens is not None:
            u, v = self._lens.bend(np.array([[u / w, v / w]]))[0]
            return float(u), float(v)
        return float(u / w), float(v / w)

    def table_grid(self, width_px: int, height_px: int) -> FloatArray:
        """Table point of every pixel of a picture, shape (height, width, 2); not a number off the table."""
        u, v = np.meshgrid(np.arange(width_px, dtype=np.float64), np.arange(height_px, dtype=np.float64))
        if self._lens is not None:
            straight = self._lens.straighten(np.column_stack([u.ravel(), v.ravel()]))
            u, v = straight[:, 0].reshape(u.shape), straight[:, 1].reshape(v.shape)
        points = np.stack([u, v, np.ones_like(u)], axis=-1) @ self._to_table.T
        w = np.where(points[..., 2] * self._side() > 1e-12, points[..., 2], np.nan)
        grid: FloatArray = points[..., :2] / w[..., None]
        return grid

    def _side(self) -> float:
        """Sign of the homogeneous factor of pixels that look at the table (the base's surroundings)."""
        u, v, w = self._to_pixel @ np.array([0.25, 0.0, 1.0])
        if abs(w) < 1e-12:
            return 1.0
        return float(np.sign((self._to_table @ np.array([u / w, v / w, 1.0]))[2]))
