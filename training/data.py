"""Episodes as batches: windows of actions behind each observation, padded at the episode's end.

Everything but pictures is held in memory; pictures are gathered from memory-mapped caches. Which rows a
step sees is a function of (seed, step) alone, so a resumed run sees what an uninterrupted one would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.joints import N_JOINTS
from robot.recording.reader import Dataset
from robot.seams import ByteArray, Float32Array
from training.image_cache import open_images
from training.policies.base import PolicyShape, Stats

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

MIN_STD_USER = 0.5
"""Floor of a joint's standard deviation: one that hardly moved must not have its noise blown up."""
MIN_STD_M = 0.005
"""Floor of a coordinate's standard deviation."""
NO_PICKUP_STD_M = 1e6
"""Standard deviation where no dataset says where to pick up: any coordinate is then as good as none."""


@dataclass(frozen=True)
class Batch:
    """What one step of training sees, in user units and metres."""

    images: dict[str, ByteArray]
    """Camera -> (B, H, W, 3)."""
    state: Float32Array
    pickup_xy_m: Float32Array
    actions: Float32Array
    """(B, K, 6)."""
    valid: BoolArray
    """(B, K); False after the episode's end and from the first step that is not trained on."""
    pickup_given: BoolArray
    """(B,); False where the dataset does not say where to pick up."""


class Corpus:
    """All frames of some datasets, one after the other.

    Attributes:
        state: (N, 6) user units.
        action: (N, 6) user units.
        pickup_xy_m: (N, 2), 0 where the dataset does not say it.
        pickup_given: (N,) bool, whether it does.
        episode: (N,) number of the episode over all datasets.
        trained: (N,) bool, the column ``loss_mask``: False frames are observed but never a label.
        fps: frames per second, the same in all datasets.
    """

    def __init__(self, roots: Sequence[Path], policy: PolicyShape, cache_root: Path) -> None:
        """Read the datasets.

        Raises:
            DatasetError: one is broken, empty, lacks a column or camera, or differs in frame rate or units.
        """
        self.policy = policy
        parts = [_Part.read(Dataset(root)) for root in roots]
        rates = {part.dataset.fps for part in parts}
        if len(rates) != 1:
            raise DatasetError(f"datasets must have one frame rate, got {sorted(rates)} Hz")
        self.fps = rates.pop()
        self.state = np.concatenate([part.state for part in parts])
        self.action = np.concatenate([part.action for part in parts])
        pickup = np.concatenate([part.pickup for part in parts])
        self.pickup_given: BoolArray = np.isfinite(pickup).all(axis=1)
        self.pickup_xy_m = np.where(self.pickup_given[:, None], pickup, np.float32(0.0))
        self.trained = np.concatenate([part.trained for part in parts])
        lengths = [length for part in parts for length in part.lengths]
        self.episode: IntArray = np.repeat(np.arange(len(lengths)), lengths)
        ends = np.cumsum(lengths)
        self._first: IntArray = np.repeat(ends - lengths, lengths)
        self._end: IntArray = np.repeat(ends, lengths)
        self._part_starts = np.cumsum([0, *(len(part.state) for part in parts)])
        self._datasets = [part.dataset for part in parts]
        self._cache_root = cache_root
        self._images: list[dict[str, ByteArray]] = []

    def __len__(self) -> int:
        return len(self.state)

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return int(self.episode[-1]) + 1

    def fingerprint(self) -> str:
        """Hash of the data, the same wherever the datasets lie: all numbers, and the videos' sizes."""
        digest = hashlib.sha256(f"{self.fps}".encode())
        for column in (self.state, self.action, self.pickup_xy_m, self.trained, self.episode):
            digest.update(np.ascontiguousarray(column).tobytes())
        for dataset in self._datasets:
            for path in sorted(dataset.root.glob("videos/**/*.mp4")):
                digest.update(f"{path.relative_to(dataset.root).as_posix()} {path.stat().st_size}".encode())
        return digest.hexdigest()

    def open_images(self, progress: Callable[[int], None] = lambda frames: None) -> None:
        """Decode or open the pictures; needed before ``gather``."""
        sizes = {camera: self.policy.picture_size_px(camera) for camera in self.policy.cameras}
        self._images = [
            {
                camera: open_images(dataset, (camera,), *size, self._cache_root, progress)[camera]
                for camera, size in sizes.items()
            }
            for dataset in self._datasets
        ]

    def split(self, validation_share: float, seed: int) -> tuple[IntArray, IntArray]:
        """Rows to train on and rows of held-out episodes; rows that are not trained on are in neither."""
        held_out = round(validation_share * self.episodes)
        order = np.random.default_rng([seed, 0]).permutation(self.episodes)
        mask = np.isin(self.episode, order[:held_out])
        return np.flatnonzero(~mask & self.trained), np.flatnonzero(mask & self.trained)

    def stats(self, rows: IntArray) -> Stats:
        """Mean and standard deviation over some rows, with floors for numbers that hardly change."""

        def of(values: Float32Array, floor: float) -> tuple[Float32Array, Float32Array]:
            exact = values[rows].astype(np.float64)
            return exact.mean(0).astype(np.float32), np.maximum(exact.std(0), floor).astype(np.float32)

        state, action = of(self.state, MIN_STD_USER), of(self.action, MIN_STD_USER)
        rows = rows[self.pickup_given[rows]]
        if not len(rows):
            nothing = np.zeros(2, np.float32)
            return Stats(*state, *action, nothing, nothing + np.float32(NO_PICKUP_STD_M))
        return Stats(*state, *action, *of(self.pickup_xy_m, MIN_STD_M))

    def gather(self, rows: IntArray, camera_delay: IntArray | None = None) -> Batch:
        """The observations at ``rows`` and the actions from there on.

        Args:
            rows: (B,) frame numbers in this corpus.
            camera_delay: (B, cameras) frames by which each picture is older; stops at the episode's start.
        """
        steps = rows[:, None] + np.arange(self.policy.chunk_size)
        inside = steps < self._end[rows][:, None]
        steps = np.minimum(steps, self._end[rows][:, None] - 1)
        # What follows a mistake cannot be foretold from before it: the window ends at the first such frame.
        valid = np.logical_and.accumulate(inside & self.trained[steps], axis=1)
        images = {}
        for index, camera in enumerate(self.policy.cameras):
            seen = (
                rows if camera_delay is None else np.maximum(rows - camera_delay[:, index], self._first[rows])
            )
            images[camera] = self._pictures(camera, seen)
        given = self.pickup_given[rows]
        return Batch(images, self.state[rows], self.pickup_xy_m[rows], self.action[steps], valid, given)

    def _pictures(self, camera: str, rows: IntArray) -> ByteArray:
        result = np.empty((len(rows), *self.policy.picture_size_px(camera), 3), np.uint8)
        part = np.searchsorted(self._part_starts, rows, side="right") - 1
        for number in np.unique(part):
            mine = np.flatnonzero(part == number)
            source = self._images[number][camera]
            for position in mine:
                result[position] = source[rows[position] - self._part_starts[number]]
        return result


