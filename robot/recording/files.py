"""Files that are either whole or not there, also when the machine is switched off while they are written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from robot.errors import DatasetError


def sync_file(path: Path) -> None:
    """Wait until a file's (or folder's) content is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing; all their names are on the disk afterwards."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_file(path.parent)


def publish(temporary: Path, final: Path) -> None:
    """Move a finished file to its place: a reader sees the old one or the whole new one."""
    sync_file(temporary)
    make_folder(final.parent)
    temporary.replace(final)
    sync_file(final.parent)


def publish_json(path: Path, content: Any, scratch: Path) -> None:
    """Write JSON (finite numbers only) as LeRobot does, indented by four, through a file in ``scratch``."""
    temporary = scratch / path.name
    temporary.write_text(json.dumps(content, indent=4, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    publish(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        DatasetError: the file is absent or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"no {path}: this is not a LeRobot dataset") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} must hold a JSON object")
    return content
