"""Reads a LeRobotDataset v3.0, or a bare parquet file with its columns. No torch, no pandas.

Episodes may share data files and videos, as LeRobot writes them, or have them to themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.features import IMAGE_PREFIX
from robot.recording.files import read_json
from robot.recording.meta import EpisodeMeta, FileSlot
from robot.recording.stats import Stats, from_json
from robot.recording.video import read_video
from robot.seams import ByteArray


@dataclass(frozen=True, slots=True)
class _CachedTable:
    path: Path
    table: pa.Table


class Dataset:
    """A dataset on disk.

    Attributes:
        root: its folder, or the parquet file.
        info: content of ``info.json``; for a bare file what its columns say.
        episodes: the finished episodes, ``episodes[k].index == k``.
    """

    def __init__(self, root: Path) -> None:
        """Open a dataset.

        Raises:
            DatasetError: it is absent, incomplete, or of another version than v3.0.
        """
        self.root = root
        self._cache: _CachedTable | None = None
        if root.is_file():
            self.info, self.episodes = self._bare(root)
            return
        self.info = read_json(root / layout.INFO_FILE)
        version = self.info.get("codebase_version")
        if version != layout.CODEBASE_VERSION:
            raise DatasetError(
                f"{root} is a dataset of version {version!r}, only v3.0 is read (so101 dataset convert makes "
                "one of v2.0 and v2.1)"
            )
        check_info(root, self.info, ("fps", "features", "data_path", "total_episodes"))
        # Rows beyond the total belong to an episode whose writer was killed before it was finished.
        total = self.info["total_episodes"]
        self.episodes = [e for e in layout.read_episodes(root) if e.index < total]
        if [episode.index for episode in self.episodes] != list(range(total)):
            raise DatasetError(
                f"{root}: info.json counts {total} episodes, the table has {len(self.episodes)}"
            )

    @property
    def fps(self) -> float:
        """Frames per second."""
        return float(self.info["fps"])

    @property
    def total_frames(self) -> int:
        """Frames of all episodes."""
        return sum(episode.length for episode in self.episodes)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras with videos."""
        return tuple(
            name.removeprefix(IMAGE_PREFIX)
            for name, feature in self.info["features"].items()
            if feature.get("dtype") == "video" and name.startswith(IMAGE_PREFIX)
        )

    @property
    def units(self) -> str | None:
        """``degrees`` or ``m100_100`` where the dataset says so; LeRobot's own never do."""
        units = self.info.get(layout.EXTRA_KEY, {}).get("units")
        return None if units is None else str(units)

    @property
    def tasks(self) -> list[str]:
        """Task sentences by number."""
        return [] if self.root.is_file() else layout.read_tasks(self.root)

    def stats(self) -> dict[str, Stats]:
        """Statistics of the whole dataset by feature, from ``stats.json``."""
        return from_json(read_json(self.root / layout.STATS_FILE))

    def episode_stats(self) -> dict[int, dict[str, Stats]]:
        """Statistics of each episode, where its row of the table has them."""
        return layout.read_episode_stats(self.root)

    def episode(self, number: int) -> EpisodeMeta:
        """One row of the episode table.

        Raises:
            DatasetError: there is no such episode.
        """
        if not 0 <= number < len(self.episodes):
            raise DatasetError(f"no episode {number}: {self.root} has {len(self.episodes)}, counted from 0")
        return self.episodes[number]

    def load(self, number: int) -> dict[str, NDArray[Any]]:
        """All numeric columns of one episode.

        Returns:
            Column name -> array of shape (frames,) for scalars, (frames, n) for vectors.

        Raises:
            DatasetError: there is no such episode, or its file is broken or shorter than the table says.
        """
        mine = self._rows(number)
        return table_columns(mine)

    def cells(self, number: int, name: str) -> list[Any]:
        """One column of one episode as it is in the table, frame by frame; for what is no number.

        Raises:
            DatasetError: as :meth:`load`, or there is no such column.
        """
        mine = self._rows(number)
        if name not in mine.column_names:
            raise DatasetError(f"{self.root}: episode {number} has no {name}")
        cells: list[Any] = mine[name].to_pylist()
        return cells

    def frames(self, number: int, camera: str, start: int = 0, stop: int | None = None) -> ByteArray:
        """Pictures of one camera, RGB uint8 (frames, height, width, 3); frames ``start`` to ``stop``.

        Raises:
            DatasetError: no such episode or camera, or the video is broken or too short.
        """
        episode = self.episode(number)
        key = f"{IMAGE_PREFIX}{camera}"
        span = episode.videos.get(key)
        if span is None:
            raise DatasetError(f"no camera {camera!r}: {self.root} has {', '.join(self.cameras) or 'none'}")
        stop = episode.length if stop is None else stop
        if not 0 <= start < stop <= episode.length:
            raise DatasetError(f"frames {start}..{stop} are not within 0..{episode.length}")
        path = span.slot.path(self.root, str(self.info["video_path"]), key)
        return read_video(path, start_s=span.from_s + start / self.fps, count=stop - start, fps=self.fps)

    def _rows(self, number: int) -> pa.Table:
        """The rows of one episode."""
        episode = self.episode(number)
        table = self._table(self._data_path(episode))
        mine = table.filter(pc.equal(table["episode_index"], number))
        if mine.num_rows != episode.length:
            raise DatasetError(
                f"{self.root}: episode {number} has {mine.num_rows} rows, the table says {episode.length}"
            )
        return mine

    def _data_path(self, episode: EpisodeMeta) -> Path:
        if self.root.is_file():
            return self.root
        return episode.data.path(self.root, str(self.info["data_path"]))

    def _table(self, path: Path) -> pa.Table:
        """One data file; the last is kept, because episodes of one file are read one after the other."""
        if self._cache is None or self._cache.path != path:
            self._cache = _CachedTable(path, layout.read_table(path))
        return self._cache.table

    def _bare(self, path: Path) -> tuple[dict[str, Any], list[EpisodeMeta]]:
        table = self._table(path)
        missing = {"episode_index", "frame_index", "timestamp"} - set(table.column_names)
        if missing:
            raise DatasetError(f"{path} lacks the columns {', '.join(sorted(missing))} of a LeRobot dataset")
        numbers = table["episode_index"].to_numpy()
        if len(numbers) == 0 or (np.diff(numbers) < 0).any() or set(numbers) != set(range(numbers[-1] + 1)):
            raise DatasetError(f"{path}: episodes are not numbered 0, 1, 2 and so on, in this order")
        starts = np.searchsorted(numbers, np.arange(numbers[-1] + 2))
        episodes = [
            EpisodeMeta(k, (), int(starts[k + 1] - starts[k]), FileSlot(0, 0), int(starts[k]), {})
            for k in range(len(starts) - 1)
        ]
        features = {name: _describe(table.schema.field(name).type) for name in table.column_names}
        return {
            "fps": _frame_rate(path, table),
            "features": features,
            "total_episodes": len(episodes),
        }, episodes


