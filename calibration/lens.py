"""A camera's lens: pinhole and distortion, and pixels freed of the latter.

OpenCV's model (Brown): ``x' = x (1 + k1 r² + k2 r⁴ + k3 r⁶) + 2 p1 x y + p2 (r² + 2 x²)`` and likewise for y,
on the plane one focal length away. (0, 0) is the centre of the top left pixel.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from robot.config import Finite, Positive, StrictModel
from robot.seams import FloatArray

_PRECISE = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-9)


class Lens(StrictModel):
    """The block ``lens`` of a camera's calibration file."""

    model: Literal["opencv_5"] = "opencv_5"
    """Pinhole with k1, k2, p1, p2, k3."""
    width_px: int = Field(ge=16)
    height_px: int = Field(ge=16)
    fx_px: Positive
    fy_px: Positive
    cx_px: Finite
    cy_px: Finite
    k1: Finite = 0.0
    k2: Finite = 0.0
    p1: Finite = 0.0
    p2: Finite = 0.0
    k3: Finite = 0.0
    rms_px: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Distance of seen from computed corners, root of the mean square, over all views."""
    views: int = Field(0, ge=0)
    date: str = ""

    @property
    def matrix(self) -> FloatArray:
        """Camera matrix in pixels, shape (3, 3)."""
        return np.array([[self.fx_px, 0, self.cx_px], [0, self.fy_px, self.cy_px], [0, 0, 1]])

    @property
    def distortion(self) -> FloatArray:
        """OpenCV's (k1, k2, p1, p2, k3)."""
        return np.array([self.k1, self.k2, self.p1, self.p2, self.k3])

    def straighten(self, pixels: FloatArray) -> FloatArray:
        """Where a pinhole of the same matrix would see what is seen at these pixels, shape (n, 2)."""
        points = np.ascontiguousarray(pixels, dtype=np.float64).reshape(-1, 1, 2)
        straight = cv2.undistortImagePoints(points, self.matrix, self.distortion, None, _PRECISE)
        return np.asarray(straight, dtype=np.float64).reshape(-1, 2)

    def bend(self, pixels: FloatArray) -> FloatArray:
        """Inverse of :meth:`straighten`, shape (n, 2)."""
        flat = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
        sides = (flat - [self.cx_px, self.cy_px]) / [self.fx_px, self.fy_px]
        rays = np.column_stack([sides, np.ones(len(flat))])
        bent, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), self.matrix, self.distortion)
        return np.asarray(bent, dtype=np.float64).reshape(-1, 2)
