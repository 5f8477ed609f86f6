"""``so101 sweep``: many training runs that differ in some settings, trained, exported and tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from robot.errors import ConfigError
from services.cli.progress import counting
from services.cli.train import need_torch
from services.cli.workers import ClusterOption, WorkersOption


def sweep(
    config: Annotated[Path, typer.Argument(help="YAML of the sweep: base, work, grid, list, task, episodes")],
    jobs: Annotated[int, typer.Option(min=1, help="runs at a time")] = 1,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the table as JSON")] = False,
) -> None:
    """Train, export and evaluate each run of a sweep; a table with 95 % Wilson intervals.

    The table lies in the folder `work` as JSON, CSV and markdown. A sweep that was interrupted goes on where
    it was. On a cluster, all machines must see the same files under the present folder.
    """
    need_torch()
    from training.cluster import cluster as on_cluster
    from training.sweep import load_sweep, members, run_sweep
    from training.worker import processes

    wanted = load_sweep(config)
    if cluster is None and workers is not None:
        raise ConfigError("--workers is for --cluster; runs at a time on this machine are --jobs")
    runs = members(wanted)
    wanted.work.mkdir(parents=True, exist_ok=True)
    shared = {wanted.work, *(Path(dataset) for run in runs for dataset in run.config.datasets)}
    chosen = processes(jobs) if cluster is None else on_cluster(cluster, workers, Path.cwd(), sorted(shared))
    with chosen as pool, counting("runs", len(runs)) as (progress, bar):
        rows = run_sweep(wanted, pool, lambda done: progress.update(bar, completed=done))
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        typer.echo((wanted.work / "table.md").read_text(encoding="utf-8"), nl=False)
