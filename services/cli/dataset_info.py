"""``so101 dataset info``: what is in a dataset."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.reader import Dataset
from robot.recording.scratch import SCRATCH, takes

REAL_TIME = "timing.time_s"
LABELS = {1: "success", 0: "failure", -1: "no label"}


def info(
    dataset: Annotated[Path, typer.Argument(help="LeRobot dataset v3.0, or a parquet file with its columns")],
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """What is in a dataset: episodes, frames, rate, cameras, units, labels, columns, tasks.

    `so101 dataset check` says whether anything is wrong with it.
    """
    console = Console(highlight=False)
    described = describe(Dataset(dataset))
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    table = Table(show_header=False, box=None)
    for key, value in described.items():
        table.add_row(key.replace("_", " "), escape(_text(key, value)))
    console.print(table)


def describe(dataset: Dataset) -> dict[str, Any]:
    """A dataset in a few numbers and names."""
    features = dataset.info["features"].items()
    lengths = [episode.length for episode in dataset.episodes]
    extra = dataset.info.get(layout.EXTRA_KEY, {})
    rows = _Rows(dataset)
    return {
        "root": str(dataset.root),
        "episodes": len(lengths),
        "frames": sum(lengths),
        "fps": dataset.fps,
        "held_rate_hz": rows.held_rate_hz,
        "duration_s": round(sum(lengths) / dataset.fps, 3),
        "shortest_frames": min(lengths, default=0),
        "longest_frames": max(lengths, default=0),
        "labels": rows.labels,
        "corrected_frames": rows.corrected,
        "robot_type": dataset.info.get("robot_type"),
        "units": dataset.units,
        "calibration_sha256": extra.get("calibration_sha256"),
        "recording": {
            key: value for key, value in extra.items() if key not in ("units", "calibration_sha256")
        },
        "cameras": list(dataset.cameras),
        "features": [f"{name} {part['dtype']} {part['shape']}" for name, part in features],
        "tasks": dataset.tasks,
        "takes_left": 0 if dataset.root.is_file() else len(takes(dataset.root / SCRATCH)),
        "bytes": _size(dataset.root),
    }


class _Rows:
    """What the rows of all episodes say, as far as they can be read and have the columns.

    Attributes:
        held_rate_hz: rows a second by their real times; ``None`` where these were not kept.
        labels: how many episodes have each label; ``None`` where the dataset has none.
        corrected: frames in which a person drove instead of a policy; ``None`` likewise.
    """

    def __init__(self, dataset: Dataset) -> None:
        labels: Counter[str] = Counter()
        corrected, frames, seconds = 0, 0, 0.0
        columns = dataset.info["features"].keys()
        wanted = {"success", "intervention", REAL_TIME} & columns
        for episode in dataset.episodes if wanted else ():
            try:
                rows = dataset.load(episode.index)
            except DatasetError:
                labels["unreadable"] += 1
                continue
            if "success" in rows:
                labels[LABELS.get(int(rows["success"].reshape(-1)[-1]), "no label")] += 1
            if "intervention" in rows:
                corrected += int(np.count_nonzero(rows["intervention"]))
            if REAL_TIME in rows and episode.length > 1:
                times_s = rows[REAL_TIME].reshape(-1)
                frames, seconds = frames + episode.length - 1, seconds + float(times_s[-1] - times_s[0])
        self.held_rate_hz = round(frames / seconds, 3) if seconds > 0 else None
        self.labels: dict[str, int] | None = dict(labels) if "success" in columns else None
        self.corrected: int | None = corrected if "intervention" in columns else None


def _size(root: Path) -> int:
    """Bytes on disk, scratch and what is set aside included."""
    if root.is_file():
        return root.stat().st_size
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def _text(key: str, value: Any) -> str:
    if value is None:
        return "not said"
    if key == "bytes":
        return f"{value / 1e6:.1f} MB"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count}" for name, count in value.items()) or "none"
    if isinstance(value, list):
        return "\n".join(map(str, value)) or "none"
    return str(value)
