"""``so101 correct``: a policy drives the twin, the expert mends, the mending is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.progress import counting
from services.cli.variety import ConfuserOption, LookOption, StiffnessOption, variety_of
from services.cli.workers import ClusterOption, WorkersOption, pool_of


def correct(
    bundle: Annotated[Path, typer.Argument(help="folder of the policy bundle that drives")],
    out: Annotated[Path, typer.Option(help="folder of the new dataset")],
    episodes: Annotated[
        int,
        typer.Option(min=1, help="corrected episodes to keep; none is kept where nothing was to mend"),
    ] = 100,
    task: Annotated[str, typer.Option(help="task on the twin")] = "pick_place",
    confusers: ConfuserOption = None,
    looks: LookOption = None,
    stiffness: StiffnessOption = None,
    seed: Annotated[int, typer.Option(min=0, help="seed; take another than the demonstrations'")] = 2,
    jobs: Annotated[int, typer.Option(min=1, help="processes; the result does not depend on it")] = 1,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
) -> None:
    """Let a policy drive on the twin and the expert take over where it goes wrong (DAgger).

    Chunks are executed as the bundle recommends. Frames of the policy are recorded with loss_mask 0, the
    expert's with intervention 1.
    """
    from training.episodes import CorrectionOrder
    from training.recorder import record_episodes

    variety = variety_of(confusers, looks, stiffness)
    order = CorrectionOrder(policy=bundle, task=task, variety=variety, seed=seed)
    with pool_of(cluster, workers) as pool, counting("corrections", episodes) as (progress, bar):
        tried = record_episodes(
            out, order, episodes, jobs=jobs, pool=pool, on_episode=lambda: progress.advance(bar)
        )
    typer.echo(f"{episodes} episodes ({tried} driven) in {out}")
