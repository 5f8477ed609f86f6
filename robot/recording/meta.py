"""The ``meta`` folder of a LeRobotDataset v3.0: where files lie, the table of episodes, the tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robot.errors import DatasetError
from robot.recording.stats import STAT_NAMES, Stats, from_json

CODEBASE_VERSION = "v3.0"
CHUNKS_SIZE = 1000
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO_FILE = "meta/info.json"
STATS_FILE = "meta/stats.json"
TASKS_FILE = "meta/tasks.parquet"
EXTRA_KEY = "so101"
"""Block of ``info.json`` with what LeRobot does not say: units, calibration, who made it."""


@dataclass(frozen=True, slots=True)
class FileSlot:
    """Number of a file: its chunk folder and its place in there."""

    chunk: int
    file: int

    @classmethod
    def of(cls, number: int, chunks_size: int = CHUNKS_SIZE) -> FileSlot:
        """The slot of the ``number``-th file of its kind."""
        return cls(number // chunks_size, number % chunks_size)

    def path(self, root: Path, pattern: str, video_key: str = "") -> Path:
        """Where the file lies, from a path pattern of ``info.json``."""
        return root / pattern.format(chunk_index=self.chunk, file_index=self.file, video_key=video_key)


@dataclass(frozen=True, slots=True)
class VideoSpan:
    """The part of an mp4 file that belongs to one episode."""

    slot: FileSlot
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class EpisodeMeta:
    """One row of the table of episodes."""

    index: int
    tasks: tuple[str, ...]
    length: int
    """Frames."""
    data: FileSlot
    from_index: int
    """Number of its first frame in the whole dataset."""
    videos: Mapping[str, VideoSpan]
    """Video feature key -> where its pictures are."""

    @property
    def to_index(self) -> int:
        """One past the number of its last frame in the whole dataset."""
        return self.from_index + self.length


def episode_table(meta: EpisodeMeta, stats: Mapping[str, Stats], slot: FileSlot) -> pa.Table:
    """The episode's row with all of LeRobot's columns; ``slot`` is where the row itself is written."""
    integer, real = pa.int64(), pa.float64()
    columns: dict[str, pa.Array] = {
        "episode_index": pa.array([meta.index], integer),
        "tasks": pa.array([list(meta.tasks)], pa.list_(pa.string())),
        "length": pa.array([meta.length], integer),
        "data/chunk_index": pa.array([meta.data.chunk], integer),
        "data/file_index": pa.array([meta.data.file], integer),
        "dataset_from_index": pa.array([meta.from_index], integer),
        "dataset_to_index": pa.array([meta.to_index], integer),
    }
    for key, span in meta.videos.items():
        columns[f"videos/{key}/chunk_index"] = pa.array([span.slot.chunk], integer)
        columns[f"videos/{key}/file_index"] = pa.array([span.slot.file], integer)
        columns[f"videos/{key}/from_timestamp"] = pa.array([span.from_s], real)
        columns[f"videos/{key}/to_timestamp"] = pa.array([span.to_s], real)
    for feature, part in stats.items():
        for name in STAT_NAMES:
            # Types follow the arrays: lists of integers or floats, three deep for images.
            columns[f"stats/{feature}/{name}"] = pa.array([part[name].tolist()])
    columns["meta/episodes/chunk_index"] = pa.array([slot.chunk], integer)
    columns["meta/episodes/file_index"] = pa.array([slot.file], integer)
    return pa.table(columns)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """One parquet file.

    Raises:
        DatasetError: the file is absent or broken (a killed LeRobot recorder leaves files without footer).
    """
    try:
        return pq.ParquetFile(path).read(columns=columns)
    except FileNotFoundError as error:
        raise DatasetError(f"no {path}: the dataset is incomplete") from error
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} is not a readable parquet file: {error}") from error


def read_episodes(root: Path) -> list[EpisodeMeta]:
    """All rows of ``meta/episodes``, by episode number; statistics are left on the disk.

    Raises:
        DatasetError: a file is broken, a column is missing or two rows have the same number.
    """
    found: dict[int, EpisodeMeta] = {}
    for path in episode_files(root):
        for meta in read_episode_file(path):
            if meta.index in found:
                raise DatasetError(f"{path}: episode {meta.index} is listed twice")
            found[meta.index] = meta
    return [found[index] for index in sorted(found)]


def episode_files(root: Path) -> list[Path]:
    """The files of the episode table, in order."""
    return sorted((root / "meta" / "episodes").glob("chunk-*/file-*.parquet"))


def read_episode_file(path: Path) -> list[EpisodeMeta]:
    """The rows of one file of the episode table; statistics are left on the disk.

    Raises:
        DatasetError: the file is broken or a column is missing.
    """
    try:
        names = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} is not a readable parquet file: {error}") from error
    wanted = [name for name in names if not name.startswith("stats/")]
    try:
        return [_from_row(row) for row in read_table(path, wanted).to_pylist()]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: a row of the episode table lacks {error}") from error


def _from_row(row: Mapping[str, Any]) -> EpisodeMeta:
    keys = [key.removeprefix("videos/").removesuffix("/from_timestamp") for key in row if _is_start(key)]
    return EpisodeMeta(
        index=int(row["episode_index"]),
        tasks=tuple(row["tasks"] or ()),
        length=int(row["length"]),
        data=FileSlot(int(row["data/chunk_index"]), int(row["data/file_index"])),
        from_index=int(row["dataset_from_index"]),
        videos={
            key: VideoSpan(
                FileSlot(int(row[f"videos/{key}/chunk_index"]), int(row[f"videos/{key}/file_index"])),
                float(row[f"videos/{key}/from_timestamp"]),
                float(row[f"videos/{key}/to_timestamp"]),
            )
            for key in keys
        },
    )


def _is_start(key: str) -> bool:
    return key.startswith("videos/") and key.endswith("/from_timestamp")


def read_episode_stats(root: Path, feature: str | None = None) -> dict[int, dict[str, Stats]]:
    """Statistics of every episode, by its number; of all features, or of one."""
    found: dict[int, dict[str, Stats]] = {}
    wanted = feature and ["episode_index", *(f"stats/{feature}/{name}" for name in STAT_NAMES)]
    for path in episode_files(root):
        for row in read_table(path, wanted or None).to_pylist():
            raw: dict[str, dict[str, Any]] = {}
            for key, value in row.items():
                if key.startswith("stats/"):
                    feature, _, name = key.removeprefix("stats/").rpartition("/")
                    raw.setdefault(feature, {})[name] = value
            found[int(row["episode_index"])] = from_json(raw)
    return found


def tasks_table(tasks: list[str]) -> pa.Table:
    """The tasks as pandas would write a frame with column ``task_index`` and index ``task``."""
    described = [
        ("task_index", "int64", "int64", "task_index"),
        ("task", "unicode", "object", "task"),
    ]
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [
            {
                "name": None,
                "field_name": None,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": {"encoding": "UTF-8"},
            }
        ],
        "columns": [
            {"name": name, "field_name": field, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
            for name, kind, numpy, field in described
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.3",
    }
    table = pa.table(
        {"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())}
    )
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def read_tasks(root: Path) -> list[str]:
    """Task sentences in the order of their numbers; empty where the dataset has none.

    Raises:
        DatasetError: the file is broken or the numbers are not 0, 1, 2 and so on.
    """
    path = root / TASKS_FILE
    if not path.is_file():
        return []
    table = read_table(path)
    sentences = "task" if "task" in table.column_names else "__index_level_0__"
    if not {"task_index", sentences} <= set(table.column_names):
        raise DatasetError(f"{path} lacks the columns task_index and task")
    numbers = table["task_index"].to_pylist()
    if not all(isinstance(number, int) for number in numbers):
        raise DatasetError(f"{path}: task_index is not a column of whole numbers")
    pairs = dict(zip(numbers, table[sentences].to_pylist(), strict=True))
    if sorted(pairs) != list(range(len(pairs))):
        raise DatasetError(f"{path}: task numbers {sorted(pairs)} are not 0..{len(pairs) - 1}")
    return [str(pairs[index]) for index in range(len(pairs))]
