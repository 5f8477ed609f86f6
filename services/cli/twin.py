"""``so101 twin``: the digital twin alone, for whoever speaks to serial ports and cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def twin(
    delay_ms: Annotated[
        float, typer.Option(min=0.0, max=1000.0, help="Camera delay in milliseconds, capture to picture.")
    ] = 30.0,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of what is drawn: which answers an unreliable bus spoils.")
    ] = 0,
    no_cameras: Annotated[
        bool, typer.Option("--no-cameras", help="Servos only: nothing is rendered.")
    ] = False,
    camera_port: Annotated[
        int, typer.Option(min=0, max=65535, help="TCP port of the cameras on 127.0.0.1; 0 takes a free one.")
    ] = 0,
    faults: Annotated[
        Path | None, typer.Option(help="YAML script of things that go wrong, see docs/twin.md.")
    ] = None,
    factory: Annotated[
        bool,
        typer.Option(
            "--factory",
            help="Servos fresh from the factory, all with id 1, only the grippers' connected.",
        ),
    ] = False,
) -> None:
    """Run the digital twin until it is interrupted.

    The first line on stdout is JSON: serial ports of follower and leader and stable links to them (by_id),
    camera URLs, control socket, pid.
    """
    from robot.twin.live import LiveOptions, run_live

    options = LiveOptions(
        seed=seed,
        camera_delay_ms=delay_ms,
        cameras=not no_cameras,
        camera_port=camera_port,
        faults=faults,
        factory=factory,
    )
    run_live(options)