@dataclass(frozen=True)
class _Part:
    """The numbers of one dataset."""

    dataset: Dataset
    lengths: list[int]
    state: Float32Array
    action: Float32Array
    pickup: Float32Array
    trained: BoolArray

    @classmethod
    def read(cls, dataset: Dataset) -> _Part:
        if not dataset.episodes:
            raise DatasetError(f"{dataset.root} has no episodes")
        if dataset.units is None:
            raise DatasetError(
                f"{dataset.root} does not say in which units its joints are: make a copy that does, with "
                f"so101 dataset convert {dataset.root} NEW --units degrees (LeRobot since 0.4.4) or m100_100"
            )
        if dataset.units != "degrees":
            raise DatasetError(
                f"{dataset.root} is in {dataset.units}, not degrees: convert it first (so101 dataset convert "
                f"{dataset.root} NEW --to-degrees --calibration FILE)"
            )
        columns = [dataset.load(episode.index) for episode in dataset.episodes]

        def joined(name: str, width: int) -> Float32Array:
            if any(name not in column for column in columns):
                raise DatasetError(f"{dataset.root} lacks the column {name!r}")
            values = np.concatenate([column[name] for column in columns]).astype(np.float32)
            if values.shape[1:] != (width,) or not np.isfinite(values).all():
                raise DatasetError(
                    f"{dataset.root}: {name!r} must be {width} finite numbers a frame, not {values.shape[1:]}"
                )
            return values

        told = "observation.environment_state" in dataset.info["features"]
        unknown = np.full((dataset.total_frames, 2), np.nan, np.float32)
        masks = [column.get("loss_mask", np.ones(len(column["action"]))) for column in columns]
        return cls(
            dataset,
            [episode.length for episode in dataset.episodes],
            joined("observation.state", N_JOINTS),
            joined("action", N_JOINTS),
            joined("observation.environment_state", 2) if told else unknown,
            np.concatenate([np.asarray(mask).reshape(-1) for mask in masks]) > 0,
        )


def rows_of_step(rows: IntArray, batch_size: int, seed: int, step: int) -> IntArray:
    """The rows of one step: full batches of a permutation that depends on (seed, epoch) only."""
    size = min(batch_size, len(rows))
    epoch, index = divmod(step, len(rows) // size)
    order = np.random.default_rng([seed, 1, epoch]).permutation(len(rows))
    return rows[order[index * size : (index + 1) * size]]


def in_batches(rows: IntArray, batch_size: int, limit: int) -> Iterator[IntArray]:
    """Evenly spaced rows, at most ``limit``, in batches."""
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).astype(int))]
    for start in range(0, len(chosen), batch_size):
        yield chosen[start : start + batch_size]
