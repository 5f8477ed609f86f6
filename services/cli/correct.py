"""``so101 correct``: a policy drives the twin, the expert mends, the mending is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robot.errors import ConfigError


def correct(
    bundle: Annotated[Path, typer.Argument(help="folder of the policy bundle that drives")],
    out: Annotated[Path, typer.Option(help="folder of the new dataset")],
    episodes: Annotated[
        int, typer.Option(min=1, help="episodes that are driven; those without a mistake are not kept")
    ] = 100,
    seed: Annotated[int, typer.Option(min=0, help="seed; take another than the demonstrations'")] = 2,
    first: Annotated[int, typer.Option(min=0, help="number of the first episode, to share the work out")] = 0,
    actions_per_inference: Annotated[
        int, typer.Option(min=1, help="policy steps before the next chunk takes over")
    ] = 12,
) -> None:
    """Let a policy drive on the twin and the expert take over where it goes wrong (DAgger).

    Frames of the policy are recorded with loss_mask 0, the expert's with intervention 1.
    """
    from inference.bundle import load_bundle
    from inference.ensembler import ExecutionConfig
    from training.dagger import correct as run_corrections

    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty: choose another folder with --out")
    policy = load_bundle(bundle)
    execution = ExecutionConfig(mode="receding", actions_per_inference=actions_per_inference)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("corrections", total=episodes)
        kept = run_corrections(
            policy,
            out,
            range(first, first + episodes),
            seed,
            execution=execution,
            on_episode=lambda number: progress.advance(bar),
        )
    typer.echo(f"{kept} of {episodes} episodes kept in {out}")
