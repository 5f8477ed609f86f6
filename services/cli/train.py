"""``so101 train``: from episodes to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from robot.errors import ConfigError, So101Error
from services.cli.progress import counting

if TYPE_CHECKING:
    from training.loop import Log, TrainResult


def need_torch() -> None:
    """Raise a ConfigError that says what to install where torch is not there."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "torchvision", "safetensors") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} not installed: training needs the extra 'train' "
            "(pip install 'so101-deploy[train]', or make setup in a checkout)"
        )


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
    as_json: Annotated[bool, typer.Option("--json", help="one JSON line per log entry")] = False,
) -> None:
    """Train a policy on episodes; a run that was interrupted goes on where it was.

    Losses are mean absolute errors of normalised actions; learning rates and steps are in the YAML.
    """
    console = Console(stderr=True)
    try:
        need_torch()
        result = _run(config, output, init_from, steps, dataset or [], as_json=as_json, console=console)
    except So101Error as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    done = "finished" if result.finished else "stopped, start it again to go on"
    console.print(f"{done} at step {result.step}, {result.samples_per_s:.0f} samples/s: {result.checkpoint}")


def _run(
    path: Path,
    output: Path | None,
    init_from: Path | None,
    steps: int | None,
    datasets: list[Path],
    *,
    as_json: bool,
    console: Console,
) -> TrainResult:
    import json

    from training.config import TrainConfig, load_train_config
    from training.loop import Trainer

    changes = {
        "output_dir": None if output is None else str(output),
        "init_from": None if init_from is None else str(init_from),
        "steps": steps,
        "datasets": tuple(str(root) for root in datasets) or None,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    config = TrainConfig.model_validate({**load_train_config(path).model_dump(), **given})
    with counting("training", config.steps, console) as (progress, bar):

        def report(entry: Log) -> None:
            if as_json:
                typer.echo(json.dumps(entry))
            if entry["event"] == "train":
                text = f"l1 {entry['l1']:.4f}  {entry['samples_per_s']:.0f} samples/s"
                progress.update(bar, completed=float(entry["step"]), description=text)

        trainer = Trainer(config, report)
        frames = len(trainer.corpus) * len(trainer.policy.config.cameras)
        decoding = progress.add_task("decoding new pictures", total=frames)
        trainer.open_images(lambda count: progress.advance(decoding, count))
        progress.remove_task(decoding)
        return trainer.run()
