"""``so101 doctor``: looks at everything of a robot and says what is wrong, and the remedy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from services.doctor.report import Finding, Report


def doctor(
    port: Annotated[str | None, typer.Option(help="Serial port of the follower, see `so101 ports`.")] = None,
    leader_port: Annotated[str | None, typer.Option(help="Serial port of the leader.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Calibration file of the follower.")] = None,
    leader_calibration: Annotated[Path | None, typer.Option(help="Calibration file of the leader.")] = None,
    robot: Annotated[
        str | None,
        typer.Option(
            help="Robot file, or 'twin'. Without any robot or port: the adapters that are plugged in, and a "
            "twin that is started for it where there is none."
        ),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SOURCE", help="Camera by device or URL; may be repeated."),
    ] = None,
    move: Annotated[
        bool,
        typer.Option(
            "--move",
            help="Also energise the follower and move each joint by some degrees: backlash, voltage under "
            "load. Clear the space around the arm first.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check a robot: cabling, servos, calibration, supply, bus, cameras, this machine.

    Exit status 0: all is well; 1: something is wrong, with its remedy. Advice does not count. Nothing is
    written to a servo, and nothing moves, unless you say --move.
    """
    from services.doctor.examine import Options, examine

    cameras = dict(_named(text) for text in camera or ())
    options = Options(port, leader_port, calibration, leader_calibration, robot, cameras, move)
    console = Console(highlight=False, soft_wrap=True)
    if move and sys.stdin.isatty() and not as_json:
        typer.confirm("The arm will move. Is the space around it clear?", abort=True)
    if as_json:
        report = examine(options)
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        with console.status("looking") as status:
            report = examine(options, lambda what: status.update(f"looking at {escape(what)}"))
        _show(console, report)
    raise typer.Exit(0 if report.ok else 1)


def _named(text: str) -> tuple[str, str]:
    name, equals, source = text.partition("=")
    if not (name.isidentifier() and name == name.lower() and equals and source):
        raise typer.BadParameter(
            f"{text!r} is not NAME=SOURCE, as wrist=/dev/v4l/by-id/...", param_hint="--camera"
        )
    return name, source


def _show(console: Console, report: Report) -> None:
    table = Table(title=f"so101 doctor: {escape(report.robot)}", title_justify="left", box=None)
    for heading in ("", "of", "check", "measured"):
        table.add_column(heading)
    for check in report.checks:
        mark = "[green]ok[/green]" if check.ok else "[yellow]look[/yellow]"
        table.add_row(mark, check.arm or "", check.name, escape(check.measured))
    console.print(table)
    for finding in report.findings:
        _tell(console, "red", finding)
    for advice in report.advice:
        _tell(console, "yellow", advice)
    n_found = len(report.findings)
    verdict = "[green]All is well.[/green]" if report.ok else f"[red]{n_found} found.[/red]"
    console.print(f"\n{verdict}")


def _tell(console: Console, colour: str, finding: Finding) -> None:
    whose = f"{finding.arm}: " if finding.arm else ""
    console.print(f"\n[{colour}]{finding.code}[/{colour}]  {escape(whose + finding.message)}")
    console.print(f"  remedy: {escape(finding.remedy)}")
