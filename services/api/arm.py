"""Start, stop, state and faults of the arm."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from robot.errors import CommandError
from services.api import state as view
from services.api.context import Context, Ctx
from services.api.models import Nothing, StopRequest
from services.api.problems import Problem, invalid_request

router = APIRouter(prefix="/v1", tags=["arm"])

STOP_BODY_S = 0.2
"""Longest wait for a stop's body: what it says matters less than that the arm stops now."""
STOPPED_S = 0.2
"""Longest wait for the status to show a stop that the controller has confirmed."""
MOVING = frozenset({"starting", "ready", "running"})
"""Modes that a stop ends."""
SOFTWARE_FAULTS = frozenset({"commander_lost", "controller_lost", "inference_stalled"})
"""Faults of processes, not of the arm. A person who asks for a start has seen that they run again."""

STATUS_OF = {
    "controller_unavailable": 503,
    "worker_unavailable": 503,
    "supervisor_unavailable": 503,
    "malformed": 500,
    "unknown_op": 500,
}
REMEDY_OF = {
    "controller_unavailable": "wait for /readyz; the servos hold their last position meanwhile",
    "fault_latched": "look at the arm, remove the cause, POST /v1/faults/clear, then POST /v1/start",
    "fault_active": "remove the cause first; GET /v1/faults names it",
    "busy": "wait, cancel the pickup, or POST /v1/stop",
    "not_ready": "POST /v1/start",
    "no_such_run": "the run has ended: GET /v1/pickups or GET /v1/teleop says why",
    "unreachable": "the run has ended: GET /v1/teleop says why",
}
UNDONE_REMEDY = {
    "hold": "if the arm still moves, cut its power",
    "park": "what has torque holds where it is: look at GET /v1/faults, then ask again",
    "release": "some servos may be limp already, so hold the arm: it is tried until all have let go",
}
"""By the level of a stop that the controller could not carry out."""


def refused(error: CommandError) -> Problem:
    """A refusal of another process as a problem: 409, or 503 where the process is not there."""
    status = STATUS_OF.get(error.code, 409)
    return Problem(status, error.code, str(error), REMEDY_OF.get(error.code, "see GET /v1/state"))


@router.post("/start", summary="Energise and go to the ready pose")
async def start(context: Ctx, body: Nothing | None = None) -> dict[str, Any]:
    """Energise without a snap, then ramp slowly to the ready pose. Idempotent.

    A person's start also acknowledges that a process of the service had died and runs again; faults of
    the arm itself have to be cleared by ``POST /v1/faults/clear``.
    """
    try:
        service_too = await _acknowledge_restarts(context)
        await context.link.controller("start", timeout_s=3.0)
    except CommandError as error:
        raise refused(error) from error
    if service_too:
        with contextlib.suppress(CommandError):  # else it stays latched, is shown, and no pickup is taken
            await context.link.supervisor("clear_faults")
    return {"mode": await _settled_mode(context)}


async def _settled_mode(context: Context) -> str:
    """The mode once the controller has published what the start led to (a tick or two later)."""
    for _ in range(10):
        mode = view.mode(context)
        if mode in {"starting", "ready", "running"}:
            break
        await asyncio.sleep(0.02)
    return view.mode(context)


async def _acknowledge_restarts(context: Context) -> bool:
    """Clear the controller's part, which keeps it from starting.

    Returns:
        Whether the supervisor has a part too. It is cleared once the controller has taken the start: until
        then nobody is to think that all is well.

    Raises:
        CommandError: (``fault_active``) a process has not come back yet, or a controller's refusal.
    """
    latched = [fault for fault in view.faults(context) if fault.get("code") in SOFTWARE_FAULTS]
    others = [
        fault
        for fault in context.link.status().get("faults", [])
        if fault.get("code") not in SOFTWARE_FAULTS and fault.get("severity") not in {"warn", "slow"}
    ]
    if not latched or others:
        return False
    gone = [
        str(fault.get("code")) for fault in context.link.service().get("faults", []) if fault.get("active")
    ]
    if gone:
        raise CommandError(f"still there: {', '.join(gone)}", code="fault_active")
    arms, services = _owners(context, latched)
    if arms:
        await context.link.controller("clear_faults")
    return services


