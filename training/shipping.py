"""Folders on their way to other machines, known by what is in them."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from robot.errors import So101Error

_PACKAGES = ("robot", "inference", "training")
_READ = {".py", ".xml", ".json", ".yaml"}


def files_in(folder: Path) -> list[Path]:
    """Every file under a folder, in an order that does not depend on the machine."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def digest(folder: Path) -> str:
    """SHA-256 of the names and contents of a folder's files. Raises So101Error where there is no folder."""
    if not folder.is_dir():
        raise So101Error(f"there is no folder {folder}")
    whole = hashlib.sha256()
    for path in files_in(folder):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()}\n{content}\n".encode())
    return whole.hexdigest()


@cache
def code_digest() -> str:
    """SHA-256 of the code that makes episodes, trials and policies, as it is installed here."""
    root, whole = Path(__file__).resolve().parents[1], hashlib.sha256()
    for package in _PACKAGES:
        for path in files_in(root / package):
            if path.suffix in _READ:
                whole.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()


def packed(folder: Path) -> bytes:
    """A folder's files as a zip archive, not compressed: weights and videos are dense already."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        for path in files_in(folder):
            files.write(path, path.relative_to(folder))
    return archive.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """Put the files of ``packed`` into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        files.extractall(folder)


def shelf() -> Path:
    """Where this machine keeps folders that were sent to it, by their digest; of this user alone.

    Raises:
        So101Error: it is somebody else's.
    """
    folder = Path(tempfile.gettempdir()) / f"so101-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise So101Error(f"{folder} belongs to another user: remove it")
    return folder


def kept(sha256: str) -> Path | None:
    """The folder with this digest, if it is here, looked through again."""
    folder = shelf() / sha256
    return folder if folder.is_dir() and digest(folder) == sha256 else None


def keep(sha256: str, archive: bytes) -> Path:
    """Unpack what was sent. Raises So101Error where it has not the digest that it should."""
    folder = shelf() / sha256
    with tempfile.TemporaryDirectory(dir=shelf()) as name:
        partial = Path(name) / "folder"
        unpack(archive, partial)
        if digest(partial) != sha256:
            raise So101Error(f"what arrived is not what was sent: {sha256}")
        if kept(sha256) is None:
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    return folder
