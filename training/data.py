"""Episodes as batches: windows of actions from each observation on, padded at the episode's end.

Datasets hold joint positions; a policy that moves the tool learns from where the commanded joints put it.

Everything but pictures is held in memory; pictures are gathered from memory-mapped caches. Which rows a
step sees is a function of (seed, step) alone, so a resumed run sees what an uninterrupted one would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot.errors import DatasetError
from robot.kinematics import Kinematics
from robot.recording.reader import Dataset
from robot.seams import ByteArray, Float32Array, FloatArray
from training.frames import BoolArray, Frames, IntArray
from training.image_cache import Pictures, check_space, missing_bytes, open_images
from training.policies.base import PolicyShape, Stats

MIN_STD_USER = 0.5
"""Floor of a joint's standard deviation: one that hardly moved must not have its noise blown up."""
MIN_STD_M = 0.005
"""Floor of a coordinate's standard deviation."""
MIN_STD_DELTA_M = 2e-4
"""Floor of the standard deviation of a tool's step: below are the roundings of inverse kinematics."""
NO_PICKUP_STD_M = 1e6
"""Standard deviation where no dataset says where to pick up: any coordinate is then as good as none."""


@dataclass(frozen=True)
class Batch:
    """What one step of training sees, in user units and metres.

    With S > 1 observation steps, pictures and state have an axis S behind the first, oldest first.
    """

    images: dict[str, ByteArray]
    """Camera -> (B, H, W, 3) or (B, S, H, W, 3)."""
    state: Float32Array
    """(B, 6) or (B, S, 6)."""
    pickup_xy_m: Float32Array
    """(B, 2); it is said once for all observations."""
    actions: Float32Array
    """(B, K, A) in the policy's action space, one ``frame_stride`` apart."""
    valid: BoolArray
    """(B, K); False after the episode's end and from the first step that is not trained on."""
    pickup_given: BoolArray
    """(B,); False where the dataset does not say where to pick up."""


