"""Takes whose every value can be computed again, and a machine that dies at a chosen step."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from recording_samples import create, picture, vectors

from robot.recording.features import Feature
from robot.recording.files import read_json
from robot.recording.reader import Dataset
from robot.recording.take import Take
from robot.recording.writer import DatasetWriter

SUCCESS = Feature("success", "int64", (1,))
AT = np.array([0.2, 0.1])


def create_labelled(root: Path, **options: object) -> DatasetWriter:
    return create(root, extra_features=(SUCCESS,), **options)


def add(writer: DatasetWriter, take: Take, seed: int, frame: int) -> None:
    state, action = vectors(seed, frame)
    images = {name: picture(seed * 1000 + frame * 10 + k) for k, name in enumerate(writer.cameras)}
    take.add(state, action, images, AT, wait=True)


def fill(writer: DatasetWriter, seed: int, length: int, task: str = "pick up the cube") -> Take:
    take = writer.begin_take(task)
    for frame in range(length):
        add(writer, take, seed, frame)
    return take


def check_episode(dataset: Dataset, number: int, seed: int, length: int, success: int) -> None:
    """An episode is the first ``length`` frames of the take of ``seed``: rows, pictures, label."""
    columns = dataset.load(number)
    assert dataset.episodes[number].length == length
    np.testing.assert_array_equal(columns["action"], np.float32([vectors(seed, k)[1] for k in range(length)]))
    assert columns["success"].tolist() == [success] * length
    for k, camera in enumerate(dataset.cameras):
        images = dataset.frames(number, camera)
        wanted = np.stack([picture(seed * 1000 + frame * 10 + k) for frame in range(length)])
        # Each picture has a colour of its own, so a shift by one frame would show.
        assert np.abs(images.astype(int) - wanted).mean(axis=(1, 2, 3)).max() < 6


def check_stats(root: Path, wanted: dict[str, dict[str, list]]) -> None:
    found = read_json(root / "meta/stats.json")
    assert list(found) == list(wanted)
    for feature, part in wanted.items():
        assert list(found[feature]) == list(part)
        for name, value in part.items():
            np.testing.assert_allclose(found[feature][name], value, err_msg=f"{feature} {name}")


class Killed(BaseException):
    """The machine died."""


class _Death:
    """Counts what is done to files below a folder and lets nothing happen from one step on."""

    def __init__(self) -> None:
        self.root: Path | None = None
        self.full: str | None = None
        self.left = 0
        self.steps = 0

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        made = event == "open" and isinstance(args[2], int) and args[2] & os.O_CREAT
        new = made and not Path(str(args[0])).exists()
        if self.full is not None and new and str(args[0]).startswith(self.full):
            raise OSError(28, "No space left on device", str(args[0]))
        if self.root is None or event not in _STEPS or not str(args[0]).startswith(str(self.root)):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & 3):
            return
        self.steps += 1
        if self.left == 0:
            raise Killed
        self.left -= 1


_STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
_DEATH = _Death()
sys.addaudithook(_DEATH)


@contextmanager
def dies(root: Path, after: int) -> Iterator[_Death]:
    """The machine dies when so many files below ``root`` have been opened to write, moved or removed."""
    _DEATH.root, _DEATH.left, _DEATH.steps = root, after, 0
    try:
        yield _DEATH
    finally:
        _DEATH.root = None


@contextmanager
def full(root: Path, below: str = "") -> Iterator[None]:
    """No file can be made in folders whose path begins like this; those that are there can be overwritten."""
    _DEATH.full = str(root / below)
    try:
        yield
    finally:
        _DEATH.full = None
