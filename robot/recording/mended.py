"""What is whole of a broken dataset, as one that can be read: the source that a repaired one is made from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.check.pictures import scan
from robot.recording.check.survey import Survey
from robot.recording.features import IMAGE_PREFIX
from robot.recording.meta import EpisodeMeta, FileSlot, VideoSpan
from robot.recording.reader import Dataset, table_columns
from robot.recording.stats import Stats


class MendedDataset(Dataset):
    """A dataset read by the place of its rows, whatever their numbers say.

    Args:
        seen: what it says of itself.
        lost: episodes that are left out.
        found: episodes whose row of the table could not be read, as their files tell of them.
        pictures_counted: whether statistics of pictures in the table of episodes can be believed.
    """

    def __init__(
        self, seen: Survey, lost: Collection[int], found: list[EpisodeMeta], *, pictures_counted: bool
    ) -> None:
        self.root = seen.root
        self._cache = None
        self.info = {**seen.info, "video_path": seen.info.get("video_path") or layout.VIDEO_PATH}
        self._tasks = seen.tasks or []
        self._pictures_counted = pictures_counted
        self._starts: dict[int, int] = {}
        for here in _by_file(seen, seen.episodes).values():
            starts = np.cumsum([0, *(episode.length for episode in here)])
            self._starts |= {e.index: int(start) for e, start in zip(here, starts, strict=False)}
        self._starts |= {episode.index: 0 for episode in found}
        whole = [*(e for e in seen.episodes if e.index not in lost), *found]
        self.episodes = sorted(whole, key=lambda episode: episode.index)

    @property
    def tasks(self) -> list[str]:
        """Task sentences by number, as far as they can be read."""
        return self._tasks

    def episode_stats(self) -> dict[int, dict[str, Stats]]:
        """Statistics of each episode whose row of the table can be read."""
        if not self._pictures_counted:
            return {}
        try:
            return layout.read_episode_stats(self.root)
        except DatasetError:
            return {}

    def load(self, number: int) -> dict[str, NDArray[Any]]:
        """All numeric columns of one episode; see :meth:`Dataset.load`.

        Raises:
            DatasetError: there is no such episode, or its file is broken or too short.
        """
        episode = next((e for e in self.episodes if e.index == number), None)
        if episode is None:
            raise DatasetError(f"no episode {number} is whole in {self.root}")
        rows: pa.Table = self._table(self._data_path(episode)).slice(self._starts[number], episode.length)
        if rows.num_rows != episode.length:
            raise DatasetError(f"episode {number} has {rows.num_rows} rows, not {episode.length}")
        return table_columns(rows)


def mend_spans(seen: Survey, wrong: Collection[int]) -> set[int]:
    """Say anew where the pictures of episodes are whose spans are wrong; those for which nothing tells.

    A file that has exactly the pictures of its episodes has them in the episodes' order.
    """
    lost: set[int] = set()
    for camera in seen.cameras:
        key = f"{IMAGE_PREFIX}{camera}"
        files: dict[Path, list[EpisodeMeta]] = {}
        for episode in seen.episodes:
            if key in episode.videos:
                files.setdefault(seen.video_file(episode.videos[key].slot, key), []).append(episode)
        for path, here in files.items():
            if not {episode.index for episode in here} & set(wrong):
                continue
            if len(scan(path).times_s) != sum(episode.length for episode in here):
                lost |= {episode.index for episode in here} & set(wrong)
                continue
            first = 0
            for episode in sorted(here, key=lambda episode: (episode.from_index, episode.index)):
                ends = (first / seen.fps, (first + episode.length) / seen.fps)
                _set_span(seen, episode.index, key, ends)
                first += episode.length
    return lost


def mend_length(seen: Survey, number: int) -> bool:
    """Take an episode's length from its rows, where its pictures agree; whether they do."""
    place = next(k for k, episode in enumerate(seen.episodes) if episode.index == number)
    episode = seen.episodes[place]
    path = seen.data_file(episode.data)
    if len(_by_file(seen, seen.episodes)[path]) > 1:
        return False
    rows = layout.read_table(path, ["frame_index"]).num_rows
    videos = [seen.video_file(span.slot, key) for key, span in episode.videos.items()]
    if rows == 0 or any(len(scan(video).times_s) != rows for video in videos):
        return False
    seen.episodes[place] = replace(episode, length=rows)
    return True


