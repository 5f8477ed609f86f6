"""LeRobot's normalisations as one: ``normalised = (value - mean) / scale`` and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot.errors import ConfigError
from robot.seams import FloatArray
from training.lerobot.pretrained import EPSILON, FeatureStats

_ENDS: dict[str, tuple[str, str]] = {
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}
"""Statistics that become -1 and 1."""


@dataclass(frozen=True)
class Affine:
    """``(value - mean) / scale``, each of shape (n,)."""

    mean: FloatArray
    scale: FloatArray


def needed(mode: str) -> tuple[str, ...]:
    """The statistics that a normalisation needs."""
    if mode == "IDENTITY":
        return ()
    if mode == "MEAN_STD":
        return ("mean", "std")
    if mode in _ENDS:
        return _ENDS[mode]
    raise ConfigError(f"normalisation {mode!r} is not known: LeRobot 0.6 has MEAN_STD, {', '.join(_ENDS)}")


def normalising(mode: str, stats: FeatureStats, width: int) -> Affine:
    """What is done to an input of the network."""
    exact = restoring(mode, stats, width)
    return Affine(exact.mean, exact.scale + EPSILON) if mode == "MEAN_STD" else exact


def restoring(mode: str, stats: FeatureStats, width: int) -> Affine:
    """What is undone to its output: the same without the small number that keeps divisions finite.

    Raises:
        ConfigError: a number never changed, so that there is nothing to divide by.
    """
    if mode == "IDENTITY":
        return Affine(np.zeros(width), np.ones(width))
    if mode == "MEAN_STD":
        return Affine(stats["mean"], stats["std"])
    low, high = (stats[name] for name in _ENDS[mode])
    if (low == high).any():
        raise ConfigError(
            f"statistics {' and '.join(_ENDS[mode])} are the same in place {int((low == high).argmax())}: "
            "LeRobot divides by 1e-8 there, so nothing that the arm does would be what was trained"
        )
    return Affine((low + high) / 2.0, (high - low) / 2.0)
