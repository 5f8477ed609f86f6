"""``so101 dataset repair``: makes a broken dataset whole again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from robot.recording.repair import Plan, Repaired


def repair(
    dataset: Annotated[Path, typer.Argument(help="folder of a LeRobot dataset v3.0")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be done, and do nothing")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before episodes are set aside")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the result as JSON; does not ask")] = False,
) -> None:
    """Mend what can be mended without guessing: killed recordings, counts, numbers, statistics.

    Episodes that cannot be read are set aside with the reason, and those after them get their numbers.
    Nothing is thrown away: what is replaced lies in set_aside.
    """
    from robot.recording.repair import Repair
    from services.cli.progress import counting

    console = Console(highlight=False, soft_wrap=True)
    with counting("pictures", 0) as (bar, task):
        found = Repair(dataset, lambda done, total: bar.update(task, completed=done, total=total))
    if not as_json:
        _tell(console, found.plan)
    nothing = not (found.plan.rebuilds or found.plan.takes)
    if dry_run:
        if as_json:
            typer.echo(json.dumps(_as_json(found.plan, None), indent=2))
        return
    if found.plan.lost and not (yes or as_json):
        typer.confirm(f"Set {len(found.plan.lost)} episodes aside?", abort=True)
    done = found.run()
    if as_json:
        typer.echo(json.dumps(_as_json(found.plan, done), indent=2))
        return
    for take in done.recovered:
        what = f"set aside: {take.set_aside}" if take.episode is None else f"is episode {take.episode}"
        lost = "" if take.lost_reason is None else f" ({take.lost_reason})"
        console.print(escape(f"recovered: a take of {take.frames} frames {what}{lost}"))
    if done.set_aside is not None:
        console.print(escape(f"what was replaced lies in {done.set_aside}"))
    if nothing:
        console.print("There is nothing to mend.")
    console.print(escape(f"{done.episodes} episodes in {dataset}"))


def _tell(console: Console, plan: Plan) -> None:
    if plan.takes:
        console.print(f"[yellow]recover[/yellow]  {plan.takes} takes of a recording that was killed")
    for mend in plan.mends:
        console.print(f"[yellow]mend[/yellow]  {escape(mend)}")
    for lost in plan.lost:
        console.print(f"[red]set aside[/red]  episode {lost.episode}: {escape(lost.reason)}")
    for finding in plan.left:
        where = "" if finding.episode is None else f"episode {finding.episode}: "
        console.print(f"left as it is: {finding.code}  {escape(where + finding.message)}")


def _as_json(plan: Plan, done: Repaired | None) -> dict[str, object]:
    taken = () if done is None else done.recovered
    return {
        "mends": list(plan.mends),
        "lost": [asdict(lost) for lost in plan.lost],
        "takes": plan.takes,
        "left": [finding.as_json() for finding in plan.left],
        "done": done is not None,
        "episodes": None if done is None else done.episodes,
        "set_aside": None if done is None or done.set_aside is None else str(done.set_aside),
        "recovered": [
            {**asdict(take), "set_aside": None if take.set_aside is None else str(take.set_aside)}
            for take in taken
        ],
    }