def find_episodes(seen: Survey) -> tuple[list[EpisodeMeta], dict[int, str]]:
    """Episodes that the table should tell of and does not, from their own files.

    Returns:
        Those that are whole; and those that are not, by number, with the reason.

    Raises:
        DatasetError: a file of the table cannot be read, and told of episodes that have no files of their own
            with its number, as LeRobot's do.
    """
    known = {seen.data_file(episode.data) for episode in seen.episodes}
    taken = {episode.index for episode in seen.episodes}
    said = seen.info.get("total_episodes")
    missing = set(range(said if isinstance(said, int) else 0)) - taken
    found: dict[int, EpisodeMeta] = {}
    strange: Path | None = None
    for path in sorted(seen.root.glob("data/chunk-*/file-*.parquet")):
        episode = None if path in known else _from_files(seen, _slot(path))
        if episode is not None and episode.index in missing:
            found[episode.index] = episode
        elif path not in known:
            strange = path
    for path in layout.episode_files(seen.root):
        try:
            layout.read_episode_file(path)
        except DatasetError:
            slot = _slot(path)
            episode = _from_files(seen, slot) if seen.data_file(slot) not in known else None
            if episode is None or episode.index in taken:
                raise DatasetError(
                    f"{path} cannot be read, and the files of {seen.root} do not tell what it said: "
                    "restore it from a copy of the dataset"
                ) from None
            found[episode.index] = episode
    reason = f"the episode table has no row of it, and {strange} does not tell what it said"
    return list(found.values()), dict.fromkeys(missing - found.keys() if strange else (), reason)


def _slot(path: Path) -> FileSlot:
    return FileSlot(int(path.parent.name.rpartition("-")[2]), int(path.stem.rpartition("-")[2]))


def _from_files(seen: Survey, slot: FileSlot) -> EpisodeMeta | None:
    """The one episode of the files with a number; ``None`` where they do not hold just one, whole."""
    try:
        columns = table_columns(layout.read_table(seen.data_file(slot)))
        numbers, tasks = (np.unique(columns[name]) for name in ("episode_index", "task_index"))
        first = int(columns["index"][0])
    except (DatasetError, KeyError, IndexError):
        return None
    length = len(columns["episode_index"])
    keys = [f"{IMAGE_PREFIX}{camera}" for camera in seen.cameras]
    if any(len(scan(seen.video_file(slot, key)).times_s) != length for key in keys):
        return None
    sentences = seen.tasks or []
    if len(numbers) != 1 or len(tasks) != 1 or not 0 <= tasks[0] < len(sentences):
        return None
    span = VideoSpan(slot, 0.0, length / seen.fps)
    task = (sentences[int(tasks[0])],)
    return EpisodeMeta(int(numbers[0]), task, length, slot, first, dict.fromkeys(keys, span))


def _set_span(seen: Survey, number: int, key: str, ends_s: tuple[float, float]) -> None:
    place = next(k for k, episode in enumerate(seen.episodes) if episode.index == number)
    videos: Mapping[str, VideoSpan] = seen.episodes[place].videos
    span = VideoSpan(videos[key].slot, *ends_s)
    seen.episodes[place] = replace(seen.episodes[place], videos={**videos, key: span})


def _by_file(seen: Survey, episodes: list[EpisodeMeta]) -> dict[Path, list[EpisodeMeta]]:
    """Episodes of each data file, in the order of their rows."""
    files: dict[Path, list[EpisodeMeta]] = {}
    for episode in sorted(episodes, key=lambda episode: (episode.from_index, episode.index)):
        files.setdefault(seen.data_file(episode.data), []).append(episode)
    return files
