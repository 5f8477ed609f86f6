"""What a study has done already: files that say with which settings they were made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.trials import Trial


def write_json(path: Path, content: object) -> None:
    """Write a file that is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.partial")
    unfinished.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    unfinished.replace(path)


def kept(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """A file's content if it was made with these settings."""
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content if content["settings"] == settings else None


def kept_trials(path: Path, settings: dict[str, Any]) -> list[Trial] | None:
    """Trials that were kept with these settings."""
    content = kept(path, settings)
    return None if content is None else [Trial(**trial) for trial in content["trials"]]


def trials_once(path: Path, settings: dict[str, Any], run: Callable[[], list[Trial]]) -> list[Trial]:
    """Trials from the file of an earlier start with the same settings, or run now and kept."""
    found = kept_trials(path, settings)
    if found is None:
        found = run()
        write_json(path, {"settings": settings, "trials": [asdict(trial) for trial in found]})
    return found
