"""What the recorder can be told: strictly parsed, the same in the mailbox and in the API's request bodies."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, field_validator

from robot.config import StrictModel
from robot.errors import CommandError
from robot.recording.scratch import Label
from services.recording.options import PickupPoint, checked_task

Task = Annotated[str, Field(min_length=1, max_length=500)]


class _Body(StrictModel):
    """Nothing is converted: a number in a string is refused."""

    model_config = ConfigDict(strict=True)


class Where(_Body):
    """What the next episode is about, where that is not what the session was told."""

    pickup: PickupPoint | None = None
    """Where the object lies."""
    task: Task | None = None

    _says_something = field_validator("task")(checked_task)


class Finish(_Body):
    """End the open episode, which keeps its label without one; where none is open, a label is the last's."""

    label: Label | None = None


class Next(Where, Finish):
    """End the open episode and begin another; where none is open, begin one."""


class Redo(Where):
    """Throw the open episode away, or the last one where none is open, and begin again."""


class SetLabel(_Body):
    """Say how the open episode went, or the one that has just ended; ``null`` takes it back."""

    label: Label | None


class Nothing(_Body):
    """The body of ``discard``: throw the open episode away, or the last one where none is open."""


class Stop(Finish):
    """End the open episode and the session."""


Command = Next | Finish | Redo | SetLabel | Nothing | Stop
BODIES: dict[str, type[_Body]] = {
    "next": Next,
    "finish": Finish,
    "redo": Redo,
    "discard": Nothing,
    "label": SetLabel,
    "stop": Stop,
}
"""Operation -> its body."""


class RefusedError(CommandError):
    """A command that the recorder does not carry out now.

    Attributes:
        remedy: what would make it possible.
    """

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super().__init__(message, code=code)
        self.remedy = remedy


def parse(command: dict[str, Any]) -> tuple[str, Any]:
    """Operation and checked body of a command ``{"op": ..., fields of the body}``.

    Raises:
        RefusedError: (``malformed``) no such operation, or fields that it does not take; they are named.
    """
    op = command.get("op")
    if not isinstance(op, str) or op not in BODIES:
        raise RefusedError("malformed", f"op must be one of {', '.join(BODIES)}")
    try:
        return op, BODIES[op].model_validate({key: command[key] for key in command.keys() - {"op"}})
    except ValidationError as error:
        found = [f"{'.'.join(map(str, each['loc'])) or op}: {each['msg']}" for each in error.errors()]
        raise RefusedError("malformed", f"{op}: {'; '.join(found)}") from error
