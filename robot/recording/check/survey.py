"""A dataset's own account of itself, read without trusting it: what cannot be read becomes a finding."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.check.findings import REPAIR, Report, several
from robot.recording.convert_v2 import VERSIONS
from robot.recording.features import IMAGE_PREFIX
from robot.recording.files import read_json
from robot.recording.meta import EpisodeMeta, FileSlot
from robot.recording.reader import Dataset, check_info, table_columns

MOST_FPS = 1000
"""No camera of a robot is faster."""
COPY = "restore it from a copy of the dataset"

Columns = dict[str, NDArray[Any]]
"""The numeric columns of one episode: name -> (frames,) or (frames, n)."""


@dataclass
class Survey:
    """What ``meta`` says, as far as it can be read.

    Attributes:
        root: the dataset's folder, or a bare parquet file.
        info: content of ``info.json``.
        fps: what ``info.json`` says.
        hz: rows a second, by their own time stamps where these agree on another rate than ``info.json``.
        episodes: rows of the episode table that could be read, by number.
        tasks: number -> sentence; ``None`` where the file cannot be read.
        table_whole: whether every file of the episode table could be read.
    """

    root: Path
    info: dict[str, Any]
    fps: float
    episodes: list[EpisodeMeta]
    tasks: list[str] | None
    table_whole: bool = True
    hz: float = 0.0

    def __post_init__(self) -> None:
        self.hz = self.hz or self.fps

    @property
    def bare(self) -> bool:
        """Whether it is a parquet file alone."""
        return self.root.is_file()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras with videos."""
        features = self.info.get("features", {})
        return tuple(
            name.removeprefix(IMAGE_PREFIX)
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("dtype") == "video"
        )

    @property
    def units(self) -> str | None:
        """What the dataset says its units are."""
        said = self.info.get(layout.EXTRA_KEY, {}).get("units")
        return None if said is None else str(said)

    def data_file(self, slot: FileSlot) -> Path:
        """Where rows lie."""
        return self.root if self.bare else slot.path(self.root, str(self.info["data_path"]))

    def video_file(self, slot: FileSlot, key: str) -> Path:
        """Where pictures lie."""
        return slot.path(self.root, str(self.info.get("video_path") or layout.VIDEO_PATH), key)

    def rows(self, report: Report) -> Iterator[tuple[EpisodeMeta, Columns | None]]:
        """Every episode with its columns; ``None`` where they cannot be read, which is a finding.

        Rows are told apart by their place in the file, as LeRobot's reader does.
        """
        by_file: dict[Path, list[EpisodeMeta]] = {}
        for episode in self.episodes:
            by_file.setdefault(self.data_file(episode.data), []).append(episode)
        for path, here in by_file.items():
            here.sort(key=lambda episode: (episode.from_index, episode.index))
            table = self._read(path, here, report)
            start = 0
            for episode in here:
                part = None if table is None else table.slice(start, episode.length)
                start += episode.length
                yield episode, None if part is None else table_columns(part)

    def _read(self, path: Path, episodes: list[EpisodeMeta], report: Report) -> pa.Table | None:
        expected = sum(episode.length for episode in episodes)
        code, message, table = "", "", None
        if not path.is_file():
            code, message = "data_missing", f"no {path}, which has its rows"
        else:
            try:
                table = layout.read_table(path)
            except DatasetError as error:
                code, message = "parquet_broken", f"its rows cannot be read: {error}"
        if table is not None and table.num_rows != expected:
            whose = "it" if len(episodes) == 1 else f"episodes {several(e.index for e in episodes)}"
            code, table = "row_count", None
            message = f"{path} does not have the {expected} rows that the episode table says of {whose}"
        for episode in episodes if code else ():
            report.find(code, message, REPAIR, episode=episode.index)
        return table


def survey(root: Path, report: Report) -> Survey | None:
    """Read what a dataset says of itself; ``None`` where not even ``info.json`` can be read."""
    if root.is_file():
        return _bare(root, report)
    try:
        info = read_json(root / layout.INFO_FILE)
    except DatasetError as error:
        report.find("info_broken", str(error), COPY)
        return None
    if not _readable(root, info, report):
        return None
    episodes, whole = _episodes(root, report)
    seen = Survey(root, info, float(info["fps"]), episodes, _tasks(root, report), whole)
    report.episodes, report.frames = len(episodes), sum(e.length for e in episodes)
    _counts(seen, report)
    _leftovers(root, report)
    return seen


