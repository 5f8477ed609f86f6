"""``so101 record``: episodes to disk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from robot.errors import ConfigError
from services.cli.progress import counting


def record(
    out: Annotated[Path, typer.Option(help="folder of the new dataset (LeRobot v3.0)")],
    robot: Annotated[str, typer.Option(help="only the twin has an expert")] = "twin",
    teleop: Annotated[str, typer.Option(help="who drives: expert, which needs no person")] = "expert",
    episodes: Annotated[int, typer.Option(min=1, help="successful episodes to keep")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="the same seed gives the same episodes")] = 0,
    image_size: Annotated[str, typer.Option(help="WIDTHxHEIGHT of the pictures, pixels, even")] = "256x192",
    jobs: Annotated[int, typer.Option(min=1, help="processes; the result does not depend on it")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="what was recorded, as JSON")] = False,
) -> None:
    """Record episodes of the scripted expert on the lockstep twin, faster than real time."""
    if (robot, teleop) != ("twin", "expert"):
        raise ConfigError(f"only --robot twin with --teleop expert is recorded, not {robot} with {teleop}")
    size = re.fullmatch(r"(\d+)x(\d+)", image_size)
    if size is None:
        raise ConfigError(f"--image-size is WIDTHxHEIGHT, for instance 256x192, not {image_size!r}")
    from training.episodes import DemonstrationOrder
    from training.recorder import record_episodes

    try:
        order = DemonstrationOrder(seed=seed, width_px=int(size[1]), height_px=int(size[2]))
    except ValidationError as error:
        raise ConfigError(f"--image-size {image_size}: sides are even and at least 16 pixels") from error
    with counting("episodes", episodes) as (progress, bar):
        tried = record_episodes(out, order, episodes, jobs=jobs, on_episode=lambda: progress.advance(bar))
    if as_json:
        typer.echo(json.dumps({"out": str(out), "episodes": episodes, "attempts": tried}))
    else:
        typer.echo(f"{episodes} episodes ({tried} attempts) in {out}")