class Corpus:
    """All frames of some datasets, one after the other.

    Attributes:
        policy: what the policy sees and answers; decides about the shape of batches.
        state: (N, 6) user units.
        action: (N, 6) commanded joints, user units, whatever the policy's action space.
        pickup_xy_m: (N, 2), 0 where the dataset does not say it.
        pickup_given: (N,) bool, whether it does.
        episode: (N,) number of the episode over all datasets.
        trained: (N,) bool, the column ``loss_mask``: False frames are observed but never a label.
        fps: frames per second, the same in all datasets.
    """

    def __init__(self, roots: Sequence[Path | Frames], policy: PolicyShape, cache_root: Path) -> None:
        """Read the datasets, those that have not been read yet.

        Raises:
            DatasetError: one is broken, empty, lacks a column or camera, or differs in frame rate or units.
        """
        self.policy = policy
        parts = [root if isinstance(root, Frames) else Frames.read(Dataset(root)) for root in roots]
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
        # What follows a mistake cannot be foretold from before it: labels end at the first such frame.
        masked = np.flatnonzero(~self.trained)
        next_masked = np.append(masked, len(self.trained))[
            np.searchsorted(masked, np.arange(len(self.trained)))
        ]
        self._label_end: IntArray = np.minimum(self._end, next_masked)
        self._tool_m = self._tool_path(policy.action_width) if self._moves_tool else None
        self._part_starts = np.cumsum([0, *(len(part.state) for part in parts)])
        self._datasets = [part.dataset for part in parts]
        self._cache_root = cache_root
        self._images: list[dict[str, Pictures]] = []

    def __len__(self) -> int:
        return len(self.state)

    @property
    def chunk_fps(self) -> float:
        """Steps of a chunk per second."""
        return self.fps / self.policy.frame_stride

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return int(self.episode[-1]) + 1

    @property
    def starts(self) -> IntArray:
        """The first row of each episode."""
        return np.unique(self._first)

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
        """Decode or open the pictures; needed before ``gather``.

        Args:
            progress: called with the number of frames that each decoded piece adds.

        Raises:
            DatasetError: a camera is missing, a video is broken, or the disk has no room for all of them.
        """
        sizes = {camera: self.policy.picture_size_px(camera) for camera in self.policy.cameras}
        check_space(
            sum(missing_bytes(dataset, sizes, self._cache_root) for dataset in self._datasets),
            self._cache_root,
        )
        self._images = [open_images(dataset, sizes, self._cache_root, progress) for dataset in self._datasets]

    def split(self, validation_share: float, seed: int) -> tuple[IntArray, IntArray]:
        """Rows to train on and rows of held-out episodes; rows without any label are in neither."""
        held_out = round(validation_share * self.episodes)
        order = np.random.default_rng([seed, 0]).permutation(self.episodes)
        mask = np.isin(self.episode, order[:held_out])
        every = np.arange(len(self))
        labelled = self._last_frames(every)[:, 0] < self._label_end
        return every[~mask & labelled], every[mask & labelled]

    def stats(self, rows: IntArray) -> Stats:
        """Mean and standard deviation over some rows, with floors for numbers that hardly change.

        Those of the actions are of each row's first action, so that an episode's end counts no more.
        """

        def of(values: Float32Array, floor: float) -> tuple[Float32Array, Float32Array]:
            exact = values.astype(np.float64)
            return exact.mean(0).astype(np.float32), np.maximum(exact.std(0), floor).astype(np.float32)

        state = of(self.state[rows], MIN_STD_USER)
        first = self._actions(rows, 1)[:, 0]
        action = of(first, MIN_STD_DELTA_M if self._moves_tool else MIN_STD_USER)
        rows = rows[self.pickup_given[rows]]
        if not len(rows):
            nothing = np.zeros(2, np.float32)
            return Stats(*state, *action, nothing, nothing + np.float32(NO_PICKUP_STD_M))
        return Stats(*state, *action, *of(self.pickup_xy_m[rows], MIN_STD_M))

    def gather(self, rows: IntArray, camera_delay: IntArray | None = None) -> Batch:
        """What the policy sees at ``rows``, with its observation steps before, and the actions from there on.

        Args:
            rows: (B,) frame numbers in this corpus.
            camera_delay: (B, cameras) frames by which each picture is older; stops at the episode's start.
        """
        shape = self.policy
        back = np.arange(shape.observation_steps - 1, -1, -1) * shape.frame_stride
        first = self._first[rows][:, None]
        seen = np.maximum(rows[:, None] - back, first)
        images = {}
        for index, camera in enumerate(shape.cameras):
            late = 0 if camera_delay is None else camera_delay[:, index, None]
            pictures = self._pictures(camera, np.maximum(seen - late, first).reshape(-1))
            images[camera] = pictures.reshape(*seen.shape, *pictures.shape[1:])
        state = self.state[seen]
        if shape.observation_steps == 1:
            images = {camera: pictures[:, 0] for camera, pictures in images.items()}
            state = state[:, 0]
        valid = self._last_frames(rows) < self._label_end[rows][:, None]
        actions = self._actions(rows, shape.chunk_size)
        return Batch(images, state, self.pickup_xy_m[rows], actions, valid, self.pickup_given[rows])

    @property
    def _moves_tool(self) -> bool:
        return self.policy.action_space != "joint_position"

    def _tool_path(self, width: int) -> FloatArray:
        """Where the commands put the tool, (N, width) metres."""
        return Kinematics().tool_positions_m(self.action.astype(np.float64))[:, :width]

    def _last_frames(self, rows: IntArray) -> IntArray:
        """(B, K) the last frame that each action of a chunk is made of."""
        steps = np.arange(self.policy.chunk_size) + int(self._moves_tool)
        return rows[:, None] + steps * self.policy.frame_stride

    def _actions(self, rows: IntArray, count: int) -> Float32Array:
        """(B, count, A) actions from ``rows`` on; past the episode's end the last goal, or no movement."""
        end, stride = self._end[rows][:, None], self.policy.frame_stride
        if self._tool_m is None:
            goals: Float32Array = self.action[np.minimum(rows[:, None] + np.arange(count) * stride, end - 1)]
            return goals
        steps = rows[:, None] + np.arange(count + 1) * stride
        moved = np.diff(self._tool_m[np.minimum(steps, end - 1)], axis=1)
        return np.where((steps[:, 1:] < end)[:, :, None], moved, 0.0).astype(np.float32)

    def _pictures(self, camera: str, rows: IntArray) -> ByteArray:
        result = np.empty((len(rows), *self.policy.picture_size_px(camera), 3), np.uint8)
        part = np.searchsorted(self._part_starts, rows, side="right") - 1
        for number in np.unique(part).tolist():
            mine = np.flatnonzero(part == number)
            inside = rows[mine] - self._part_starts[number]
            self._images[number][camera].read(inside, [result[position] for position in mine.tolist()])
        return result


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