def _readable(root: Path, info: dict[str, Any], report: Report) -> bool:
    version = info.get("codebase_version")
    if version != layout.CODEBASE_VERSION:
        message = f"{root} is a dataset of version {version!r}, only v3.0 is read"
        remedy = f"`so101 dataset convert {root} NEW` makes one of v3.0 of it"
        if version not in VERSIONS:
            remedy = (
                f"LeRobot's own tools bring older ones to {VERSIONS[-1]}, which so101 dataset convert reads"
            )
        report.find("version", message, remedy)
        return False
    fps = info.get("fps")
    if not isinstance(fps, int | float) or not 0 < fps <= MOST_FPS:
        report.find("info_broken", f"info.json has fps {fps!r}", "write the rate that it was recorded at")
        return False
    try:
        check_info(root, info, ())
    except DatasetError as error:
        report.find("info_broken", str(error), COPY)
        return False
    try:
        for key in ("data_path", "video_path"):
            if key == "data_path" or info.get(key) is not None:
                FileSlot(0, 0).path(root, str(info[key]))
    except (KeyError, IndexError, ValueError) as error:
        report.find("info_broken", f"info.json has a wrong 'data_path' or 'video_path': {error}", COPY)
        return False
    return True


def _bare(path: Path, report: Report) -> Survey | None:
    try:
        dataset = Dataset(path)
    except DatasetError as error:
        report.find("parquet_broken", str(error), "restore the file from a copy")
        return None
    report.episodes, report.frames = len(dataset.episodes), dataset.total_frames
    return Survey(path, dict(dataset.info), dataset.fps, list(dataset.episodes), None)


def _episodes(root: Path, report: Report) -> tuple[list[EpisodeMeta], bool]:
    found: dict[int, EpisodeMeta] = {}
    whole = True
    for path in layout.episode_files(root):
        try:
            rows = layout.read_episode_file(path)
        except DatasetError as error:
            report.find("parquet_broken", f"rows of the episode table cannot be read: {error}", REPAIR)
            whole = False
            continue
        for row in rows:
            if row.index in found:
                message = f"{path}: episode {row.index} is listed twice"
                report.find("episode_table", message, REPAIR, episode=row.index)
            found[row.index] = row
    return [found[index] for index in sorted(found)], whole


def _tasks(root: Path, report: Report) -> list[str] | None:
    try:
        return layout.read_tasks(root)
    except DatasetError as error:
        report.find("parquet_broken", f"the tasks cannot be read: {error}", COPY)
        return None


def _counts(seen: Survey, report: Report) -> None:
    """Totals of ``info.json`` and the numbers of the episode table against each other."""
    numbers = [episode.index for episode in seen.episodes]
    if seen.table_whole and numbers != list(range(len(numbers))):
        gaps = sorted(set(range(max(numbers) + 1)) - set(numbers))
        report.find("episode_table", f"the episode table has no episode {several(gaps)}", REPAIR)
    elif seen.table_whole:
        first = 0
        for episode in seen.episodes:
            if episode.from_index != first:
                message = f"dataset_from_index is {episode.from_index}, {first} frames are before it"
                report.find("index_broken", message, REPAIR, episode=episode.index)
                break
            first = episode.to_index
    if not seen.table_whole:
        return
    actual = {
        "total_episodes": len(numbers),
        "total_frames": sum(episode.length for episode in seen.episodes),
        "total_tasks": None if seen.tasks is None else len(seen.tasks),
    }
    for key, count in actual.items():
        said = seen.info.get(key)
        if count is not None and said != count:
            report.find("info_counts", f"info.json has {key} {said}, there are {count}", REPAIR)


def _leftovers(root: Path, report: Report) -> None:
    """Scratch folders of writers that were killed; those of one at work are no fault."""
    aside = [path.name for path in sorted((root / "set_aside").glob("*"))]
    if aside:
        report.note("set_aside", f"{len(aside)} in set_aside: {several(aside)}")
    if not any((root / name).is_dir() for name in (".recording", ".merging", "images")):
        return
    if _being_written(root):
        report.note("being_written", f"{root} is being written; what is looked at are its finished episodes")
        return
    takes = sorted(path.name for path in (root / ".recording").glob("*"))
    if takes:
        message = f"{root}/.recording has {several(takes)}: a recording was killed before it was finished"
        report.find("leftovers", message, "`so101 dataset repair` recovers what was on the disk")
    if (root / ".merging").is_dir():
        report.find("leftovers", f"{root}/.merging is what a killed merge left", REPAIR)
    if (root / "images").is_dir() and any((root / "images").rglob("*.png")):
        message = f"{root}/images has pictures that LeRobot was killed before encoding"
        report.find("leftovers", message, "delete the folder, once you need no picture of it")


def _being_written(root: Path) -> bool:
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
