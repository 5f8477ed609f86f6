"""``so101 import-lerobot``: a checkpoint of LeRobot's ACT, taken over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from robot.calibration_file import load_calibration
from robot.errors import ConfigError
from robot.recording.replay import UNITS
from robot.recording.writer import Units
from services.cli.train import need_torch

if TYPE_CHECKING:
    from training.lerobot.convert import Imported


def import_lerobot(
    folder: Annotated[
        Path, typer.Argument(help="pretrained_model folder, as lerobot-train writes it (0.2 to 0.6)")
    ],
    out: Annotated[
        Path | None, typer.Option(help="folder of the bundle; an existing bundle is replaced")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="folder of a checkpoint from which so101 train goes on")
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the policy, default the bundle's folder")] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            help="the robot's camera=the checkpoint's picture, such as wrist=observation.images.front; "
            "default is the end of the picture's name; repeat for more"
        ),
    ] = None,
    units: Annotated[
        str | None,
        typer.Option(help="degrees or m100_100 (-100..100 of the swept range), if nothing else tells"),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="LeRobot's calibration file of the arm it was trained on; needed for m100_100"),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="actions a second: the frame rate of its dataset, default what that says"),
    ] = None,
    pickup: Annotated[
        bool,
        typer.Option("--pickup", help="its environment state is the pickup point: x, y, metres, base frame"),
    ] = False,
    dataset: Annotated[
        Path | None,
        typer.Option(help="the dataset it was trained on: statistics, rate, units, golden samples"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="what was imported as JSON")] = False,
) -> None:
    """Make a bundle that computes what LeRobot's ACT computes, in degrees, or go on training it here.

    What a checkpoint does not say (units, frame rate, which camera is which) is found out where something
    proves it, and else asked for; it is never guessed.
    """
    console = Console(stderr=True)
    need_torch()
    if out is None and checkpoint is None:
        raise ConfigError("say what to write: --out BUNDLE to run it, --checkpoint DIR to train it on")
    from training.lerobot.convert import Choices, convert
    from training.lerobot.importing import import_bundle, import_checkpoint
    from training.lerobot.pretrained import read_pretrained

    source = read_pretrained(folder)
    choices = Choices(
        units=_units(units),
        calibration=None if calibration is None else load_calibration(calibration),
        fps=fps,
        cameras=_cameras(camera or []),
        pickup=pickup,
        dataset=dataset,
    )
    imported = convert(source, choices)
    _tell(imported, console)
    written: dict[str, str] = {}
    if out is not None:  # first: it can be written again, where the checkpoint is then refused
        import_bundle(source, imported, out, name or out.resolve().name)
        written["bundle"] = str(out)
    if checkpoint is not None:
        run = import_checkpoint(imported, checkpoint)
        written["train"] = str(run)
        console.print(f"to go on training: so101 train {run} --dataset DIR")
    if as_json:
        typer.echo(json.dumps({**written, **_facts(imported)}, indent=2))
        return
    if out is not None:
        console.print(f"bundle: {out}")


def _units(asked: str | None) -> Units | None:
    for known in UNITS:
        if asked == known:
            return known
    if asked is not None:
        raise ConfigError(f"--units {asked} is not known, only {' or '.join(UNITS)}")
    return None


def _cameras(asked: list[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in asked]
    for camera, equals, feature in pairs:
        if not (camera and equals and feature):
            raise ConfigError(
                "--camera is the robot's camera=the checkpoint's, such as wrist=observation.images.front"
            )
    cameras = {camera: feature for camera, _, feature in pairs}
    if len(cameras) < len(pairs):
        raise ConfigError("--camera names one camera twice")
    return cameras


def _facts(imported: Imported) -> dict[str, object]:
    return {
        "parameters": sum(weight.numel() for weight in imported.policy.parameters()),
        "units": imported.units.units,
        "units_known_by": imported.units.why,
        "fps": imported.fps,
        "cameras": dict(imported.cameras),
        "chunk_size": imported.config.chunk_size,
        "execution": imported.execution.model_dump(mode="json"),
    }


def _tell(imported: Imported, console: Console) -> None:
    for camera, feature in imported.cameras.items():
        height, width = imported.config.picture_size_px(camera)
        console.print(f"camera {camera} is {feature}, {width}x{height}")
    console.print(f"units are {imported.units.units}: {imported.units.why}")
    execution = imported.execution
    console.print(
        f"chunk of {imported.config.chunk_size} at {imported.fps:g} Hz, run as LeRobot would: "
        f"{execution.mode}"
    )
