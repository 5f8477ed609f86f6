"""What of a dataset is finished: its episodes, their totals and statistics, and how one more is added.

An episode has a data file, one mp4 per camera and a file of the episode table to itself, which the format
allows. All are written elsewhere and moved into place; ``info.json``, which says how many episodes there are,
is replaced last, and first when an episode is removed. So whatever is read in between holds exactly the
finished episodes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.features import (
    ACTION,
    DEFAULT_FEATURES,
    SUCCESS,
    parse_features,
    table_schema,
    to_arrow,
)
from robot.recording.files import publish, publish_json, read_json, sync_file
from robot.recording.meta import EpisodeMeta, FileSlot, VideoSpan
from robot.recording.stats import Stats, column_stats, from_json, merge_stats, to_json


class Ledger:
    """The finished part of a dataset whose writer holds its lock.

    Attributes:
        root: the dataset's folder.
        info: content of ``info.json``.
        features: all columns.
        inputs: those that come with an episode, by name.
        videos: those with pictures.
        next_file: number of the next episode's files.
    """

    def __init__(self, root: Path, info: dict[str, Any], scratch: Path) -> None:
        """The ledger of ``info``; ``scratch`` is a folder on the dataset's file system.

        Raises:
            DatasetError: a column or the table of tasks cannot be read.
        """
        self.root = root
        self.info = info
        self.features = parse_features(info["features"])
        filled_in = {feature.name for feature in DEFAULT_FEATURES}
        self.inputs = {f.name: f for f in self.features if f.name not in filled_in}
        self.videos = [feature for feature in self.features if feature.is_video]
        self.next_file = 0
        self._schema = table_schema(self.features)
        self._scratch = scratch
        self._tasks = layout.read_tasks(root)
        self._stats: dict[str, Stats] = {}
        self._busy = threading.RLock()

    @property
    def fps(self) -> int:
        """Frames per second."""
        return int(self.info["fps"])

    @property
    def episodes(self) -> int:
        """How many are finished."""
        return int(self.info["total_episodes"])

    @property
    def has_labels(self) -> bool:
        """Whether its episodes can be labelled."""
        feature = self.inputs.get(SUCCESS)
        return feature is not None and feature.dtype == "int64" and feature.is_scalar

    def slot(self, number: int) -> FileSlot:
        """The place of the files with this number."""
        return FileSlot.of(number, int(self.info["chunks_size"]))

    def commit(
        self,
        task: str,
        columns: Mapping[str, NDArray[Any]],
        image_stats: Mapping[str, Stats],
        videos: Mapping[str, Path],
    ) -> EpisodeMeta:
        """Add an episode; see :meth:`robot.recording.writer.DatasetWriter.commit_episode`."""
        if {*columns, *videos} != self.inputs.keys() or image_stats.keys() != videos.keys():
            wrong = sorted({*columns, *videos} ^ self.inputs.keys())
            raise DatasetError(f"the episode's features are not the dataset's: {', '.join(wrong)}")
        with self._busy:
            fps, number, first = self.fps, self.episodes, int(self.info["total_frames"])
            length = len(columns[ACTION])
            slot = self.slot(self.next_file)
            if task not in self._tasks:
                tasks = [*self._tasks, task]
                self._publish_table(layout.tasks_table(tasks), self.root / layout.TASKS_FILE)
                self._tasks = tasks
            whole = {**columns, **_default_columns(length, number, first, self._tasks.index(task), fps)}
            known = {**image_stats, **{name: column_stats(column) for name, column in whole.items()}}
            stats = {feature.name: known[feature.name] for feature in self.features}
            span = VideoSpan(slot, 0.0, length / fps)
            episode = EpisodeMeta(number, (task,), length, slot, first, dict.fromkeys(videos, span))

            arrays = [to_arrow(f, whole[f.name]) for f in self.features if not f.is_video]
            table = pa.Table.from_arrays(arrays, schema=self._schema)
            self._publish_table(table, self._data_file(slot))
            for name, video in videos.items():
                publish(video, self._video_file(slot, name))
            self._publish_table(layout.episode_table(episode, stats, slot), self._row_file(slot))
            merged = {
                name: merge_stats([self._stats[name], part]) if name in self._stats else part
                for name, part in stats.items()
            }
            self._publish_stats(merged)
            self._publish_info(number + 1, episode.to_index)
            self.next_file += 1
            return episode

    def drop_last(self) -> EpisodeMeta:
        """Remove the newest episode. A kill on the way leaves it whole or gone.

        Raises:
            DatasetError: there is none, or it shares its files with others.
        """
        with self._busy:
            episodes = layout.read_episodes(self.root)[: self.episodes]
            if not episodes:
                raise DatasetError(f"{self.root} has no episode to drop")
            *rest, last = episodes
            if not self._alone(last, rest):
                raise DatasetError(
                    f"{self.root}: episode {last.index} shares its files with others: "
                    "remove it with `so101 dataset delete`"
                )
            row = self._row_file(last.data)
            merged = self._merge_stats(rest) if rest else {}
            self._publish_info(last.index, last.from_index)
            self._publish_stats(merged)
            # Until its row goes, a writer that is killed finds it whole and counts it again.
            for path in (row, *self._files(last)):
                path.unlink(missing_ok=True)
                sync_file(path.parent)
            self.next_file = _number(last, self.info)
            return last

    def label_last(self, success: int) -> EpisodeMeta:
        """Change the column ``success`` of the newest episode. A kill on the way leaves the old or the new.

        Raises:
            DatasetError: there is none, it shares its files with others, or a file cannot be read; nothing is
                changed.
            OSError: a file cannot be written; the next opening goes on from there.
        """
        with self._busy:
            episodes = layout.read_episodes(self.root)[: self.episodes]
            if not episodes or not self._alone(episodes[-1], episodes[:-1]):
                raise DatasetError(f"{self.root} has no newest episode with files of its own to be labelled")
            self._label(episodes, success)
            return episodes[-1]

    def recover(self) -> list[EpisodeMeta]:
        """Bring the folder to a state between two episodes, after a kill at any moment; its episodes.

        Raises:
            DatasetError: an episode that was finished is not whole, or statistics cannot be made again.
        """
        whole: list[EpisodeMeta] = []
        for episode in layout.read_episodes(self.root):
            if episode.index != len(whole) or not all(path.is_file() for path in self._files(episode)):
                break
            whole.append(episode)
        total = self.episodes
        if len(whole) < total:
            raise DatasetError(
                f"{self.root}: info.json counts {total} episodes but episode {len(whole)} is not whole"
            )
        self.next_file = 1 + max((_number(e, self.info) for e in whole), default=-1)
        stats = self._read_stats()
        if whole and (len(whole) > total or stats is None):
            # Killed between the episode's row and info.json: everything of it is there, so it counts.
            # Or stats.json is lost: without it the next episode's statistics would pass for all.
            self._publish_stats(self._merge_stats(whole))
            self._publish_info(len(whole), whole[-1].to_index)
        elif stats is not None:
            self._stats = stats
        self._finish_label(whole)
        left = self.slot(self.next_file)
        for path in (self._data_file(left), *(self._video_file(left, f.name) for f in self.videos)):
            path.unlink(missing_ok=True)
        return whole

    def _label(self, episodes: Sequence[EpisodeMeta], success: int) -> None:
        """Label the newest episode: its rows first, its own statistics last, so that half of it shows."""
        *rest, last = episodes
        path, row_path = self._data_file(last.data), self._row_file(last.data)
        table, row = layout.read_table(path), layout.read_table(row_path)
        column = np.full((last.length, 1), success, dtype=np.int64)
        stats = column_stats(column)
        others = [self._merge_stats(rest, SUCCESS)[SUCCESS]] if rest else []
        merged = merge_stats([*others, stats])
        table = _replaced(table, SUCCESS, to_arrow(self.inputs[SUCCESS], column))
        for name, value in stats.items():
            row = _replaced(row, f"stats/{SUCCESS}/{name}", pa.array([value.tolist()]))
        self._publish_table(table, path)
        self._publish_stats({**self._stats, SUCCESS: merged})
        self._publish_table(row, row_path)

    def _finish_label(self, episodes: Sequence[EpisodeMeta]) -> None:
        """Go on where a writer was killed that labelled the newest episode, if one was."""
        if not self.has_labels or not episodes or not self._alone(episodes[-1], episodes[:-1]):
            return
        last = episodes[-1].data
        said = layout.read_table(self._data_file(last), [SUCCESS])[SUCCESS].unique().to_pylist()
        counted = layout.read_table(self._row_file(last), [f"stats/{SUCCESS}/mean"])
        known = len(said) == 1 and isinstance(said[0], int) and counted.num_columns == 1
        if known and counted[0].to_pylist() != [said]:
            self._label(episodes, said[0])

    def _publish_table(self, table: pa.Table, path: Path) -> None:
        temporary = self._scratch / path.name
        pq.write_table(table, temporary, compression="snappy", use_dictionary=True)
        publish(temporary, path)

    def _publish_stats(self, stats: dict[str, Stats]) -> None:
        publish_json(self.root / layout.STATS_FILE, to_json(stats), self._scratch)
        self._stats = stats

    def _publish_info(self, episodes: int, frames: int) -> None:
        info = {
            **self.info,
            "total_episodes": episodes,
            "total_frames": frames,
            "total_tasks": len(self._tasks),
            "splits": {"train": f"0:{episodes}"},
        }
        publish_json(self.root / layout.INFO_FILE, info, self._scratch)
        self.info = info

    def _read_stats(self) -> dict[str, Stats] | None:
        """The content of ``stats.json``; ``None`` unless it tells of every feature and of all frames."""
        try:
            stats = from_json(read_json(self.root / layout.STATS_FILE))
        except DatasetError:
            return None
        if not all({"mean", "count"} <= stats.get(feature.name, {}).keys() for feature in self.features):
            return None
        return stats if int(stats[ACTION]["count"].reshape(-1)[0]) == self.info["total_frames"] else None

    def _merge_stats(self, episodes: Sequence[EpisodeMeta], feature: str | None = None) -> dict[str, Stats]:
        """Statistics, of one feature or all, from those in the table. Raises DatasetError without them."""
        known = layout.read_episode_stats(self.root, feature)
        parts = [known[episode.index] for episode in episodes]
        names = [f.name for f in self.features if feature in (f.name, None)]
        try:
            return {name: merge_stats([part[name] for part in parts]) for name in names}
        except KeyError as error:
            raise DatasetError(
                f"{self.root}: neither stats.json nor each row of meta/episodes has statistics of {error}: "
                "restore them from a copy"
            ) from error

    def _data_file(self, slot: FileSlot) -> Path:
        return slot.path(self.root, str(self.info["data_path"]))

    def _video_file(self, slot: FileSlot, key: str) -> Path:
        return slot.path(self.root, str(self.info["video_path"]), key)

    def _row_file(self, slot: FileSlot) -> Path:
        return slot.path(self.root, layout.EPISODES_PATH)

    def _files(self, episode: EpisodeMeta) -> list[Path]:
        videos = [self._video_file(span.slot, key) for key, span in episode.videos.items()]
        return [self._data_file(episode.data), *videos]

    def _alone(self, episode: EpisodeMeta, others: Sequence[EpisodeMeta]) -> bool:
        """Whether an episode has its files to itself, all with one number, as this writer makes them."""
        mine, row = {*self._files(episode)}, self._row_file(episode.data)
        return (
            row.is_file()
            and layout.read_table(row, ["episode_index"])["episode_index"].to_pylist() == [episode.index]
            and {span.slot for span in episode.videos.values()} <= {episode.data}
            and not any(mine & {*self._files(other)} for other in others)
        )


def _replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """A table with other values in a column that it has."""
    place = table.schema.get_field_index(name)
    field = table.schema.field(place)
    return table.set_column(place, field, values.cast(field.type))


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
