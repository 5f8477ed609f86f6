"""A session with a service of its own, or with one that runs already."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import NoReturn

import typer

from robot.config import load_robot
from robot.errors import ConfigError
from services.console.actions import Action
from services.console.capture import Capture
from services.console.client import ServiceClient
from services.console.gamepad import find_gamepad
from services.console.screen import PlainView, ScreenView, View
from services.console.session import Session, SessionOptions
from services.console.status import Status
from services.console.terminal import usable
from services.serving import ServeOptions, serve

STDIN, STDOUT = 0, 1
LYING_LEADER = (
    "nobody holds the twin's leader, so the arm goes to where that lies and stays there: the keyboard, a "
    "gamepad, the dashboard or the expert drive it (a script can lead the leader, see docs/twin.md)"
)
TERMINATED = 143
"""Exit status after SIGTERM, as shells have it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the service is: one to start, or the address of one that runs.

    Attributes:
        own: what to start.
        url: where one runs.
    """

    own: ServeOptions | None = None
    url: str | None = None


def run_session(options: SessionOptions, place: Place, title: str) -> Status:
    """Run a session to its end; how things were at the last look.

    Raises:
        So101Error: an option cannot be right here; nothing was started, or nothing is left running.
    """
    keys = usable(STDIN)
    if options.driver == "keyboard" and not keys:
        raise ConfigError(
            "the keyboard drives through a terminal and here is none: use a terminal (ssh -t), or the "
            "dashboard, the leader, a gamepad or the expert"
        )
    lying = options.driver == "leader" and place.own is not None and _leader_lies(place.own.robot)
    device = find_gamepad() if options.driver == "gamepad" else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_in_order())
        view = _view(stack, title, options.hints if keys else ())
        client, over = ServiceClient(_address(place)), threading.Event()
        end = over.set if place.own is None else _end_service
        terminal = STDIN if keys else None
        session = stack.enter_context(
            Session(options, client, view, end, terminal_fd=terminal, gamepad=device)
        )

        def begin() -> None:
            if not keys:
                view.say("no terminal, so no keys: the dashboard has buttons for everything")
            if lying:
                view.say(LYING_LEADER)
            session.begin()

        if place.own is None:
            client.get("/healthz")
            view.say(f"ready: {client.url}")
            _attached(session, over, begin)
        else:
            serve(place.own, view.say, begin)
    return session.status


def _leader_lies(robot: str) -> bool:
    """Whether the robot's leader is the twin's. Raises ConfigError where it has none."""
    config, _ = load_robot(robot)
    if config.leader_calibration is None or (config.kind != "twin" and config.leader_port is None):
        raise ConfigError(
            f"{robot} has no leader arm: name leader_port and leader_calibration in it, or drive with "
            "keyboard, gamepad or dashboard"
        )
    return config.kind == "twin"


def _address(place: Place) -> str:
    if place.own is None:
        return str(place.url)
    host = "127.0.0.1" if place.own.host in ("0.0.0.0", "::") else place.own.host  # noqa: S104
    return f"http://[{host}]:{place.own.port}" if ":" in host else f"http://{host}:{place.own.port}"


def _view(stack: contextlib.ExitStack, title: str, hints: tuple[str, ...]) -> View:
    if not os.isatty(STDOUT):
        return PlainView(partial(typer.echo, err=True))  # stdout is for results
    capture = stack.enter_context(Capture())
    screen = stack.enter_context(ScreenView(capture.console, title, hints))
    capture.lead_to(screen.say)
    return screen


def _end_service() -> None:
    """As Ctrl-C does: the arm parks, everything ends in order, and one more Ctrl-C ends it at once."""
    os.kill(os.getpid(), signal.SIGINT)


def _attached(session: Session, over: threading.Event, begin: Callable[[], None]) -> None:
    """Wait for the end of the session; Ctrl-C asks for it, or a terminal that goes; once more insists."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        session.ask(Action.QUIT)

    previous = {
        number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        begin()
        while not over.wait(0.2):
            pass
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """Before the supervisor takes signals and after it: the terminal gets its settings back."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(TERMINATED)

    previous = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
