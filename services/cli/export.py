"""``so101 export``: from a checkpoint to a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from robot.config import checked
from robot.errors import ConfigError
from services.cli.train import need_torch


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="folder of a checkpoint, or of a run for its newest one")
    ],
    out: Annotated[Path, typer.Argument(help="folder of the bundle; an existing bundle is replaced")],
    to: Annotated[
        str, typer.Option(help="bundle, or lerobot: a pretrained_model folder, of lerobot_act policies only")
    ] = "bundle",
    name: Annotated[str | None, typer.Option(help="name of the policy, default the run's")] = None,
    height: Annotated[int, typer.Option(min=16, help="height of the robot's pictures, pixels")] = 480,
    width: Annotated[int, typer.Option(min=16, help="width of the robot's pictures, pixels")] = 640,
    mode: Annotated[
        str, typer.Option(help="recommended execution: receding, ensemble or open_loop")
    ] = "receding",
    actions_per_inference: Annotated[
        int, typer.Option(min=1, help="receding horizon: policy steps before the next chunk takes over")
    ] = 16,
    m: Annotated[
        float, typer.Option(help="ensembling weights exp(-m i), i = 0 the oldest: below 0 favours the newest")
    ] = 0.01,
    dataset: Annotated[
        list[Path] | None,
        typer.Option(help="dataset of the golden samples, default the run's; repeat for more"),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="the twin's task that the policy is for, default that of its rollouts")
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", help="the last weights instead of their running mean")
    ] = False,
    best: Annotated[
        bool, typer.Option("--best", help="of a run: the checkpoint that did best in its rollouts")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the manifest as JSON")] = False,
) -> None:
    """Write a policy bundle: ONNX model, golden samples and manifest, checked by loading it.

    With --to lerobot, a folder that LeRobot loads; the options of a bundle then mean nothing.
    """
    console = Console(stderr=True)
    need_torch()
    from inference.ensembler import ExecutionConfig
    from training.export import export_bundle
    from training.rollouts import best_checkpoint

    source = best_checkpoint(checkpoint) if best else checkpoint
    if to == "lerobot":
        from training.checkpoint import load_checkpoint
        from training.lerobot.write import write_pretrained

        for note in write_pretrained(load_checkpoint(source), out, averaged=not last):
            console.print(note)
        return
    if to != "bundle":
        raise ConfigError(f"--to {to} is not known, only bundle or lerobot")
    wanted = {"mode": mode, "actions_per_inference": actions_per_inference, "m": m}
    manifest = export_bundle(
        source,
        out,
        name=name,
        camera_size_px=(height, width),
        execution=checked(wanted, ExecutionConfig, "execution"),
        datasets=tuple(dataset or ()),
        averaged=not last,
        task=task,
    )
    if as_json:
        typer.echo(json.dumps(manifest.model_dump(mode="json"), indent=2))
    else:
        console.print(f"{manifest.name}: {out}, chunk of {manifest.chunk_size} at {manifest.fps:g} Hz")
