"""The twin at another control rate, for benchmarks."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from robot.config import config_root, load_robot


@contextlib.contextmanager
def twin_at(hz: int | None, cameras: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[str]:
    """Name of the twin's configuration, or path of a copy.

    Args:
        hz: control rate; ``None``: its own.
        cameras: camera -> what is otherwise in its part of the file, for instance ``source``.
    """
    if hz is None and not cameras:
        yield "twin"
        return
    _, folder = load_robot("twin")
    raw = yaml.safe_load((config_root() / "robots" / "twin.yaml").read_text(encoding="utf-8"))
    raw["control_hz"] = hz or raw["control_hz"]
    for camera in raw["cameras"]:
        camera.update((cameras or {}).get(camera["name"], {}))
    # Paths in the copy start from elsewhere.
    for part in (raw, *raw["cameras"]):
        for key in {"calibration", "leader_calibration"} & part.keys():
            part[key] = str(folder / part[key])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "twin.yaml"
        path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        yield str(path)
