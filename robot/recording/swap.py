"""A dataset in the place of another, in one step: whoever looks finds the old one or the new one, whole."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from robot.errors import DatasetError
from robot.recording.creation import acquire
from robot.recording.files import make_folder, sync_file
from robot.recording.scratch import MERGE_SCRATCH, SCRATCH, takes

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
"""Linux's numbers, from ``fcntl.h`` and ``linux/fs.h``."""

_OURS = frozenset({"data", "videos", "meta", MERGE_SCRATCH})
"""What a new dataset has of its own; everything else in the folder belongs to a person, and stays. So does a
file of ``meta`` that it has not: other tools keep theirs there."""


@contextmanager
def replacing(root: Path, old: Callable[[Path], None], name: str) -> Iterator[Path]:
    """Replace a dataset by the one that is made meanwhile.

    Gives the folder to make it in, beside the old one; an error on the way leaves the old one as it is. Files
    that are no part of a dataset come along, takes that a killed writer left included.

    Args:
        root: the dataset, which nobody else is writing.
        old: what becomes of the old one, given the folder it lies in then; also of one that a killed
            process had replaced before.
        name: what is done, which names the folder beside: what one kind of replacement leaves when it is
            killed is none of another's business.

    Raises:
        DatasetError: another process writes it, the file system cannot exchange two folders, or the disk
            fails; the dataset is as it was.
    """
    place = root.resolve()
    beside = place.with_name(f".{place.name}.{name}")
    lock = acquire(place)
    try:
        if beside.exists():
            old(beside)
        yield beside
        if not beside.is_dir():
            raise DatasetError(f"{beside} was not made, so {root} stays as it is")
        for path in place.iterdir():
            if path.name not in _OURS and not (path.name == SCRATCH and not takes(path)):
                _link(path, beside / path.name)
        for path in (place / "meta").iterdir():
            if path.is_file():
                _link(path, beside / "meta" / path.name)
        _exchange(place, beside)
        sync_file(place.parent)
        old(beside)
    except OSError as error:
        raise DatasetError(
            f"{root} cannot be replaced: {error}. Make room or see to its permissions; nothing is lost"
        ) from error
    finally:
        os.close(lock)


def remove(folder: Path) -> None:
    """What becomes of a dataset that nobody wants."""
    shutil.rmtree(folder)


def keep_below(root: Path, name: str) -> Callable[[Path], None]:
    """Keep the files of a dataset that are not in its successor too, in a new folder ``name`` below it."""
    place = root.resolve()

    def keep(folder: Path) -> None:
        aside = free_name(place / name)
        make_folder(aside.parent)
        folder.rename(aside)
        sync_file(aside.parent)
        here = aside.parent.parent
        _thin(aside, {_identity(path) for path in _files(here) if aside not in path.parents})

    return keep


def free_name(folder: Path) -> Path:
    """The first of ``folder-001``, ``folder-002`` and so on that does not exist."""
    number = 1
    while (path := folder.with_name(f"{folder.name}-{number:03d}")).exists():
        number += 1
    return path


def _exchange(a: Path, b: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE)
    if done != 0:
        why = os.strerror(ctypes.get_errno())
        shutil.rmtree(b)
        raise DatasetError(
            f"{a} cannot be replaced in one step here ({why}): copy it to a file system such as ext4, in a "
            "container to a folder that was made there, and do it there"
        )


def _link(source: Path, target: Path) -> None:
    """A second name for a file, or for each file of a folder."""
    if source.is_dir() and not source.is_symlink():
        target.mkdir(exist_ok=True)
        for path in source.iterdir():
            _link(path, target / path.name)
    elif not target.exists():
        os.link(source, target, follow_symlinks=False)


def _thin(folder: Path, known: Collection[tuple[int, int]]) -> None:
    """Remove files that have another name, and folders that are empty without them."""
    for path in _files(folder):
        if _identity(path) in known:
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
