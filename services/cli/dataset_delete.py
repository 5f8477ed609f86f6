"""``so101 dataset delete``: a dataset without some of its episodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from services.cli.progress import counting


def delete(
    dataset: Annotated[Path, typer.Argument(help="folder of a LeRobot dataset v3.0")],
    episodes: Annotated[str, typer.Option(help="numbers of the episodes, from 0, as 3,5-7")],
    out: Annotated[
        Path | None,
        typer.Option(help="folder of the result; without it the episodes are deleted where they are"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="what is left, as JSON; does not ask")] = False,
) -> None:
    """Delete episodes; those after them get their numbers, and statistics are made anew.

    With --out the dataset stays as it is. Without, the result takes its place in one step.
    """
    from robot.recording import delete as deleting
    from robot.recording.reader import Dataset

    numbers = deleting.parse_numbers(episodes)
    total = len(Dataset(dataset).episodes)
    if out is None and not (yes or as_json):
        typer.confirm(f"Delete {len(numbers)} of the {total} episodes of {dataset} for good?", abort=True)
    with counting("episodes", total - len(numbers)) as (progress, bar):
        left = deleting.delete(dataset, numbers, out, lambda: progress.advance(bar))
    if as_json:
        typer.echo(json.dumps({"out": str(out or dataset), "episodes": left.episodes, "frames": left.frames}))
        return
    typer.echo(f"{left.episodes} episodes ({left.frames} frames) left in {out or dataset}")
