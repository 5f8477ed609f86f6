"""People who drive: sessions, takeovers of a pickup, and streams of intents."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, WebSocket, WebSocketDisconnect
from pydantic import Field, TypeAdapter, ValidationError

from robot.errors import CommandError
from robot.teleop.intents import Intent
from services.api.arm import refused
from services.api.context import Context, Ctx
from services.api.models import Nothing, TeleopRequest
from services.api.problems import Problem, declined, invalid_request, problem_body
from services.pickups import Refusal

router = APIRouter(prefix="/v1/teleop", tags=["teleoperation"])
LONGEST_INTENT = 2048
"""Characters of a message that is still read."""
PATIENCE = 50
"""Messages in a row that are no intents; then the socket is closed."""
COMPLAIN_S = 1.0
"""The same complaint is not sent more often over a socket."""
_INTENT: TypeAdapter[Intent] = TypeAdapter(Annotated[Intent, Field(discriminator="kind")])


@router.get("", summary="Who drives, and how it goes")
async def teleop(context: Ctx) -> dict[str, Any]:
    """Whether a person drives, with what (`source`), and whether that is in the midst of a pickup.

    A leader is followed once it is `engaged`; `away` says by how many degrees (gripper: percent) each joint
    of it is off until then. `limited` is what keeps the arm from doing what is asked, `lag_ms` the time from
    the person's target to the arm's position, once it has moved. `reason` says why the last session ended.
    """
    return context.teleop.describe()


@router.post("/start", summary="Begin to drive")
async def start(request: TeleopRequest, context: Ctx) -> dict[str, Any]:
    """Let a person drive from the ready pose: with the `leader` arm, or by intents (`teleop`).

    A leader that stands elsewhere is approached slowly. 409 while the arm is not ready, or while a pickup or
    another session has it. A session ends after an hour at the latest.
    """
    return await _done(context, context.teleop.begin(request.source))


@router.post("/stop", summary="End the session")
async def stop(context: Ctx, body: Nothing | None = None) -> dict[str, Any]:
    """End the session; the arm goes back to its ready pose. Nothing happens where there is none."""
    return await _done(context, context.teleop.end())


@router.post("/take_over", summary="Correct the policy")
async def take_over(request: TeleopRequest, context: Ctx) -> dict[str, Any]:
    """Drive in the policy's place while a pickup runs, without a jump.

    A leader first has to be brought to where the arm stands; until then the arm stands still. The person's
    time does not count towards the pickup's limit, and its end is judged as usual.
    """
    return await _done(context, context.teleop.take_over(request.source))


@router.post("/hand_back", summary="Let the policy go on")
async def hand_back(context: Ctx, body: Nothing | None = None) -> dict[str, Any]:
    """The policy goes on with the pickup from where the arm is. 409 while it cannot; the person drives on."""
    return await _done(context, context.teleop.hand_back())


@router.post("/intent", summary="One intent")
async def intent(context: Ctx, body: Annotated[Intent, Body(discriminator="kind")]) -> dict[str, Any]:
    """What the arm is to do now, while `teleop` drives. Numbers that are too large are capped.

    `jog` (speeds of the tool point along the base frame's axes, turns of the hand, of the gripper) and
    `joints` (degrees per second) last a quarter of a second unless they are repeated, a `pose` is one of a
    stream of joint targets, `goto` and `gripper` go on until they are reached, `halt` stands still.
    """
    _send(context, body)
    return {"taken": True}


@router.websocket("/intents")
async def intents(socket: WebSocket, context: Ctx) -> None:
    """A stream of intents, each a message. Only problems are answered; a socket that closes is a halt."""
    await socket.accept()
    complaints = _Complaints()
    taken = False
    try:
        while not complaints.too_many:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            try:
                _send(context, _read(message.get("text")))
                taken = True
                complaints.none()
            except Problem as problem:
                if complaints.worth_saying(problem):
                    await socket.send_json(problem_body(problem))
            await asyncio.sleep(0)  # a flood has to take turns with everybody else
        await socket.close(1008, f"{PATIENCE} messages in a row were no intents")
    except (WebSocketDisconnect, RuntimeError):
        return
    finally:
        if taken:
            context.teleop.halt()


class _Complaints:
    """What goes wrong on one socket: told, but not as often as it happens, and not without end."""

    def __init__(self) -> None:
        self._malformed = 0
        self._said: tuple[str, float] = ("", 0.0)

    @property
    def too_many(self) -> bool:
        return self._malformed >= PATIENCE

    def none(self) -> None:
        self._malformed, self._said = 0, ("", 0.0)

    def worth_saying(self, problem: Problem) -> bool:
        self._malformed = self._malformed + 1 if problem.status == 422 else 0
        now_s = time.monotonic()
        code, said_s = self._said
        if code == problem.code and now_s - said_s < COMPLAIN_S:
            return False
        self._said = (problem.code, now_s)
        return True


def _read(text: str | None) -> Intent:
    """Raises Problem 422."""
    if text is None or len(text) > LONGEST_INTENT:
        words = f"a message must be the text of one JSON object of at most {LONGEST_INTENT} characters"
        raise Problem(422, "invalid_request", words, "see /docs for the intents")
    try:
        return _INTENT.validate_json(text)
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False, include_input=False)) from error


def _send(context: Context, intent: Intent) -> None:
    with _as_problem():
        context.teleop.jog(intent)


async def _done(context: Context, command: Awaitable[None]) -> dict[str, Any]:
    with _as_problem():
        await command
    return context.teleop.describe()


@contextlib.contextmanager
def _as_problem() -> Iterator[None]:
    try:
        yield
    except Refusal as error:
        raise declined(error) from error
    except CommandError as error:
        raise refused(error) from error
