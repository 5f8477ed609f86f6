"""The digital twin's table. None of this exists on a real arm, and no verdict ever looks here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter

from robot.errors import CommandError
from services.api.context import Context, Ctx
from services.api.link import ask
from services.api.models import TwinRequest
from services.api.problems import Problem

router = APIRouter(prefix="/v1/twin", tags=["twin"])


async def command_twin(context: Context, command: dict[str, Any]) -> dict[str, Any]:
    """Send one command to the twin. Raises Problem: 404 on a real arm, 503 where the twin is gone."""
    try:
        return await ask(_control(context), command, timeout_s=2.0)
    except CommandError as error:
        raise Problem(503, "twin_unavailable", "the twin does not answer", "see GET /v1/faults") from error


def _control(context: Context) -> Path:
    control = context.twin_control
    if control is None:
        raise Problem(404, "no_twin", "this robot is a real arm", "start the service with --robot twin")
    return control


@router.get("", summary="What lies on the twin's table")
async def truth(context: Ctx) -> dict[str, Any]:
    """Where cube, confuser, disc and bowl are, and whether the cube is in the bowl."""
    answer = await command_twin(context, {"op": "truth"})
    return {key: value for key, value in answer.items() if key != "ok"}


@router.put("", summary="Place things on the twin's table")
async def place(request: TwinRequest, context: Ctx) -> dict[str, Any]:
    """Place cube, confuser or disc; ``null`` takes confuser or disc away. Answers like GET."""
    _control(context)
    if request.cube is not None:
        _accepted(await command_twin(context, {"op": "place_cube", **request.cube.model_dump()}))
    for name, point in (("confuser", request.confuser), ("disc", request.disc)):
        if point is not None:
            _accepted(await command_twin(context, {"op": f"place_{name}", **point.model_dump()}))
        elif name in request.model_fields_set:
            _accepted(await command_twin(context, {"op": f"remove_{name}"}))
    return await truth(context)


def _accepted(answer: dict[str, Any]) -> None:
    if answer.get("ok") is False:
        raise Problem(
            422, "not_placed", str(answer.get("message", "the twin refused")), "choose another point"
        )