def check_info(root: Path, info: Mapping[str, Any], needed: Iterable[str]) -> None:
    """Refuse an ``info.json`` by which nothing else can be read.

    Raises:
        DatasetError: a key that is needed is missing, or is something else than it should be; it is named.
    """
    path = root / layout.INFO_FILE
    for key in needed:
        if key not in info:
            raise DatasetError(f"{path} lacks {key!r}: restore it from a copy of the dataset")
        if key in ("total_episodes", "chunks_size") and not isinstance(info[key], int):
            raise DatasetError(f"{path} has {key} {info[key]!r}: `so101 dataset check {root}` counts")
    fps, features = info.get("fps"), info.get("features")
    if not isinstance(fps, int | float) or not fps > 0:
        raise DatasetError(f"{path} has fps {fps!r}: write the rate that it was recorded at")
    if not isinstance(features, dict):
        raise DatasetError(f"{path} has features {features!r}: restore it from a copy of the dataset")
    for name, feature in features.items():
        if not isinstance(feature, dict) or not {"dtype", "shape"} <= feature.keys():
            raise DatasetError(f"{path}: feature {name} lacks dtype or shape: restore it from a copy")
    if not isinstance(info.get(layout.EXTRA_KEY, {}), dict):
        raise DatasetError(
            f'{path}: "{layout.EXTRA_KEY}" must be an object, such as {{"units": "degrees"}}: mend it'
        )


def _frame_rate(path: Path, table: pa.Table) -> float:
    """Frames per second from the time stamps, to the nearest integer where that is within a percent."""
    later = pc.greater(table["frame_index"], 0)
    part = table.filter(later)
    if part.num_rows == 0:
        raise DatasetError(f"{path}: no episode has two frames, so the frame rate is unknown")
    rates = part["frame_index"].to_numpy() / part["timestamp"].to_numpy().astype(np.float64)
    rate = float(np.median(rates))
    if not np.isfinite(rate) or rate <= 0:
        raise DatasetError(f"{path}: time stamps do not grow")
    return float(round(rate)) if abs(rate - round(rate)) < 0.01 * rate else rate


def _describe(kind: pa.DataType) -> Mapping[str, Any]:
    if pa.types.is_fixed_size_list(kind):
        return {"dtype": str(kind.value_type), "shape": [kind.list_size], "names": None}
    return {"dtype": str(kind), "shape": [1], "names": None}


def table_columns(table: pa.Table) -> dict[str, NDArray[Any]]:
    """The numeric columns of a table: (rows,) for scalars, (rows, n) for vectors."""
    columns = {name: _to_numpy(table[name].combine_chunks()) for name in table.column_names}
    return {name: column for name, column in columns.items() if column is not None}


def _to_numpy(column: pa.Array) -> NDArray[Any] | None:
    """An array of shape (rows,) or (rows, n); ``None`` for text and the like."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        flat = column.flatten()
        if not _is_number(flat.type) or len(column) == 0 or len(flat) % len(column):
            return None
        return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(column), -1)
    return np.asarray(column.to_numpy(zero_copy_only=False)) if _is_number(kind) else None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))
