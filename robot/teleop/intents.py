"""What a person asks the arm to do, from whatever device: small JSON objects, one a datagram.

Unknown kinds, unknown fields and what is no finite number are refused. Numbers that are merely too large are
capped: a stick that is pushed too far means "as fast as allowed".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from robot.config import StrictModel
from robot.errors import CommandError
from robot.mailbox import MailboxClient

MAX_JOG_MPS = 0.25
"""Fastest jog of the tool point along an axis, metres per second."""
MAX_TURN_DPS = 90.0
"""Fastest turn of the hand, degrees per second."""
MAX_GRIPPER_PPS = 150.0
"""Fastest jog of the gripper, percent per second."""
MAX_JOINT_RATE = 120.0
"""Fastest jog of a joint, user units per second: half of what the gate allows the twin."""
FARTHEST_M = 1.0
"""Twice the arm's reach: a point farther away along an axis means the same."""
WIDEST = 360.0
"""User units: no joint goes farther."""


def _capped(most: float, least: float | None = None) -> AfterValidator:
    low = -most if least is None else least
    return AfterValidator(lambda value: min(max(value, low), most))


_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Speed = Annotated[_Number, _capped(MAX_JOG_MPS)]
_Turn = Annotated[_Number, _capped(MAX_TURN_DPS)]
_Rate = Annotated[_Number, _capped(MAX_JOINT_RATE)]
_Place = Annotated[_Number, _capped(FARTHEST_M)]
_Unit = Annotated[_Number, _capped(WIDEST)]


class Jog(StrictModel):
    """Move the tool point along the base frame's axes and turn the hand, for as long as it is repeated."""

    kind: Literal["jog"] = "jog"
    vx_mps: _Speed = 0.0
    vy_mps: _Speed = 0.0
    vz_mps: _Speed = 0.0
    pitch_dps: _Turn = 0.0
    """Positive points the gripper further down."""
    roll_dps: _Turn = 0.0
    gripper_pps: Annotated[_Number, _capped(MAX_GRIPPER_PPS)] = 0.0
    """Percent per second; positive opens."""


class JointRates(StrictModel):
    """Move joints, for as long as it is repeated."""

    kind: Literal["joints"] = "joints"
    rates: tuple[_Rate, _Rate, _Rate, _Rate, _Rate, _Rate]
    """User units per second."""


class Goto(StrictModel):
    """Bring the tool point to a place, base frame; what is left out stays as it is."""

    kind: Literal["goto"] = "goto"
    x_m: _Place | None = None
    y_m: _Place | None = None
    z_m: _Place | None = None

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Goto:
        if self.x_m is None and self.y_m is None and self.z_m is None:
            raise ValueError("goto needs x_m, y_m or z_m")
        return self


class GripperTo(StrictModel):
    """Open or close the gripper to a width."""

    kind: Literal["gripper"] = "gripper"
    gripper_pct: Annotated[_Number, _capped(100.0, 0.0)]


class Pose(StrictModel):
    """One of a stream of joint targets, such as an expert's; the arm stays at the last one when it ends."""

    kind: Literal["pose"] = "pose"
    position: tuple[_Unit, _Unit, _Unit, _Unit, _Unit, _Unit]
    """User units."""


class Halt(StrictModel):
    """Stand still and forget what was wanted."""

    kind: Literal["halt"] = "halt"


Intent = Jog | JointRates | Goto | GripperTo | Pose | Halt

_ADAPTER: TypeAdapter[Intent] = TypeAdapter(Annotated[Intent, Field(discriminator="kind")])


def parse_intent(value: dict[str, Any]) -> Intent:
    """An intent from a JSON object.

    Raises:
        CommandError: (``malformed``) it is none; the message names the field and what is wrong with it.
    """
    return _checked(lambda: _ADAPTER.validate_python(value))


def read_intent(payload: bytes) -> Intent:
    """An intent from a datagram. Raises CommandError (``malformed``), as :func:`parse_intent`."""
    return _checked(lambda: _ADAPTER.validate_json(payload))


class TeleopClient:
    """The sending end, for whoever has a person in front of it.

    Args:
        path: ``Runtime.teleop_socket``.
    """

    def __init__(self, path: Path) -> None:
        self._mailbox = MailboxClient(path)

    def send(self, intent: dict[str, Any]) -> None:
        """Send one intent without waiting.

        Raises:
            CommandError: (``malformed``) it is no intent; (``unreachable``) no run of the source teleop
                listens; (``busy``) the queue is full.
        """
        parse_intent(intent)
        self._mailbox.tell(intent)


def _checked(validate: Callable[[], Intent]) -> Intent:
    try:
        return validate()
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        said = f"intent {where}: {problem['msg']}" if where else f"intent: {problem['msg']}"
        raise CommandError(said[:200], code="malformed") from error
