"""``so101 study``: comparisons of policies, each by one command that writes its report.

What is heavy is imported only when a command is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from services.cli import progress
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


class _Terminal:
    """Shows on stderr how far a study is."""

    def say(self, line: str) -> None:
        """See ``training.studies.show``."""
        typer.echo(line, err=True)

    @contextmanager
    def counting(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """See ``training.studies.show``."""
        if not total:
            self.say(f"{title}: done before")
            yield lambda more: None
            return
        self.say(f"{title}: {total}")
        with progress.counting(title, total) as (bars, bar):
            yield lambda more: bars.update(bar, advance=more)


@app.command()
def coordinates(
    quick: Annotated[
        bool, typer.Option("--quick", help="minutes of it, to see that it runs; the report says so")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="another study.yaml than configs/experiments/confuser/study.yaml")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="folder of episodes, checkpoints and results, to go on with")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="the report, a markdown file")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="processes, with one thread each")] = 2,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="only say how long it will take, from a minute of it")
    ] = False,
) -> None:
    """Coordinates that are obeyed: ACT with one remedy each, with a second cube in view.

    What is done stands in configs/experiments/confuser. One that was interrupted goes on where it was.
    """
    need_torch()
    from training.studies.coordinates import load_coordinates_study, run_coordinates_study
    from training.studies.forecast import forecast_coordinates

    study = load_coordinates_study(config)
    if quick:
        study = study.quick()
    study = study.model_copy(update={"work": work or study.work, "report": report or study.report})
    show = _Terminal()
    if not study.shortened:
        show.say(forecast_coordinates(study, show, jobs))
    if not estimate:
        run_coordinates_study(study, show, jobs=jobs)


@app.command()
def execution(
    bundle: Annotated[Path, typer.Argument(help="folder of the policy bundle")] = Path("policies/pick_place"),
    quick: Annotated[
        bool, typer.Option("--quick", help="minutes of it, to see that it runs; the report says so")
    ] = False,
    work: Annotated[Path | None, typer.Option(help="folder of results, to go on with")] = None,
    report: Annotated[Path | None, typer.Option(help="the report, a markdown file")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="trials of each execution and condition")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="processes for trials")] = 2,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="only say how long it will take, from a minute of it")
    ] = False,
) -> None:
    """Ensembling and receding horizons: one bundle, executed in twelve ways.

    One that was interrupted goes on where it was.
    """
    from training.studies.execution import ExecutionStudy, run_execution_study
    from training.studies.forecast import forecast_execution

    study = ExecutionStudy(bundle=bundle)
    if quick:
        study = study.quick()
    study = replace(
        study, work=work or study.work, report=report or study.report, trials=trials or study.trials
    )
    show = _Terminal()
    if not study.shortened:
        show.say(forecast_execution(study, jobs))
    if not estimate:
        run_execution_study(study, show, jobs=jobs)
