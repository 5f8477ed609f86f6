"""Pictures with a number in them, which survives a video encoder. For both interpreters: numpy alone."""

from __future__ import annotations

import numpy as np

BITS = 12


def picture(number: int, height_px: int, width_px: int) -> np.ndarray:
    """RGB uint8: slopes of colour, and the number's bits as a row of bright and dark fields."""
    y, x = np.mgrid[0:height_px, 0:width_px]
    slopes = [60 + 80 * x / width_px, 60 + 80 * y / height_px, 100 + 40 * np.cos(number / 7) + 0 * x]
    image = np.stack(slopes, axis=-1).astype(np.uint8)
    for bit in range(BITS):
        left, right = bit * width_px // BITS, (bit + 1) * width_px // BITS
        image[height_px // 4 : height_px // 2, left:right] = 235 if number >> bit & 1 else 20
    return image


def number_of(image: np.ndarray) -> int:
    """The number in a picture, uint8 (H, W, 3)."""
    height, width = image.shape[:2]
    row = image[height * 3 // 8].mean(axis=-1)
    return sum(int(row[int((bit + 0.5) * width / BITS)] > 128) << bit for bit in range(BITS))


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / max(error, 1e-9)))
