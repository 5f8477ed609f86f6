"""Statistics of a dataset as LeRobot v3.0 keeps them: min, max, mean, std, count and five quantiles.

Quantiles of one episode are exact. Those of several episodes are envelopes (the lowest of the low ones,
the highest of the high ones, the weighted mean of the medians), because they must be mergeable without
reading the data again; LeRobot's are envelopes too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.seams import ByteArray, FloatArray

QUANTILES: dict[str, float] = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
STAT_NAMES: tuple[str, ...] = ("min", "max", "mean", "std", "count", *QUANTILES)

Stats = dict[str, NDArray[Any]]
"""Statistics of one feature: name -> array of shape (n,), (3, 1, 1) for images, (1,) for ``count``."""

_IMAGE_SIDE_PX = 150
"""Pictures are thinned to about this size before they are counted."""


def column_stats(column: NDArray[Any]) -> Stats:
    """Statistics of one numeric column of one episode, shape (frames, n)."""
    values = column.astype(np.float64)
    exact = np.int64 if column.dtype.kind in "iu" else np.float64
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    stats: Stats = {
        "min": values.min(axis=0).astype(exact),
        "max": values.max(axis=0).astype(exact),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "count": np.array([len(values)], dtype=np.int64),
    }
    stats.update(zip(QUANTILES, quantiles, strict=True))
    return stats


class ImageStats:
    """Collects one camera's pictures of one episode; values are in 0..1, one number per channel."""

    def __init__(self) -> None:
        self._counts = np.zeros((3, 256))
        self._frames = 0

    def add(self, image: ByteArray) -> None:
        """Count one picture, uint8 (height, width, 3)."""
        step = max(1, max(image.shape[:2]) // _IMAGE_SIDE_PX)
        small = np.ascontiguousarray(image[::step, ::step])
        for channel in range(3):
            self._counts[channel] += cv2.calcHist([small], [channel], None, [256], [0, 256]).reshape(-1)
        self._frames += 1

    def stats(self) -> Stats:
        """Statistics of all pictures so far, shape (3, 1, 1); at least one must have been added."""
        levels = np.arange(256) / 255.0
        weights = self._counts / self._counts.sum(axis=1, keepdims=True)
        mean = weights @ levels
        variance = np.maximum(weights @ levels**2 - mean**2, 0.0)
        cumulative = np.cumsum(weights, axis=1)
        seen = self._counts > 0
        rows: dict[str, FloatArray] = {
            "min": levels[seen.argmax(axis=1)],
            "max": levels[255 - seen[:, ::-1].argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt(variance),
        }
        for name, quantile in QUANTILES.items():
            # A hair below the quantile: the cumulative sum of exactly q may round to just under q.
            rows[name] = levels[(cumulative >= quantile - 1e-12).argmax(axis=1)]
        stats: Stats = {name: row.reshape(3, 1, 1) for name, row in rows.items()}
        stats["count"] = np.array([self._frames], dtype=np.int64)
        return stats


def merge_stats(parts: Sequence[Stats]) -> Stats:
    """Statistics of several episodes from those of each; mean and std are exact, quantiles envelopes.

    Raises:
        DatasetError: the parts have different shapes, or none was given.
    """
    if not parts:
        raise DatasetError("no statistics to merge")
    if len({part["mean"].shape for part in parts}) != 1:
        raise DatasetError("statistics of different shapes cannot be merged")
    counts = np.array([float(part["count"].reshape(-1)[0]) for part in parts])
    weights = (counts / counts.sum()).reshape(-1, *([1] * parts[0]["mean"].ndim))
    means = np.stack([part["mean"] for part in parts])
    variances = np.stack([part["std"] for part in parts]) ** 2
    mean = (weights * means).sum(axis=0)
    merged: Stats = {
        "min": np.stack([part["min"] for part in parts]).min(axis=0),
        "max": np.stack([part["max"] for part in parts]).max(axis=0),
        "mean": mean,
        "std": np.sqrt((weights * (variances + (means - mean) ** 2)).sum(axis=0)),
        "count": np.array([int(counts.sum())], dtype=np.int64),
    }
    for name, quantile in QUANTILES.items():
        if all(name in part for part in parts):
            stack = np.stack([part[name] for part in parts])
            middle = (weights * stack).sum(axis=0)
            merged[name] = (
                stack.min(axis=0) if quantile < 0.5 else stack.max(axis=0) if quantile > 0.5 else middle
            )
    return merged


def to_json(stats: Mapping[str, Stats]) -> dict[str, dict[str, Any]]:
    """Statistics of all features as ``stats.json`` holds them."""
    return {
        name: {key: part[key].tolist() for key in STAT_NAMES if key in part} for name, part in stats.items()
    }


def from_json(raw: Mapping[str, Mapping[str, Any]]) -> dict[str, Stats]:
    """Inverse of :func:`to_json`.

    Raises:
        DatasetError: an entry is not a list of numbers.
    """
    try:
        return {
            name: {key: np.asarray(value) for key, value in part.items() if key in STAT_NAMES}
            for name, part in raw.items()
        }
    except (ValueError, AttributeError) as error:
        raise DatasetError(f"stats.json: {error}") from error
