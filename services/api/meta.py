"""Health, readiness, metrics."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Response

from services.api import state as view
from services.api.context import Context, Ctx
from services.api.problems import Problem

router = APIRouter(tags=["service"])
CAMERA_STALE_S = 1.5


def checks(context: Context) -> dict[str, str]:
    """What has to be well before a pickup can be taken: ``ok``, or what is wrong."""
    found = {"controller": "ok" if context.link.controller_alive() else "no telemetry"}
    loaded = view.policy(context)
    if loaded is not None:
        state = loaded["state"]
        found["policy"] = "ok" if state in {"idle", "running"} else str(loaded.get("error") or state)
    for camera in context.config.cameras:
        frame = context.link.frame(camera.name)
        fresh = frame is not None and time.monotonic() - frame.time_s < CAMERA_STALE_S
        why = context.link.camera(camera.name).get("error")
        stale = f"no fresh picture: {why}" if why else "no fresh picture"
        blind = [f["message"] for f in context.link.camera(camera.name).get("findings", ()) if f["blinds"]]
        found[f"camera {camera.name}"] = stale if not fresh else blind[0] if blind else "ok"
    if context.description.get("recording"):
        told = context.link.recorder()
        there = told.get("state") not in {None, "opening", "failed"}
        found["recorder"] = "ok" if there else str(told.get("message") or "being started")
    severe = [f for f in view.faults(context) if f.get("severity") in {"hold", "park", "release"}]
    found["faults"] = "ok" if not severe else ", ".join(str(fault.get("code")) for fault in severe)
    return found


@router.get("/healthz", summary="Whether the API lives")
async def healthz() -> dict[str, str]:
    """Answered as long as this process is alive; says nothing of the arm."""
    return {"status": "ok"}


@router.get("/readyz", summary="Whether a pickup could be taken after a start")
async def readyz(context: Ctx) -> dict[str, Any]:
    """Controller, cameras and policy are there and no fault is latched; else 503 that names what is not."""
    found = checks(context)
    if any(value != "ok" for value in found.values()):
        wrong = "; ".join(f"{name}: {value}" for name, value in found.items() if value != "ok")
        raise Problem(503, "not_ready", wrong, "wait, or see GET /v1/faults", ready=False, checks=found)
    return {"ready": True, "checks": found}


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(context: Ctx) -> Response:
    """Text format of Prometheus."""
    return Response(context.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