def _owners(context: Context, latched: list[dict[str, Any]]) -> tuple[bool, bool]:
    """Whether some of these faults are the controller's, and whether some are the supervisor's."""
    service_ids = {fault.get("id") for fault in context.link.service().get("faults", [])}
    services = [fault.get("id") in service_ids for fault in latched]
    return not all(services), any(services)


@router.post("/stop", summary="Stop at once")
async def stop(context: Ctx, request: Request) -> dict[str, Any]:
    """Stop: ``{"level": "hold"}`` (default), ``"park"`` or ``"release"``. Needs no body and no rights.

    What cannot be understood still stops the arm (hold), and is then answered with 422. 409 says what kept
    the arm from it: park and release need servos that answer.
    """
    level, problem = await _stop_level(request)
    context.pickups.stopped(level)
    context.teleop.stopped(level)
    for attempt in range(3):
        try:
            await context.link.controller("stop", timeout_s=0.7, level=level)
            break
        except CommandError as error:
            if error.code != "controller_unavailable":
                status = STATUS_OF.get(error.code, 409)
                raise Problem(status, error.code, str(error), UNDONE_REMEDY[level]) from error
            if attempt == 2:
                raise Problem(
                    503,
                    "controller_unavailable",
                    "the controller did not confirm the stop",
                    "the servos hold their last position; if the arm still moves, cut its power",
                ) from error
            await asyncio.sleep(0.15)
    if problem is not None:
        raise problem
    return {"stopped": True, "level": level, "mode": await _mode_after(context, STOPPED_S, MOVING)}


async def _mode_after(context: Context, longest_s: float, unlike: frozenset[str]) -> str:
    """The mode as soon as it is none of these; the one that is seen when the time is up."""
    deadline_s = time.monotonic() + longest_s
    while (mode := view.mode(context)) in unlike and time.monotonic() < deadline_s:
        await asyncio.sleep(0.01)
    return mode


async def _stop_level(request: Request) -> tuple[str, Problem | None]:
    """The level in the body; hold and a problem where the body is not right, or does not come in time."""
    body = bytearray()
    try:
        async with asyncio.timeout(STOP_BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > 4096:
                    return "hold", Problem(
                        413, "body_too_large", "the arm was stopped with hold; the body was not read"
                    )
    except (TimeoutError, ClientDisconnect):
        words = f"the arm was stopped with hold; the body did not come within {STOP_BODY_S:g} s"
        return "hold", Problem(408, "body_too_late", words, 'send nothing, or {"level": "hold"} at once')
    if not body.strip():
        return "hold", None
    try:
        return StopRequest.model_validate(json.loads(bytes(body))).level, None
    except ValidationError as error:
        problem = invalid_request(error.errors(include_url=False, include_context=False, include_input=False))
    except (ValueError, RecursionError):
        problem = Problem(
            422, "invalid_request", "the body is not JSON", 'send nothing, or {"level": "hold"}'
        )
    problem.detail = f"the arm was stopped with hold, but: {problem.detail}"
    return "hold", problem


@router.get("/state", summary="Everything about the arm and the service")
async def state(context: Ctx) -> dict[str, Any]:
    """Mode, joints, tool, faults, events, control loop, policy, cameras. Always answered."""
    return view.state(context)


@router.get("/faults", summary="Latched faults", tags=["faults"])
async def faults(context: Ctx) -> dict[str, Any]:
    """Faults with their remedies, and what happened to the processes of the service lately."""
    return {"faults": view.faults(context), "events": context.link.service().get("events", [])[::-1]}


@router.post("/faults/clear", summary="Clear faults whose cause is gone", tags=["faults"])
async def clear_faults(context: Ctx, body: Nothing | None = None) -> dict[str, Any]:
    """Clear what is latched; the answer lists what was. Nothing moves. 409 while a cause is still there."""
    arms, services = context.link.status().get("faults", []), context.link.service().get("faults", [])
    try:
        if services:
            await context.link.supervisor("clear_faults")
        if arms:
            await context.link.controller("clear_faults")
    except CommandError as error:
        raise refused(error) from error
    return {"cleared": [fault.get("id") for fault in (*arms, *services) if view.clearable(fault)]}


@router.get("/policies", summary="The loaded policy", tags=["policies"])
async def policies(context: Ctx) -> list[dict[str, Any]]:
    """The policy this service was started with; an empty list without one."""
    loaded = view.policy(context)
    return [] if loaded is None else [loaded]
