"""``so101 study``: comparisons of policies, each by one command that writes its report.

What is heavy is imported only when a command is called.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from services.cli.train import need_torch

app = typer.Typer(
    help="Compare policies on the twin, and write down what came of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    """Compare policies on the twin, and write down what came of it."""


@app.command()
def reach(
    quick: Annotated[
        bool, typer.Option("--quick", help="minutes of it, to see that it runs; the report says so")
    ] = False,
    work: Annotated[
        Path | None, typer.Option(help="folder of episodes, checkpoints and results, to go on with")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="the report, a markdown file")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="trials of each policy and execution")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="processes for episodes and trials")] = 2,
) -> None:
    """Planar reach: four small policies on the same episodes, each executed in four ways.

    One that was interrupted goes on where it was: give the same --work.
    """
    need_torch()
    from training.studies.reach import ReachStudy, run_reach_study

    study = ReachStudy(jobs=jobs)
    if quick:
        study = study.quick()
    study = replace(
        study, work=work or study.work, report=report or study.report, trials=trials or study.trials
    )
    run_reach_study(study, lambda line: typer.echo(line, err=True))
