"""Pickups as resources."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from fastapi import APIRouter, Response

from robot.errors import CalibrationError, UnreachableError
from services.api.context import Context, Ctx
from services.api.models import Nothing, PickupRequest, PixelPoint
from services.api.problems import Problem, declined
from services.pickups import Pickup, Refusal

router = APIRouter(prefix="/v1/pickups", tags=["pickups"])


@router.post("", status_code=202, summary="Pick up what lies there")
async def create(request: PickupRequest, response: Response, context: Ctx) -> dict[str, Any]:
    """Begin a pickup at a table point or at a pixel of a calibrated camera.

    422 with the reason if the point cannot be reached; 409 if the arm is off, busy or has a fault;
    503 while a process that it takes is being started again.
    """
    if request.place is not None:
        raise Problem(
            422, "place_unsupported", "this policy puts everything into the bowl", "leave out 'place'"
        )
    x_m, y_m = _point(request, context)
    _check_outside_bowl(context, x_m, y_m)
    await _check_reachable(context, x_m, y_m)
    if context.description.get("policy") is None:
        raise Problem(409, "no_policy", "the service runs without a policy", "so101 serve --policy BUNDLE")
    _check_worker(context)
    pixel = None if request.pixel is None else request.pixel.model_dump()
    try:
        pickup = context.pickups.begin(x_m, y_m, pixel)
    except Refusal as error:
        raise declined(error) from error
    response.headers["Location"] = f"/v1/pickups/{pickup.id}"
    return pickup.as_dict()


def _point(request: PickupRequest, context: Context) -> tuple[float, float]:
    if request.pixel is not None:
        return pixel_to_table(context, request.pixel)
    if request.x_m is None or request.y_m is None:  # the model has seen to it; for the type checker
        raise Problem(422, "invalid_request", "give x_m and y_m, or pixel")
    return request.x_m, request.y_m


def pixel_to_table(context: Context, pixel: PixelPoint) -> tuple[float, float]:
    """Table point (x_m, y_m) of a pixel. Raises Problem 422 where there is none."""
    if pixel.camera not in {camera.name for camera in context.config.cameras}:
        known = ", ".join(camera.name for camera in context.config.cameras)
        raise Problem(
            422, "no_such_camera", "pixel.camera: there is no camera of this name", f"cameras: {known}"
        )
    camera = context.camera(pixel.camera)
    table_map = context.table_maps.get(pixel.camera)
    if table_map is None:
        raise Problem(
            422,
            "camera_not_calibrated",
            f"camera {camera.name} has no map from pixels to the table",
            f"measure it with `so101 calibrate table {camera.name} --robot FILE`, or give x_m and y_m",
        )
    if pixel.u > camera.width_px - 1 or pixel.v > camera.height_px - 1:
        raise Problem(
            422,
            "pixel_outside",
            f"pictures of camera {camera.name} have {camera.width_px} x {camera.height_px} pixels",
            "give u from the left and v from the top, in pixels",
        )
    try:
        return table_map.to_table(pixel.u, pixel.v)
    except CalibrationError as error:
        raise Problem(422, "unreachable", str(error), "choose a pixel on the table") from error


def _check_outside_bowl(context: Context, x_m: float, y_m: float) -> None:
    """What lies in the bowl is where it is to go. Raises Problem 422."""
    bowl = context.config.bowl
    if bowl is not None and math.hypot(x_m - bowl.x_m, y_m - bowl.y_m) <= bowl.radius_m:
        words = f"the point lies in the bowl at ({bowl.x_m:g}, {bowl.y_m:g}) m"
        remedy = f"choose a point more than {bowl.radius_m:g} m from the bowl's middle"
        raise Problem(422, "in_bowl", words, remedy)


async def _check_reachable(context: Context, x_m: float, y_m: float) -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.run_in_executor(context.thinker, context.kinematics.check_pickup, x_m, y_m)
    except UnreachableError as error:
        w = context.config.workspace
        remedy = (
            f"choose a point {w.min_radius_m} to {w.max_radius_m} m from the pan axis (x = 0.039 m), "
            f"at most {w.max_pan_deg:g} degrees to either side"
        )
        raise Problem(422, "unreachable", str(error), remedy) from error


def _check_worker(context: Context) -> None:
    worker = context.link.worker()
    if worker.get("state") not in ("idle", "running"):
        raise Problem(
            409,
            "policy_not_ready",
            str(worker.get("error") or "the policy is being loaded"),
            "wait for /readyz, or see GET /v1/policies",
        )


@router.get("", summary="All pickups, newest first")
async def listing(context: Ctx) -> list[dict[str, Any]]:
    """The pickups of this service, also those from before a restart of its API."""
    return [pickup.as_dict() for pickup in context.pickups.newest_first()]


@router.get("/{pickup_id}", summary="One pickup")
async def one(pickup_id: str, context: Ctx) -> dict[str, Any]:
    """Status ``queued``, ``running``, ``succeeded``, ``failed`` or ``cancelled``, with the reason."""
    return _find(context, pickup_id).as_dict()


@router.post("/{pickup_id}/cancel", summary="End a pickup")
async def cancel(pickup_id: str, context: Ctx, body: Nothing | None = None) -> dict[str, Any]:
    """The run is ended and the arm goes back to its ready pose. A finished pickup stays as it is."""
    pickup = _find(context, pickup_id)
    context.pickups.cancel(pickup)
    for _ in range(50):
        if pickup.done:
            break
        await asyncio.sleep(0.02)
    return pickup.as_dict()


def _find(context: Context, pickup_id: str) -> Pickup:
    pickup = context.pickups.get(pickup_id)
    if pickup is None:
        raise Problem(404, "no_such_pickup", "there is no pickup with this id", "GET /v1/pickups lists them")
    return pickup
