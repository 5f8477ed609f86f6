"""Which camera is which: a picture against what its camera has shown before.

Two webcams of one make differ in nothing but the port they are plugged into, and change places with it. Pure
functions, as in :mod:`robot.camera_health`; a reference is kept in the camera's calibration file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from robot.camera_health import luminance
from robot.config import RobotConfig
from robot.errors import ConfigError
from robot.seams import ByteArray, Float32Array

CLEARLY = 0.25
"""How much better, for each reference, exchanged pictures must fit to be called swapped. On the twin the
right ones fit better by 0.5 in working poses, by 0.06 in any pose at all."""
SWAPPED_LOOKS = 3
"""Looks in a row that must agree: somebody may stand before a lens in one of them."""
THUMBNAIL_PX = (32, 24)
"""Width and height of a thumbnail: coarse enough to forgive what lies on the table."""
_TRUST_LUMINANCE = 4.0
"""Spread, of 255, added to what a reference's own pictures showed: light changes, sensors have noise."""


def thumbnail(image: ByteArray) -> Float32Array:
    """Luminance averaged over areas, shape (24, 32)."""
    return np.asarray(cv2.resize(luminance(image), THUMBNAIL_PX, interpolation=cv2.INTER_AREA), np.float32)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a camera has shown while all was well and the arm moved about.

    Attributes:
        mean: of its thumbnails, shape (24, 32).
        std: spread of each value over the pictures: small at what is always there (the fingers before a
            wrist camera, the base and the bowl under an overhead one), large where things pass.
    """

    mean: Float32Array
    std: Float32Array

    @classmethod
    def of(cls, images: Iterable[ByteArray]) -> Reference:
        """From pictures in as many poses as there are; raises ValueError without any."""
        seen = np.stack([thumbnail(image) for image in images])
        return cls(seen.mean(axis=0), seen.std(axis=0))

    @classmethod
    def from_json(cls, value: Any) -> Reference:
        """Inverse of :meth:`as_json`. Raises ValueError for anything else."""
        try:
            mean, std = (np.array(value[key], dtype=np.float32) for key in ("mean", "std"))
        except (KeyError, TypeError) as error:
            raise ValueError("a camera's reference has mean and std, rows of numbers") from error
        shape = THUMBNAIL_PX[::-1]
        if mean.shape != shape or std.shape != shape or not np.isfinite([mean, std]).all() or std.min() < 0:
            raise ValueError(
                f"a camera's reference has mean and std of shape {shape}, finite, std not below 0"
            )
        return cls(mean, std)

    def as_json(self) -> dict[str, list[list[int]]]:
        """Rounded to whole steps of 255, as it stands in a camera's calibration file."""
        return {
            "mean": np.rint(self.mean).astype(int).tolist(),
            "std": np.rint(self.std).astype(int).tolist(),
        }


def likeness(image: ByteArray, reference: Reference) -> float:
    """Correlation, -1 to 1, of a picture with what is always there in a reference; 0 where either is flat.

    Exposure and contrast, which cameras change by themselves, make no difference.
    """
    weight = 1.0 / (np.square(reference.std, dtype=np.float64) + _TRUST_LUMINANCE**2)
    weight /= weight.sum()
    a, b = thumbnail(image).astype(np.float64), reference.mean.astype(np.float64)
    a, b = a - (weight * a).sum(), b - (weight * b).sum()
    size = float(np.sqrt((weight * a * a).sum() * (weight * b * b).sum()))
    return float((weight * a * b).sum()) / size if size > 1.0 else 0.0


def swapped(
    images: Mapping[str, ByteArray], references: Mapping[str, Reference]
) -> tuple[tuple[str, str], ...]:
    """Pairs of cameras, in the order of ``images``, that show what the other should.

    Args:
        images: camera name -> picture.
        references: camera name -> its reference; one of a pair is enough, but tells less surely.
    """
    fits = {
        (camera, owner): likeness(image, reference)
        for camera, image in images.items()
        for owner, reference in references.items()
    }

    def fit_better(a: str, b: str) -> bool:
        known = [(owner, other) for owner, other in ((a, b), (b, a)) if owner in references]
        better = sum(fits[other, owner] - fits[owner, owner] for owner, other in known)
        return bool(known) and better >= CLEARLY * len(known)

    return tuple((a, b) for a, b in combinations(images, 2) if fit_better(a, b))


def load_references(config: RobotConfig, folder: Path) -> dict[str, Reference]:
    """The references of a robot's cameras, from their calibration files; cameras without one are left out.

    Args:
        config: of the robot.
        folder: from which its relative paths start.

    Raises:
        ConfigError: a calibration file cannot be read, or its reference is none; it names the command that
            makes it anew.
    """
    found = {}
    for camera in config.cameras:
        if camera.calibration is None:
            continue
        path, broken = folder / camera.calibration, "camera"
        try:
            reference = json.loads(path.read_text(encoding="utf-8")).get("reference")
            broken = "reference"
            if reference is not None:
                found[camera.name] = Reference.from_json(reference)
        except (OSError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"the calibration of camera {camera.name}, {path}, cannot be used: {error}; "
                f"make it anew with `so101 calibrate {broken} {camera.name} --robot FILE`"
            ) from error
    return found
