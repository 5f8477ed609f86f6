"""Takes on their way into a dataset: a folder each, below ``.recording``, that says how far it has come.

``take.json`` is written when a take begins, ``ended.json`` when it ends, and ``committing.json`` names the
episode that it becomes before the first file of that is moved into the dataset. A folder that is not called
``take-…`` any more is on its way out.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from robot.errors import DatasetError
from robot.recording.files import make_folder, publish_json, read_json, sync_file

SCRATCH = ".recording"
MERGE_SCRATCH = ".merging"
"""Folder in a dataset for videos on their way into it."""
SET_ASIDE = "set_aside"
"""Folder in a dataset for takes that could not become episodes."""

Label = Literal["success", "failure"]
"""What a person says of an episode."""

_PREFIX = "take-"
_ROOM = 128
"""Bytes that :class:`Ended` takes at most."""
_TAKE, _ENDED, _COMMITTING, _REASON = "take.json", "ended.json", "committing.json", "reason.json"


@dataclass(frozen=True, slots=True)
class Begun:
    """What is known of a take from its start."""

    task: str
    record_bytes: int
    """Size of a record of its row log."""
    keep: bool
    """Whether it is worth keeping when its writer is killed before its end."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a take's end says."""

    length: int
    """Frames."""
    label: Label | None


@dataclass(frozen=True, slots=True)
class Committing:
    """Which episode a take becomes."""

    episode: int
    file: int
    """Number of its data file, of its videos and of its row in the episode table."""


@dataclass(frozen=True, slots=True)
class TakeFolder:
    """One take on disk."""

    path: Path

    @classmethod
    def make(cls, scratch: Path, number: int) -> TakeFolder:
        """A new folder; raises OSError where it cannot be made."""
        path = scratch / f"{_PREFIX}{number:06d}"
        path.mkdir()
        return cls(path)

    @property
    def number(self) -> int:
        """Takes are numbered in the order they began in."""
        return int(self.path.name.removeprefix(_PREFIX))

    @property
    def rows(self) -> Path:
        """The row log."""
        return self.path / "rows.bin"

    def video(self, key: str) -> Path:
        """The growing video of a feature."""
        return self.path / f"{key}.mp4"

    def begin(self, begun: Begun) -> None:
        """Write down what is known at the start; :meth:`sync` puts it on the disk."""
        self._write(_TAKE, asdict(begun))
        _fill(self.path / f"{_ENDED}.part", {})

    def end(self, ended: Ended) -> None:
        """Write down that the take has ended, also on a full disk; :meth:`sync` puts it on the disk."""
        room = self.path / f"{_ENDED}.part"
        _fill(room, asdict(ended))
        room.replace(self.path / _ENDED)

    def label(self, label: Label | None) -> None:
        """Change the label of an ended take that is here still; raises OSError where it cannot be written."""
        ended = self.ended()
        if ended is not None:
            _fill(self.path / _ENDED, asdict(replace(ended, label=label)))

    def commit(self, committing: Committing) -> None:
        """Write down, on the disk, which episode the take becomes."""
        publish_json(self.path / _COMMITTING, asdict(committing), self.path.parent)

    def sync(self) -> None:
        """Wait until the folder and what the take says of itself is on the disk."""
        for name in (_TAKE, _ENDED):
            if (self.path / name).exists():
                sync_file(self.path / name)
        sync_file(self.path)
        sync_file(self.path.parent)

    def begun(self) -> Begun | None:
        """What was written at the start; ``None`` where that never reached the disk."""
        raw = self._read(_TAKE)
        try:
            return Begun(str(raw["task"]), int(raw["record_bytes"]), bool(raw["keep"]))
        except (KeyError, TypeError, ValueError):
            return None

    def ended(self) -> Ended | None:
        """What was written at the end; ``None`` of an open take."""
        raw = self._read(_ENDED)
        label: Label | None = "success" if raw.get("label") == "success" else None
        if raw.get("label") == "failure":
            label = "failure"
        try:
            return Ended(int(raw["length"]), label)
        except (KeyError, TypeError, ValueError):
            return None

    def committing(self) -> Committing | None:
        """Which episode it was becoming; ``None`` where nothing of it was moved yet."""
        raw = self._read(_COMMITTING)
        try:
            return Committing(int(raw["episode"]), int(raw["file"]))
        except (KeyError, TypeError, ValueError):
            return None

    def remove(self) -> None:
        """Throw the take away, at once for whoever opens the dataset after a kill."""
        gone = self.path.with_name(self.path.name.replace(_PREFIX, "gone-"))
        self.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def set_aside(self, root: Path, reason: Mapping[str, Any]) -> Path:
        """Move the take out of the way, with the reason beside it; where it lies now."""
        self._write(_REASON, reason)
        make_folder(root / SET_ASIDE)
        number = self.number
        while (aside := root / SET_ASIDE / f"{_PREFIX}{number:06d}").exists():
            number += 1
        self.path.rename(aside)
        sync_file(aside.parent)
        return aside

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        temporary = self.path / f"{name}.part"
        temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        temporary.replace(self.path / name)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return read_json(self.path / name)
        except DatasetError:
            return {}


def _fill(path: Path, content: Mapping[str, Any]) -> None:
    """Write a few numbers in place: a file that is there needs no more room, and is never half written."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, json.dumps(content).encode().ljust(_ROOM))
    finally:
        os.close(descriptor)


def takes(scratch: Path) -> list[TakeFolder]:
    """All takes below a scratch folder, in the order they began in."""
    return [TakeFolder(path) for path in sorted(scratch.glob(f"{_PREFIX}*")) if path.is_dir()]


def clear(root: Path) -> None:
    """Make the scratch folder, and remove what killed writers and merges left there but for takes."""
    scratch = root / SCRATCH
    shutil.rmtree(root / MERGE_SCRATCH, ignore_errors=True)
    scratch.mkdir(exist_ok=True)
    kept = {take.path for take in takes(scratch)}
    for path in scratch.iterdir():
        if path in kept:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
