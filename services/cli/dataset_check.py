"""``so101 dataset check``: what is wrong with episodes, and the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from robot.recording.check import Finding, Report


def check(
    dataset: Annotated[Path, typer.Argument(help="LeRobot dataset v3.0, or a parquet file with its columns")],
    fast: Annotated[
        bool,
        typer.Option(
            "--fast", help="Do not decode videos: frozen, black and shifted pictures are not looked for."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Look for everything that can be wrong with a dataset: files, counts, rate, units, motion, pictures.

    Exit status 0: nothing is wrong; 1: something is, with its remedy. Nothing is changed.
    """
    from robot.recording.check import examine
    from services.cli.progress import counting

    console = Console(highlight=False, soft_wrap=True)
    with counting("pictures", 0) as (bar, task):
        report = examine(
            dataset,
            decode=not fast,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        _show(console, report)
    raise typer.Exit(0 if report.ok else 1)


def _show(console: Console, report: Report) -> None:
    """What was found, the same of several episodes together."""
    groups: dict[tuple[str, str | None], list[Finding]] = {}
    for found in report.findings:
        groups.setdefault((found.code, found.camera), []).append(found)
    for (code, _), (first, *more) in groups.items():
        colour = "red" if first.severity == "error" else "yellow"
        where = "" if first.episode is None else f"episode {first.episode}: "
        console.print(f"[{colour}]{code}[/{colour}]  {escape(where + first.message)}")
        others = [str(found.episode) for found in more if found.episode is not None]
        if others:
            console.print(f"  likewise in {len(others)} more: {', '.join(others)}")
        console.print(f"  remedy: {escape(first.remedy)}\n")
    for note in report.notes:
        console.print(f"note: {escape(note.message)}")
    n_found = len(report.findings)
    verdict = "[green]Nothing is wrong.[/green]" if report.ok else f"[red]{n_found} found.[/red]"
    console.print(f"{report.episodes} episodes, {report.frames} frames. {verdict}")
