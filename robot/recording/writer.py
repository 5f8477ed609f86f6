"""Writes episodes as a LeRobotDataset v3.0 that survives the death of its writer.

Every episode has a data file, one mp4 per camera and a file of the episode table to itself, which the
format allows. They are written below a scratch folder and moved into place when the episode is finished;
``info.json``, which says how many episodes there are, is replaced last. So after a power cut or SIGKILL
the dataset holds exactly its finished episodes, and opening it again removes what was left of the last.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.features import (
    ACTION,
    DEFAULT_FEATURES,
    ENVIRONMENT_STATE,
    IMAGE_PREFIX,
    STATE,
    Feature,
    arm_features,
    camera_feature,
    parse_features,
    table_schema,
    to_arrow,
)
from robot.recording.files import make_folder, publish, publish_json, read_json
from robot.recording.meta import EpisodeMeta, FileSlot, VideoSpan
from robot.recording.stats import ImageStats, Stats, column_stats, from_json, merge_stats, to_json
from robot.recording.video import CODECS, CodecName, VideoWriter
from robot.seams import ByteArray

Units = Literal["degrees", "m100_100"]
"""Unit of the five arm joints: degrees, or -100..100 of the swept range. The gripper is always 0..100."""

_SCRATCH = ".recording"
MERGE_SCRATCH = ".merging"
"""Folder in a dataset for videos on their way into it."""


class DatasetWriter:
    """Appends episodes to a dataset on disk; one writer per dataset, which a lock enforces.

    Use :meth:`create` or :meth:`open`, then for each episode :meth:`begin_episode`, :meth:`add_frame` and
    :meth:`save_episode` (or :meth:`discard_episode`), and :meth:`close` at the end.
    """

    def __init__(self, root: Path, lock: int, info: dict[str, Any]) -> None:
        self.root = root
        self._lock = lock
        self._info = info
        self._features = parse_features(info["features"])
        self._defaults = {feature.name for feature in DEFAULT_FEATURES}
        self._inputs = {f.name: f for f in self._features if f.name not in self._defaults}
        self._videos = [feature for feature in self._features if feature.is_video]
        self._schema = table_schema(self._features)
        self._scratch = root / _SCRATCH
        self._tasks = layout.read_tasks(root)
        self._stats: dict[str, Stats] = {}
        self._next_file = 0
        self._task: str | None = None
        self._columns: dict[str, list[NDArray[Any]]] = {}
        self._length = 0
        self._encoders: dict[str, VideoWriter] = {}
        self._image_stats: dict[str, ImageStats] = {}

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        fps: int,
        cameras: Mapping[str, tuple[int, int]],
        robot_type: str = "so_follower",
        units: Units = "degrees",
        calibration_sha256: str | None = None,
        environment_state: bool = True,
        extra_features: Iterable[Feature] = (),
        extra_info: Mapping[str, Any] | None = None,
        codec: CodecName = "h264",
    ) -> DatasetWriter:
        """Begin a new dataset.

        Args:
            root: folder that does not exist yet or is empty, but for what a killed writer left there.
            fps: frames per second.
            cameras: camera name -> (height_px, width_px), both even.
            robot_type: what LeRobot calls the arm.
            units: unit of the arm joints in state and action.
            calibration_sha256: hash of the calibration file that degrees were computed with.
            environment_state: whether frames say where to pick up (x, y in metres).
            extra_features: more columns, for instance ``Feature("loss_mask", "float32", (1,))``.
            extra_info: more keys of the ``so101`` block of ``info.json``.
            codec: ``h264`` or ``av1``.

        Raises:
            DatasetError: the folder is in use, or a feature cannot be written.
        """
        if fps < 1:
            raise DatasetError(f"fps must be at least 1, not {fps}")
        encoder = CODECS[codec]
        features = [
            *arm_features(environment_state=environment_state),
            *(
                camera_feature(name, height, width, encoder.info(height, width, fps))
                for name, (height, width) in cameras.items()
            ),
            *extra_features,
            *DEFAULT_FEATURES,
        ]
        names = [feature.name for feature in features]
        if len(set(names)) != len(names):
            raise DatasetError(f"feature names must differ, got {names}")
        info: dict[str, Any] = {
            "codebase_version": layout.CODEBASE_VERSION,
            "robot_type": robot_type,
            "total_episodes": 0,
            "total_frames": 0,
            "total_tasks": 0,
            "chunks_size": layout.CHUNKS_SIZE,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": fps,
            "splits": {"train": "0:0"},
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH if cameras else None,
            "features": {feature.name: feature.to_info() for feature in features},
            layout.EXTRA_KEY: {
                "units": units,
                "calibration_sha256": calibration_sha256,
                **(extra_info or {}),
            },
        }
        make_folder(root)
        lock = _acquire(root)
        try:
            if _occupied(root):
                raise DatasetError(f"{root} is not empty: choose another folder or open it to append")
            writer = cls(root, lock, info)
            writer._clear_scratch()
            publish_json(root / layout.INFO_FILE, info, writer._scratch)
        except BaseException:
            os.close(lock)
            raise
        return writer

    @classmethod
    def open(cls, root: Path) -> DatasetWriter:
        """Open a dataset to append to it, after removing what a killed writer left unfinished.

        Raises:
            DatasetError: there is no such dataset, it is not v3.0, another writer has it open, or it has
                columns that cannot be written.
        """
        lock = _acquire(root)
        try:
            info = read_json(root / layout.INFO_FILE)
            if info.get("codebase_version") != layout.CODEBASE_VERSION:
                raise DatasetError(
                    f"{root} is {info.get('codebase_version')!r}: only v3.0 can be appended to"
                )
            writer = cls(root, lock, info)
            writer._recover()
        except BaseException:
            os.close(lock)
            raise
        return writer

    @property
    def info(self) -> Mapping[str, Any]:
        """The content of ``info.json``."""
        return self._info

    @property
    def total_episodes(self) -> int:
        """Finished episodes."""
        return int(self._info["total_episodes"])

    @property
    def episode_length(self) -> int:
        """Frames of the episode being recorded."""
        return self._length

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras whose pictures every frame must bring."""
        return tuple(feature.name.removeprefix(IMAGE_PREFIX) for feature in self._videos)

    def begin_episode(self, task: str) -> None:
        """Start recording; ``task`` is a sentence that says what is done.

        Raises:
            DatasetError: an episode is already being recorded, or the task is empty.
        """
        if self._task is not None:
            raise DatasetError("an episode is being recorded: save or discard it first")
        if not task.strip():
            raise DatasetError("task: an episode needs a sentence that says what is done")
        self._scratch.mkdir(exist_ok=True)
        fps, codec = int(self._info["fps"]), self._codec()
        self._columns = {name: [] for name, feature in self._inputs.items() if not feature.is_video}
        self._image_stats = {feature.name: ImageStats() for feature in self._videos}
        self._encoders = {
            feature.name: VideoWriter(
                self._scratch / f"{feature.name}.mp4", feature.shape[0], feature.shape[1], fps, CODECS[codec]
            )
            for feature in self._videos
        }
        self._length = 0
        self._task = task

    def add_frame(
        self,
        state: ArrayLike,
        action: ArrayLike,
        images: Mapping[str, ByteArray],
        environment_state: ArrayLike | None = None,
        extra: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Add one frame; a frame that is refused leaves the episode as it was.

        Args:
            state: measured pose, user units, shape (6,).
            action: commanded pose, user units, shape (6,).
            images: camera name -> RGB uint8 (height, width, 3), exactly the cameras of the dataset.
            environment_state: pickup x, y in metres, shape (2,), where the dataset has it.
            extra: value of each extra feature, by name.

        Raises:
            DatasetError: no episode was begun, or a feature is missing, unknown, of the wrong type or
                shape, or not finite; the message names it.
        """
        if self._task is None:
            raise DatasetError("no episode is being recorded: call begin_episode first")
        given: dict[str, ArrayLike] = {STATE: state, ACTION: action}
        given.update({f"{IMAGE_PREFIX}{camera}": image for camera, image in images.items()})
        if environment_state is not None:
            given[ENVIRONMENT_STATE] = environment_state
        given.update(extra or {})
        if given.keys() != self._inputs.keys():
            for name in self._inputs.keys() - given.keys():
                raise DatasetError(f"{name}: the frame does not have it")
            unknown = sorted(given.keys() - self._inputs.keys())[0]
            raise DatasetError(f"{unknown}: the dataset has no such feature, only {', '.join(self._inputs)}")
        checked = {name: feature.check(given[name]) for name, feature in self._inputs.items()}
        for name, value in checked.items():
            if name in self._encoders:
                self._encoders[name].add(value)
                self._image_stats[name].add(value)
            else:
                self._columns[name].append(value)
        self._length += 1

    def save_episode(self) -> EpisodeMeta:
        """Finish the episode; when this returns it is on the disk and will be read.

        Raises:
            DatasetError: no episode was begun or it has no frames.
        """
        if self._task is None or self._length == 0:
            raise DatasetError("there are no frames to save")
        for encoder in self._encoders.values():
            encoder.close()
        columns = {name: np.stack(values) for name, values in self._columns.items()}
        image_stats = {name: images.stats() for name, images in self._image_stats.items()}
        videos = {name: self._scratch / f"{name}.mp4" for name in self._encoders}
        self._encoders = {}
        episode = self.commit_episode(self._task, columns, image_stats, videos)
        self._forget()
        return episode

    def commit_episode(
        self,
        task: str,
        columns: Mapping[str, NDArray[Any]],
        image_stats: Mapping[str, Stats],
        videos: Mapping[str, Path],
    ) -> EpisodeMeta:
        """Make an episode part of the dataset whose videos are encoded already.

        Args:
            task: what is done in it.
            columns: feature -> array of shape (frames, n), all but those that the writer fills in.
            image_stats: video feature -> statistics of its pictures.
            videos: video feature -> mp4 file on the dataset's file system, which is moved into the dataset.

        Raises:
            DatasetError: a feature is missing or unknown.
        """
        if {*columns, *videos} != self._inputs.keys() or image_stats.keys() != videos.keys():
            wrong = sorted({*columns, *videos} ^ self._inputs.keys())
            raise DatasetError(f"the episode's features are not the dataset's: {', '.join(wrong)}")
        fps, number, first = int(self._info["fps"]), self.total_episodes, int(self._info["total_frames"])
        length = len(columns[ACTION])
        slot = FileSlot.of(self._next_file, int(self._info["chunks_size"]))
        if task not in self._tasks:
            tasks = [*self._tasks, task]
            self._publish_table(layout.tasks_table(tasks), self.root / layout.TASKS_FILE)
            self._tasks = tasks
        whole = {**columns, **_default_columns(length, number, first, self._tasks.index(task), fps)}
        known = {**image_stats, **{name: column_stats(column) for name, column in whole.items()}}
        stats = {feature.name: known[feature.name] for feature in self._features}
        span = VideoSpan(slot, 0.0, length / fps)
        episode = EpisodeMeta(number, (task,), length, slot, first, dict.fromkeys(videos, span))

        arrays = [to_arrow(f, whole[f.name]) for f in self._features if not f.is_video]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        self._publish_table(table, slot.path(self.root, self._info["data_path"]))
        for name, video in videos.items():
            publish(video, slot.path(self.root, str(self._info["video_path"]), name))
        self._publish_table(
            layout.episode_table(episode, stats, slot), slot.path(self.root, layout.EPISODES_PATH)
        )
        self._count(episode, stats)
        return episode

    def discard_episode(self) -> None:
        """Throw the frames of the episode being recorded away; does nothing where there is none."""
        for encoder in self._encoders.values():
            encoder.abandon()
        self._forget()

    def close(self) -> None:
        """Discard an unfinished episode and let go of the dataset; may be called twice."""
        if self._lock < 0:
            return
        self.discard_episode()
        shutil.rmtree(self._scratch, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _codec(self) -> CodecName:
        for feature in self._videos:
            if feature.extra.get("info", {}).get("video.codec") == "av1":
                return "av1"
        return "h264"

    def _publish_table(self, table: pa.Table, path: Path) -> None:
        temporary = self._scratch / path.name
        pq.write_table(table, temporary, compression="snappy", use_dictionary=True)
        publish(temporary, path)

    def _count(self, episode: EpisodeMeta, stats: Mapping[str, Stats]) -> None:
        """Make a finished episode part of the dataset: totals and statistics, ``info.json`` last."""
        merged = {
            name: merge_stats([self._stats[name], part]) if name in self._stats else part
            for name, part in stats.items()
        }
        self._publish_totals(merged, episode.index + 1, episode.to_index)
        self._next_file += 1

    def _publish_totals(self, stats: dict[str, Stats], episodes: int, frames: int) -> None:
        info = {
            **self._info,
            "total_episodes": episodes,
            "total_frames": frames,
            "total_tasks": len(self._tasks),
            "splits": {"train": f"0:{episodes}"},
        }
        publish_json(self.root / layout.STATS_FILE, to_json(stats), self._scratch)
        publish_json(self.root / layout.INFO_FILE, info, self._scratch)
        self._stats, self._info = stats, info

    def _forget(self) -> None:
        self._task, self._length = None, 0
        self._columns, self._encoders, self._image_stats = {}, {}, {}

    def _recover(self) -> None:
        """Bring the folder to a state between two episodes."""
        self._clear_scratch()
        episodes = layout.read_episodes(self.root)
        whole: list[EpisodeMeta] = []
        for episode in episodes:
            if episode.index != len(whole) or not all(path.is_file() for path in self._files(episode)):
                break
            whole.append(episode)
        total = self.total_episodes
        if len(whole) < total:
            lost = len(whole)
            raise DatasetError(
                f"{self.root}: info.json counts {total} episodes but episode {lost} is not whole"
            )
        self._next_file = 1 + max((_number(e, self._info) for e in whole), default=-1)
        stats = self._read_stats()
        if whole and (len(whole) > total or stats is None):
            # Killed between the episode's row and info.json: everything of it is there, so it counts.
            # Or stats.json is lost: without it the next episode's statistics would pass for all.
            self._publish_totals(self._merge_stats(whole), len(whole), whole[-1].to_index)
        elif stats is not None:
            self._stats = stats
        left = FileSlot.of(self._next_file, int(self._info["chunks_size"]))
        leftovers = [left.path(self.root, self._info["data_path"])]
        leftovers += [left.path(self.root, str(self._info["video_path"]), f.name) for f in self._videos]
        for path in leftovers:
            path.unlink(missing_ok=True)

    def _clear_scratch(self) -> None:
        """Remove what killed writers and merges left, and begin with an empty scratch folder."""
        for name in (_SCRATCH, MERGE_SCRATCH):
            shutil.rmtree(self.root / name, ignore_errors=True)
        self._scratch.mkdir()

    def _read_stats(self) -> dict[str, Stats] | None:
        """The content of ``stats.json``; ``None`` unless it tells of every feature and of all frames."""
        try:
            stats = from_json(read_json(self.root / layout.STATS_FILE))
        except DatasetError:
            return None
        if not all({"mean", "count"} <= stats.get(feature.name, {}).keys() for feature in self._features):
            return None
        return stats if int(stats[ACTION]["count"].reshape(-1)[0]) == self._info["total_frames"] else None

    def _merge_stats(self, episodes: Sequence[EpisodeMeta]) -> dict[str, Stats]:
        """Statistics of the dataset from those in the table of episodes. Raises DatasetError without them."""
        known = layout.read_episode_stats(self.root)
        parts = [known[episode.index] for episode in episodes]
        try:
            return {f.name: merge_stats([part[f.name] for part in parts]) for f in self._features}
        except KeyError as error:
            raise DatasetError(
                f"{self.root}: neither stats.json nor each row of meta/episodes has statistics of {error}: "
                "restore them from a copy"
            ) from error

    def _files(self, episode: EpisodeMeta) -> list[Path]:
        files = [episode.data.path(self.root, self._info["data_path"])]
        pattern = str(self._info["video_path"])
        return files + [span.slot.path(self.root, pattern, key) for key, span in episode.videos.items()]


def _acquire(root: Path) -> int:
    """Lock a dataset's folder for one writer; the lock dies with the process."""
    try:
        descriptor = os.open(root, os.O_RDONLY)
    except FileNotFoundError as error:
        raise DatasetError(f"no {root}: this is not a LeRobot dataset") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise DatasetError(f"{root} is being written by another process") from error
    return descriptor


def _occupied(root: Path) -> bool:
    """Whether a folder holds more than what a writer leaves that is killed before it has made a dataset."""
    scratch = {root / _SCRATCH, root / MERGE_SCRATCH}
    meta = (root / layout.INFO_FILE).parent
    return any(
        path not in scratch and (path != meta or not path.is_dir() or any(path.iterdir()))
        for path in root.iterdir()
    )


def _number(episode: EpisodeMeta, info: Mapping[str, Any]) -> int:
    """Highest file number that an episode uses."""
    size = int(info["chunks_size"])
    slots: Sequence[FileSlot] = [episode.data, *(span.slot for span in episode.videos.values())]
    return max(slot.chunk * size + slot.file for slot in slots)


def _default_columns(length: int, episode: int, first: int, task: int, fps: int) -> dict[str, NDArray[Any]]:
    """The columns that the writer fills in, each of shape (length, 1)."""
    frames = np.arange(length, dtype=np.int64)
    columns: dict[str, NDArray[Any]] = {
        "timestamp": (frames / fps).astype(np.float32),
        "frame_index": frames,
        "episode_index": np.full(length, episode, dtype=np.int64),
        "index": frames + first,
        "task_index": np.full(length, task, dtype=np.int64),
    }
    return {name: column.reshape(-1, 1) for name, column in columns.items()}
