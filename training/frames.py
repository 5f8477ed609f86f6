"""The numbers of one dataset, all in memory: what was measured, what was commanded, what may be learned."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.joints import N_JOINTS
from robot.recording.found_units import units_found
from robot.recording.reader import Dataset
from robot.seams import Float32Array

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

STATE = "observation.state"
ACTION = "action"
PICKUP = "observation.environment_state"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frames:
    """One dataset's columns, episode after episode."""

    dataset: Dataset
    lengths: list[int]
    """Frames of each episode."""
    state: Float32Array
    """(N, 6) measured, user units."""
    action: Float32Array
    """(N, 6) commanded, user units."""
    pickup: Float32Array
    """(N, 2) metres; NaN where the dataset does not say where to pick up."""
    trained: BoolArray
    """(N,) the column ``loss_mask``: False frames are observed but never a label."""

    @classmethod
    def read(cls, dataset: Dataset) -> Frames:
        """Read a dataset's numbers.

        Raises:
            DatasetError: it is broken or empty, is not in degrees, lacks a column, or one has another width
                or numbers that are not finite.
        """
        if not dataset.episodes:
            raise DatasetError(f"{dataset.root} has no episodes")
        units = units_found(dataset)
        if units is None:
            raise DatasetError(
                f"{dataset.root} does not say in which units its joints are: make a copy that does, with "
                f"so101 dataset convert {dataset.root} NEW --units degrees (LeRobot since 0.4.4) or m100_100"
            )
        if units.units != "degrees":
            said = "" if dataset.units else f"--units {units.units} "
            raise DatasetError(
                f"{units.why}, not degrees: convert it first (so101 dataset convert {dataset.root} NEW "
                f"{said}--to-degrees --calibration FILE)"
            )
        if dataset.units is None:
            log.info("%s, and is read so", units.why)
        lengths = [episode.length for episode in dataset.episodes]
        columns = [dataset.load(episode.index) for episode in dataset.episodes]

        def joined(name: str, width: int) -> Float32Array:
            if any(name not in column for column in columns):
                raise DatasetError(f"{dataset.root} lacks the column {name!r}")
            values = np.concatenate([column[name] for column in columns]).astype(np.float32)
            if values.shape[1:] != (width,):
                raise DatasetError(
                    f"{dataset.root}: {name!r} must be {width} numbers a frame, not {values.shape[1:]}"
                )
            broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
            if len(broken):
                row = int(broken[0])
                number = int(np.searchsorted(np.cumsum(lengths), row, side="right"))
                raise DatasetError(
                    f"{dataset.root}: {name!r} is not finite in {len(broken)} frames, first in frame "
                    f"{row - sum(lengths[:number])} of episode {number}: take such episodes out (so101 "
                    f"dataset delete {dataset.root} --episodes {number})"
                )
            return values

        told = PICKUP in dataset.info["features"]
        unknown = np.full((dataset.total_frames, 2), np.nan, np.float32)
        masks = [column.get("loss_mask", np.ones(len(column[ACTION]))) for column in columns]
        return cls(
            dataset,
            lengths,
            joined(STATE, N_JOINTS),
            joined(ACTION, N_JOINTS),
            joined(PICKUP, 2) if told else unknown,
            np.concatenate([np.asarray(mask).reshape(-1) for mask in masks]) > 0,
        )
