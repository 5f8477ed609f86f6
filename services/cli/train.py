"""``so101 train``: from episodes to a checkpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from robot.errors import ConfigError
from services.cli.progress import counting
from services.cli.workers import ClusterOption, WorkersOption

if TYPE_CHECKING:
    from training.config import TrainConfig
    from training.loop import TrainResult
    from training.train_log import Log


def need_torch() -> None:
    """Raise a ConfigError that says what to install where torch is not there."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "torchvision", "safetensors") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} not installed: training needs the extra 'train' "
            "(pip install 'so101-deploy[train]', or make setup in a checkout)"
        )


def show_settings(wanted: bool) -> None:
    """Print every key of a run's configuration, its default and its meaning, and end."""
    if wanted:
        need_torch()
        from training.config import TrainConfig
        from training.settings import table

        typer.echo(table(TrainConfig), nl=False)
        raise typer.Exit


def train(
    config: Annotated[
        Path, typer.Argument(help="YAML of the run, for instance configs/experiments/pick_place.yaml")
    ],
    output: Annotated[Path | None, typer.Option(help="folder of the run, instead of output_dir")] = None,
    init_from: Annotated[
        Path | None, typer.Option(help="checkpoint to fine-tune, instead of init_from")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="optimiser steps, instead of steps")] = None,
    dataset: Annotated[
        list[Path] | None, typer.Option(help="dataset, instead of datasets; repeat for more")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="any key, e.g. optimiser.lr=3e-4; repeat for more"),
    ] = None,
    help_config: Annotated[
        bool,
        typer.Option(
            "--help-config",
            is_eager=True,
            callback=show_settings,
            help="every key with its default and meaning",
        ),
    ] = False,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON line per log entry")] = False,
) -> None:
    """Train a policy on episodes; a run that was interrupted goes on where it was.

    Losses are mean absolute errors of normalised actions; learning rates and steps are in the YAML. On
    several GPUs: torchrun --nproc-per-node 2 -m services.cli train CONFIG, or --cluster.
    """
    del help_config  # its callback has printed
    need_torch()
    from training.config import load_train_config

    named = {"output_dir": output, "init_from": init_from, "steps": steps}
    changes = [f"{key}={json.dumps(value, default=str)}" for key, value in named.items() if value is not None]
    if dataset:
        changes.append(f"datasets={json.dumps([str(root) for root in dataset])}")
    # Of several processes the first speaks for all.
    console = Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")
    if cluster is None and workers is not None:
        raise ConfigError("--workers is for --cluster; on this machine: torchrun --nproc-per-node")
    wanted = load_train_config(config, [*changes, *(settings or [])])
    result = _run(wanted, as_json=as_json, console=console, cluster=cluster, workers=workers)
    if result.samples_per_s is None:
        console.print(f"was finished before, at step {result.step}: {result.checkpoint}")
        return
    done = "finished" if result.finished else "stopped, start it again to go on"
    console.print(f"{done} at step {result.step}, {result.samples_per_s:.3g} samples/s: {result.checkpoint}")


def _run(
    config: TrainConfig, *, as_json: bool, console: Console, cluster: str | None, workers: int | None
) -> TrainResult:
    from training.loop import Trainer

    with counting("training", config.steps, console) as (progress, bar):

        def report(entry: Log) -> None:
            if as_json:
                typer.echo(json.dumps(entry))
            if entry["event"] == "train":
                text = f"loss {entry['loss']:.4f}  {entry['samples_per_s']:.3g} samples/s"
                progress.update(bar, description=text, completed=int(entry["step"]))
            elif entry["event"] == "rollouts":
                progress.console.print(
                    f"step {entry['step']}: {entry['successes']} of {entry['episodes']} trials; "
                    f"the best is step {entry['best_step']}"
                )

        if cluster is not None:
            from training.cluster import connected, workers_of
            from training.ranks import train_on_ranks

            with connected(cluster, workers) as resources:
                return train_on_ranks(config, workers_of(resources, workers), resources, report)
        trainer = Trainer(config, report)
        for note in trainer.notes:
            progress.console.print(note)
        progress.update(bar, completed=trainer.step)
        frames = len(trainer.corpus) * len(trainer.policy.config.cameras)
        decoding = progress.add_task("decoding new pictures", total=frames, visible=False)

        def decoded(count: int) -> None:
            progress.update(decoding, advance=count, visible=True)

        def stepped(step: int) -> None:
            progress.update(decoding, visible=False)
            progress.update(bar, completed=step)

        return trainer.run(decoded, stepped)
