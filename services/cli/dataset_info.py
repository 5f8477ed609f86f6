"""``so101 dataset info``: what is in a dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from robot.errors import So101Error
from robot.recording.reader import Dataset


def info(
    dataset: Annotated[Path, typer.Argument(help="LeRobot dataset v3.0, or a parquet file with its columns")],
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """What is in a dataset: episodes, frames, cameras, units, tasks."""
    console = Console()
    try:
        described = describe(Dataset(dataset))
    except So101Error as error:
        Console(stderr=True).print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    table = Table(show_header=False, box=None)
    for key, value in described.items():
        text = "\n".join(map(str, value)) if isinstance(value, list) else str(value)
        table.add_row(key, "not said" if value is None else text)
    console.print(table)


def describe(dataset: Dataset) -> dict[str, Any]:
    """A dataset in a few numbers and names."""
    features = dataset.info["features"].items()
    lengths = [episode.length for episode in dataset.episodes]
    return {
        "root": str(dataset.root),
        "episodes": len(lengths),
        "frames": sum(lengths),
        "fps": dataset.fps,
        "duration_s": round(sum(lengths) / dataset.fps, 3),
        "shortest_frames": min(lengths, default=0),
        "longest_frames": max(lengths, default=0),
        "robot_type": dataset.info.get("robot_type"),
        "units": dataset.units,
        "cameras": list(dataset.cameras),
        "features": [f"{name} {part['dtype']} {part['shape']}" for name, part in features],
        "tasks": dataset.tasks,
    }
