"""Reads what LeRobot wrote before v3.0: a parquet file and an mp4 per episode, tables as JSON lines.

v2.0 and v2.1 differ in where statistics are, and those are not read: they are made anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.files import read_json
from robot.recording.meta import EpisodeMeta, FileSlot, VideoSpan
from robot.recording.reader import Dataset, check_info

VERSIONS = ("v2.0", "v2.1")
EPISODES_FILE = "meta/episodes.jsonl"
TASKS_FILE = "meta/tasks.jsonl"


class LegacyDataset(Dataset):
    """A dataset of v2.0 or v2.1, to be read like one of v3.0.

    Attributes:
        version: ``v2.0`` or ``v2.1``.
    """

    def __init__(self, root: Path) -> None:
        """Open a dataset.

        Raises:
            DatasetError: it is absent or incomplete, or of another version.
        """
        self.root = root
        self._cache = None
        self.info = read_json(root / layout.INFO_FILE)
        self.version = str(self.info.get("codebase_version"))
        if self.version not in VERSIONS:
            raise DatasetError(f"{root} is of version {self.version}, not {' or '.join(VERSIONS)}")
        check_info(root, self.info, ("fps", "features", "data_path", "total_episodes", "chunks_size"))
        for key in ("data_path", "video_path"):
            # A file is an episode, so the number of the one is that of the other.
            pattern = str(self.info.get(key) or "")
            self.info[key] = pattern.replace("episode_chunk", "chunk_index").replace(
                "episode_index", "file_index"
            )
        self._tasks = _read_tasks(root)
        self.episodes = self._read_episodes()

    @property
    def tasks(self) -> list[str]:
        """Task sentences by number."""
        return self._tasks

    def _read_episodes(self) -> list[EpisodeMeta]:
        path = self.root / EPISODES_FILE
        size: int = self.info["chunks_size"]
        videos = [name for name, f in self.info["features"].items() if f.get("dtype") == "video"]
        episodes: list[EpisodeMeta] = []
        first = 0
        rows = sorted(_json_lines(path), key=lambda row: int(row.get("episode_index", -1)))
        for number, row in enumerate(rows):
            if row.get("episode_index") != number or not isinstance(row.get("length"), int):
                raise DatasetError(f"{path}: episodes are not 0, 1, 2 and so on, each with its length")
            slot = FileSlot.of(number, size)
            length = int(row["length"])
            span = VideoSpan(slot, 0.0, length / self.fps)
            tasks = tuple(map(str, row.get("tasks") or ()))
            episodes.append(EpisodeMeta(number, tasks, length, slot, first, dict.fromkeys(videos, span)))
            first += length
        if len(episodes) != self.info["total_episodes"]:
            raise DatasetError(
                f"{self.root}: info.json counts {self.info['total_episodes']} episodes, {path.name} lists "
                f"{len(episodes)}"
            )
        return episodes


def open_any(root: Path) -> Dataset:
    """Open a dataset of v2.0, v2.1 or v3.0.

    Raises:
        DatasetError: it is absent, incomplete, or of another version.
    """
    if root.is_file():
        raise DatasetError(f"{root} is a file: give the folder of a LeRobot dataset")
    version = read_json(root / layout.INFO_FILE).get("codebase_version")
    return LegacyDataset(root) if version in VERSIONS else Dataset(root)


def _read_tasks(root: Path) -> list[str]:
    path = root / TASKS_FILE
    pairs = {row.get("task_index"): str(row.get("task")) for row in _json_lines(path)}
    if set(pairs) != set(range(len(pairs))):
        raise DatasetError(f"{path}: tasks are not numbered 0, 1, 2 and so on")
    return [pairs[number] for number in range(len(pairs))]


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
    except FileNotFoundError as error:
        raise DatasetError(f"no {path}: the dataset is incomplete") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise DatasetError(f"{path}: each line must hold a JSON object")
    return rows
