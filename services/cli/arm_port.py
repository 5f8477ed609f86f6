"""Which port a command on one arm speaks to: a named one, a robot file's, or that of a twin it starts."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from robot.adapters import find_adapters
from robot.config import load_robot
from robot.errors import ConfigError, So101Error

if TYPE_CHECKING:
    from robot.twin.client import TwinProcess


INTERRUPTED = 130
"""Exit status of what Ctrl-C ended, as shells have it."""


class Arm(StrEnum):
    """Which of the two arms."""

    FOLLOWER = "follower"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class ArmPort:
    """A port, and the twin behind it where there is one."""

    path: str
    arm: Arm
    twin: TwinProcess | None = None


@contextlib.contextmanager
def arm_port(port: str | None, robot: str | None, arm: Arm, *, factory: bool = False) -> Iterator[ArmPort]:
    """The port to use; a twin lives as long as this context.

    Args:
        port: given by the person; beats the others.
        robot: robot file or shipped name; ``twin`` starts a twin with nothing that can be touched.
        arm: whose port of the robot file, or of the twin.
        factory: the twin's servos are fresh from the factory.

    Raises:
        ConfigError: there is no such port, or nothing says which.
        TwinError: the twin did not start.
    """
    if port is not None:
        yield ArmPort(port, arm)
        return
    if robot is None:
        yield ArmPort(_only_adapter(), arm)
        return
    config, _ = load_robot(robot)
    if config.kind == "serial":
        named = config.port if arm is Arm.FOLLOWER else config.leader_port
        if named is None:
            raise ConfigError(f"{robot} has no leader_port: give --port; `so101 ports` lists what is there")
        yield ArmPort(named, arm)
        return
    from robot.twin.client import TwinProcess

    with TwinProcess(cameras=False, bare=True, factory=factory) as twin:
        yield ArmPort(twin.by_id[arm.value], arm, twin)


@contextlib.contextmanager
def interruptible(last_words: str) -> Iterator[list[str]]:
    """Ctrl-C, SIGTERM and a closed terminal unwind alike, so that servos are left locked, and end in a line.

    At a question, Ctrl-C and the end of stdin come as other errors; they end in the same line. An error that
    came while Ctrl-C had to wait, which says what the servos hold, takes the place of the last words.

    Args:
        last_words: what is true when that happens.

    Yields:
        A list with the last words, for whoever has to change them.
    """
    words = [last_words]
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield words
    except (KeyboardInterrupt, EOFError, typer.Abort) as interrupt:
        error = interrupt.__context__
        what = error if isinstance(error, So101Error) else words[0]
        typer.echo(f"\nso101: interrupted: {what}", err=True)
        raise typer.Exit(INTERRUPTED) from interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _only_adapter() -> str:
    adapters = [adapter for adapter in find_adapters() if adapter.chip is not None]
    if len(adapters) == 1:
        return adapters[0].stable
    found = f"{len(adapters)} adapters are plugged in" if adapters else "no adapter is plugged in"
    raise ConfigError(
        f"{found}: say which arm with --port, or --robot twin; `so101 ports` lists what is there"
    )
