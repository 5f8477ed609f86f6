"""Start, stop, state and faults of the arm."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError

from robot.errors import CommandError
from services.api import state as view
from services.api.context import Context, Ctx
from services.api.models import StopRequest
from services.api.problems import Problem, invalid_request

router = APIRouter(prefix="/v1", tags=["arm"])

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
}


def refused(error: CommandError) -> Problem:
    """A refusal of another process as a problem: 409, or 503 where the process is not there."""
    status = STATUS_OF.get(error.code, 409)
    return Problem(status, error.code, str(error), REMEDY_OF.get(error.code, "see GET /v1/state"))


@router.post("/start", summary="Energise and go to the ready pose")
async def start(context: Ctx) -> dict[str, Any]:
    """Energise without a snap, then ramp slowly to the ready pose. Idempotent.

    A person's start also acknowledges that a process of the service had died and runs again; faults of
    the arm itself have to be cleared by ``POST /v1/faults/clear``.
    """
    try:
        await _acknowledge_restarts(context)
        await context.link.controller("start", timeout_s=3.0)
    except CommandError as error:
        raise refused(error) from error
    return {"mode": await _settled_mode(context)}


async def _settled_mode(context: Context) -> str:
    """The mode once the controller has published what the start led to (a tick or two later)."""
    for _ in range(10):
        mode = view.mode(context)
        if mode in {"starting", "ready", "running"}:
            break
        await asyncio.sleep(0.02)
    return view.mode(context)


async def _acknowledge_restarts(context: Context) -> None:
    latched = [fault for fault in view.faults(context) if fault.get("code") in SOFTWARE_FAULTS]
    others = [
        fault
        for fault in context.link.status().get("faults", [])
        if fault.get("code") not in SOFTWARE_FAULTS and fault.get("severity") not in {"warn", "slow"}
    ]
    if not latched or others:
        return
    await _clear(context, latched)


async def _clear(context: Context, latched: list[dict[str, Any]]) -> None:
    service_ids = {fault.get("id") for fault in context.link.service().get("faults", [])}
    if any(fault.get("id") in service_ids for fault in latched):
        await context.link.supervisor("clear_faults")
    if any(fault.get("id") not in service_ids for fault in latched):
        await context.link.controller("clear_faults")


@router.post("/stop", summary="Stop at once")
async def stop(context: Ctx, request: Request) -> dict[str, Any]:
    """Stop: ``{"level": "hold"}`` (default), ``"park"`` or ``"release"``. Needs no body and no rights.

    What cannot be understood still stops the arm (hold), and is then answered with 422.
    """
    level, problem = await _stop_level(request)
    context.pickups.stopped(level)
    for attempt in range(3):
        try:
            await context.link.controller("stop", timeout_s=0.7, level=level)
            break
        except CommandError as error:
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
    return {"stopped": True, "level": level, "mode": view.mode(context)}


async def _stop_level(request: Request) -> tuple[str, Problem | None]:
    """The level in the body; hold and a problem where the body is not right."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > 4096:
            return "hold", Problem(
                413, "body_too_large", "the arm was stopped with hold; the body was not read"
            )
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
async def clear_faults(context: Ctx) -> dict[str, Any]:
    """Clear what is latched. Nothing moves. 409 while a cause is still there."""
    latched = [fault for fault in view.faults(context) if fault.get("id") != "api-1"]
    try:
        await _clear(context, latched)
    except CommandError as error:
        raise refused(error) from error
    return {"cleared": [fault.get("id") for fault in latched]}


@router.get("/policies", summary="The loaded policy", tags=["policies"])
async def policies(context: Ctx) -> list[dict[str, Any]]:
    """The policy this service was started with; an empty list without one."""
    loaded = view.policy(context)
    return [] if loaded is None else [loaded]
