"""``so101 dataset merge``: several datasets in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from services.cli.progress import counting


def merge(
    datasets: Annotated[list[Path], typer.Argument(help="folders of LeRobot datasets (v2.0, v2.1, v3.0)")],
    out: Annotated[Path, typer.Option(help="folder of the new dataset")],
    units: Annotated[
        str | None,
        typer.Option(help="degrees or m100_100 (-100..100 of the swept range), if a dataset does not say"),
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="leave out columns and cameras that not all datasets have")
    ] = False,
    drop: Annotated[
        list[str] | None, typer.Option(help="leave this column or video out; repeat for more")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="what came together, as JSON")] = False,
) -> None:
    """Make one dataset of several, one after the other; these stay as they are.

    Frame rate, units, calibration and columns must be the same. Videos are linked or copied, and encoded
    again only where an episode does not begin with a key frame.
    """
    from robot.recording import merge as merging
    from robot.recording.convert_v2 import open_any

    total = sum(len(open_any(root).episodes) for root in datasets)
    with counting("episodes", total) as (progress, bar):
        done = merging.merge(
            datasets,
            out,
            units=units,
            common=common,
            drop=drop or (),
            on_episode=lambda: progress.advance(bar),
        )
    if as_json:
        typer.echo(json.dumps({"out": str(out), "episodes": done.episodes, "dropped": list(done.dropped)}))
        return
    typer.echo(f"{done.episodes} episodes ({done.frames} frames) in {out}")
    if done.dropped:
        typer.echo(f"left out: {', '.join(done.dropped)}")
