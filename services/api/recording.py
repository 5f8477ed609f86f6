"""Recording: what a key of the terminal does, a button of the dashboard does by these calls."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from robot.errors import CommandError
from services.api.context import Context, Ctx
from services.api.link import ask
from services.api.models import Nothing
from services.api.problems import Problem
from services.recording.commands import Finish, Next, Redo, SetLabel, Stop, Where

router = APIRouter(prefix="/v1/recording", tags=["recording"])
TIMEOUT_S = 5.0
"""Throwing an episode away waits for its encoders."""
_NOT_THERE = frozenset({"opening", "failed"})
"""Refusals because the dataset is not there: 503, the others are 409."""


@router.get("", summary="What is recorded, and how it goes")
async def recording(context: Ctx) -> dict[str, Any]:
    """The recorder's state, its open episode and the last one, the cameras' rates, and room on the disk.

    `state` is `opening`, `idle`, `recording`, `finishing` (for a moment), `failed` (the message says why; it
    is tried again) or `ended`. `recovered` tells of episodes that were open when a recorder was killed.
    """
    _recording(context)
    told = context.link.recorder()
    if not told:
        raise Problem(503, "recorder_unavailable", "the recorder is being started", "try again in a moment")
    return {key: value for key, value in told.items() if key != "pid"}


@router.post("/next", summary="Next episode")
async def begin_next(context: Ctx, body: Next | None = None) -> dict[str, Any]:
    """End the open episode and begin another, without a pause; where none is open, begin one.

    409 while nobody drives the arm, a camera or the servos are silent, the disk is full, or where it is not
    known where the object lies (`pickup`).
    """
    return await _tell(context, "next", _placed(context, body or Next()))


@router.post("/finish", summary="End the episode")
async def finish(context: Ctx, body: Finish | None = None) -> dict[str, Any]:
    """End the open episode and stay idle. Nothing happens where none is open."""
    return await _tell(context, "finish", body or Finish())


@router.post("/redo", summary="Record the episode again")
async def redo(context: Ctx, body: Redo | None = None) -> dict[str, Any]:
    """Throw the open episode away, or the last one of this session where none is open, and begin again."""
    return await _tell(context, "redo", _placed(context, body or Redo()))


@router.post("/discard", summary="Throw the episode away")
async def discard(context: Ctx, body: Nothing | None = None) -> dict[str, Any]:
    """Throw the open episode away, or the last one of this session where none is open."""
    return await _tell(context, "discard", body or Nothing())


@router.post("/label", summary="Say how it went")
async def label(context: Ctx, body: SetLabel) -> dict[str, Any]:
    """Label the open episode, or the one that has just ended; `null` takes a label back."""
    return await _tell(context, "label", body)


@router.post("/stop", summary="End the session")
async def stop(context: Ctx, body: Stop | None = None) -> dict[str, Any]:
    """End the open episode and the session; the arm is left alone."""
    return await _tell(context, "stop", body or Stop())


def _recording(context: Context) -> dict[str, Any]:
    """The session's options. Raises Problem 404 where this service records nothing."""
    options = context.description.get("recording")
    if not isinstance(options, dict):
        raise Problem(404, "not_recording", "this service records nothing", "start it with `so101 record`")
    return options


def _placed(context: Context, body: Where) -> Where:
    """The same with the running pickup's point, where a policy was sent there and nobody said another."""
    active = context.pickups.active
    if body.pickup is not None or active is None or _recording(context).get("pickup") != "required":
        return body
    return body.model_validate({**body.model_dump(), "pickup": {"x_m": active.x_m, "y_m": active.y_m}})


async def _tell(context: Context, op: str, body: Finish | Where | SetLabel | Nothing) -> dict[str, Any]:
    _recording(context)
    command = {"op": op, **body.model_dump(mode="json", exclude_unset=True)}
    try:
        answer = await ask(context.link.runtime.recorder_socket, command, TIMEOUT_S)
    except CommandError as error:
        words = "the recorder does not answer"
        raise Problem(503, "recorder_unavailable", words, "it is started again by itself") from error
    if not answer.get("ok"):
        code = str(answer.get("code", "refused"))
        detail, remedy = str(answer.get("message", "refused")), str(answer.get("remedy", ""))
        raise Problem(503 if code in _NOT_THERE else 409, code, detail, remedy, state=answer.get("state"))
    return {"state": answer.get("state"), "message": answer.get("message")}
