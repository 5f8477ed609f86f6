"""``so101 dataset convert``: older datasets to v3.0, and datasets that do not say their units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from services.cli.progress import counting


def convert(
    dataset: Annotated[Path, typer.Argument(help="folder of a LeRobot dataset (v2.0, v2.1, v3.0)")],
    out: Annotated[Path, typer.Argument(help="folder of the new dataset")],
    units: Annotated[
        str | None,
        typer.Option(help="degrees or m100_100 (-100..100 of the swept range), if the dataset does not say"),
    ] = None,
    to_degrees: Annotated[
        bool, typer.Option("--to-degrees", help="turn m100_100 into degrees; needs --calibration")
    ] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="calibration JSON that the arm had when it was recorded")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="leave this column or video out; repeat for more")
    ] = None,
    skip: Annotated[
        list[int] | None, typer.Option(min=0, help="leave this episode out; repeat for more")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="what was converted, as JSON")] = False,
) -> None:
    """Make a dataset of LeRobot v3.0, an episode a file, that says its units; the old one stays.

    LeRobot does not write in which units joints are: before 0.4.4 m100_100, degrees since. Videos are linked
    or copied where they can be, statistics are made from the data.
    """
    from robot.calibration_file import load_calibration
    from robot.recording import convert as converting
    from robot.recording.convert_v2 import open_any
    from robot.recording.reader import Dataset

    total = len(open_any(dataset).episodes) - len(set(skip or ()))
    with counting("episodes", total) as (progress, bar):
        done = converting.convert(
            dataset,
            out,
            units=units,
            to_degrees=to_degrees,
            calibration=None if calibration is None else load_calibration(calibration),
            drop=drop or (),
            skip=skip or (),
            on_episode=lambda: progress.advance(bar),
        )
    said = Dataset(out).units
    if as_json:
        typer.echo(json.dumps({"out": str(out), "episodes": done.episodes, "units": said}))
        return
    typer.echo(f"{done.episodes} episodes ({done.frames} frames) in {out}, units {said or 'not said'}")
    if said is None:
        typer.echo(
            "training and replay need to know: --units degrees (LeRobot since 0.4.4) or m100_100 (before)",
            err=True,
        )
