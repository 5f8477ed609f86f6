"""``so101``: every command of the project.

A command's module is imported when it is called, not before: ``so101 --help`` is quick, and commands that
need training's packages do not stand in the way of the others where these are not installed.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperGroup

from robot.errors import So101Error


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is found, and the line that ``--help`` shows for it."""

    module: str
    attribute: str
    summary: str


COMMANDS: dict[str, LazyCommand] = {
    "serve": LazyCommand("services.cli.serve", "serve", "The service: twin or arm, policy, HTTP, dashboard"),
    "twin": LazyCommand("services.cli.twin", "twin", "The digital twin alone: serial ports and cameras"),
    "ports": LazyCommand("services.cli.ports", "ports", "Serial adapters, the arms behind them, udev rules"),
    "setup-motors": LazyCommand(
        "services.cli.setup_motors", "setup_motors", "Ids and settings, servo by servo"
    ),
    "calibrate": LazyCommand("services.cli.calibrate", "app", "Measure the arm, its cameras, its table"),
    "doctor": LazyCommand("services.cli.doctor", "doctor", "What is wrong with a robot, and the remedy"),
    "teleop": LazyCommand("services.cli.teleop", "teleop", "Drive the arm: leader, keys, gamepad, dashboard"),
    "record": LazyCommand("services.cli.record", "record", "Episodes to disk"),
    "replay": LazyCommand("services.cli.replay", "replay", "An episode to the arm, or compared with it"),
    "dataset": LazyCommand("services.cli.dataset", "app", "Look at, check and work on episodes"),
    "correct": LazyCommand("services.cli.correct", "correct", "A policy drives, the expert mends: episodes"),
    "train": LazyCommand("services.cli.train", "train", "From episodes to a checkpoint"),
    "export": LazyCommand("services.cli.export", "export", "From a checkpoint to a policy bundle"),
    "import-lerobot": LazyCommand(
        "services.cli.import_lerobot", "import_lerobot", "A checkpoint of LeRobot's ACT to a bundle"
    ),
    "eval": LazyCommand("services.cli.evaluate", "evaluate", "How good a bundle is, on the twin"),
    "sweep": LazyCommand("services.cli.sweep", "sweep", "Training runs that differ in settings, compared"),
    "study": LazyCommand("services.cli.study", "app", "Compare policies, and write down what came of it"),
    "bench": LazyCommand("services.cli.bench", "app", "Figures of this machine"),
    "policies": LazyCommand("services.cli.policies", "policies", "The policies that can be trained or run"),
}
"""Every command by name, in the order of ``--help``."""


REMEDIES = {
    errno.EACCES: "see to its permissions",
    errno.EPERM: "see to its permissions",
    errno.ENOSPC: "make room on that disk",
    errno.EROFS: "that disk cannot be written to, choose another folder",
    errno.ENOTDIR: "a file is where a folder should be, choose another folder",
    errno.EEXIST: "a file is where a folder should be, choose another folder",
}
"""What to do about what a disk says, by the error's number."""


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and loads the one that is called.

    Types are left open: some versions of typer bring a click of their own, others use the installed one.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Commands whose modules are installed."""
        return [name for name, lazy in COMMANDS.items() if importlib.util.find_spec(lazy.module) is not None]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in with the summary, enough for help."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None or importlib.util.find_spec(lazy.module) is None:
            return None
        return _command(cmd_name, lambda: None, lazy.summary)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command itself, loaded."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, None if stand_in is None or name is None else load_command(name), rest

    def invoke(self, ctx: Any) -> Any:
        """Run; an error of ours is one line, not a traceback."""
        try:
            return super().invoke(ctx)
        except So101Error as error:
            typer.echo(f"so101: {error}", err=True)
            raise typer.Exit(1) from error
        except OSError as error:
            if error.errno not in REMEDIES:
                raise
            typer.echo(f"so101: {error}: {REMEDIES[error.errno]}", err=True)
            raise typer.Exit(1) from error


def load_command(name: str) -> Any:
    """Import a command and make it one that the group can call."""
    lazy = COMMANDS[name]
    found = getattr(importlib.import_module(lazy.module), lazy.attribute)
    return typer.main.get_command(found) if isinstance(found, typer.Typer) else _command(name, found)


def _command(name: str, function: Callable[..., Any], summary: str | None = None) -> Any:
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name, help=summary)(function)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=LazyGroup,
    help="Pick things up with an SO-101 arm, or with its digital twin.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def main() -> None:
    """Pick things up with an SO-101 arm, or with its digital twin."""
