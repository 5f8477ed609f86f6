"""``so101 teleop``: a person drives."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Annotated

import typer

from robot.errors import ConfigError


class Driver(StrEnum):
    """Who drives; the names are those of ``services.console.session.Driver``."""

    LEADER = "leader"
    KEYBOARD = "keyboard"
    GAMEPAD = "gamepad"
    DASHBOARD = "dashboard"
    EXPERT = "expert"


HostOption = Annotated[
    str, typer.Option(help="address to listen on; 0.0.0.0 lets the whole network move the arm")
]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="TCP port of the service and its dashboard")]
UrlOption = Annotated[
    str | None, typer.Option(help="drive at a service that runs already, http://HOST:PORT, and start none")
]


def teleop(
    robot: Annotated[str, typer.Option(help="twin, or the YAML file of a robot")] = "twin",
    driver: Annotated[
        Driver, typer.Option("--with", help="who drives; the expert only at the twin")
    ] = Driver.KEYBOARD,
    url: UrlOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    seconds: Annotated[
        float | None, typer.Option(min=1.0, help="begin without a key, and end after so many seconds")
    ] = None,
) -> None:
    """Drive the arm with a leader arm, keys, a gamepad or the dashboard; at the twin the expert can, too.

    Starts the service (or attaches to one with --url) and says where its dashboard is. Enter begins: the arm
    rises to its ready pose. Keys move the tool point: w s x, a d y, r f z; t g pitch, z x roll, o c gripper.
    A tap is a step of 10 mm, 3 degrees (roll 5) or 5 %, a held key moves at up to 0.12 m/s; + and - change
    the speed. Space stops the arm at once, always; q parks it and ends.
    """
    from services.console.run import Place, run_session
    from services.console.session import SessionOptions
    from services.serving import ServeOptions

    if driver is Driver.EXPERT and robot != "twin":
        raise ConfigError("the expert knows only the twin: --with leader, keyboard, gamepad or dashboard")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s teleop %(levelname)s %(message)s")
    place = Place(url=url) if url else Place(own=ServeOptions(robot=robot, host=host, port=port))
    unattended = driver is Driver.EXPERT or seconds is not None
    options = SessionOptions(driver=driver.value, begins=unattended, seconds=seconds)
    run_session(options, place, f"so101 teleop · {driver.value}")
