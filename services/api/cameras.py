"""Pictures of the cameras."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from services.api import state as view
from services.api.context import Ctx
from services.api.feeds import CameraFeed
from services.api.models import PixelPoint
from services.api.pickups import pixel_to_table
from services.api.problems import Problem

router = APIRouter(prefix="/v1/cameras", tags=["cameras"])
BOUNDARY = "so101frame"
STALE_S = 2.0


@router.get("", summary="The cameras")
async def listing(context: Ctx) -> dict[str, Any]:
    """Size, age of the newest picture, and whether pixels can be turned into table points."""
    return view.cameras(context)


@router.get("/{name}/frame.jpg", summary="The newest picture", response_class=Response)
async def frame(name: str, context: Ctx) -> Response:
    """One JPEG; its age is in the header ``X-Frame-Age-Ms``. 503 when the camera has stopped."""
    context.camera(name)
    picture = await context.feeds[name].picture()
    if picture is None or picture.age_s > STALE_S:
        age = "no picture yet" if picture is None else f"no picture for {picture.age_s:.1f} s"
        why = context.link.camera(name).get("error")
        words = f"camera {name}: {age} ({why})" if why else f"camera {name}: {age}"
        raise Problem(503, "camera_stale", words, "see GET /v1/state, then check its cable")
    headers = {
        "X-Frame-Age-Ms": f"{1000 * picture.age_s:.0f}",
        "X-Frame-Index": str(picture.index),
        "Cache-Control": "no-store",
    }
    return Response(picture.jpeg, media_type="image/jpeg", headers=headers)


@router.get("/{name}/stream.mjpg", summary="Pictures as they come", response_class=StreamingResponse)
async def stream(name: str, context: Ctx) -> StreamingResponse:
    """Motion JPEG for an ``<img>``, about 15 a second, encoded once for all who watch."""
    context.camera(name)
    media_type = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
    return StreamingResponse(
        _parts(context.feeds[name]), media_type=media_type, headers={"Cache-Control": "no-store"}
    )


@router.get("/{name}/table", summary="What a pixel shows of the table")
async def table(
    name: str,
    context: Ctx,
    u: Annotated[float, Query(ge=0, le=4096, allow_inf_nan=False)],
    v: Annotated[float, Query(ge=0, le=4096, allow_inf_nan=False)],
) -> dict[str, float]:
    """The point of the table that a pixel of a calibrated camera shows. 422 where there is none."""
    x_m, y_m = pixel_to_table(context, PixelPoint(camera=context.camera(name).name, u=u, v=v))
    return {"x_m": x_m, "y_m": y_m}


async def _parts(feed: CameraFeed) -> AsyncIterator[bytes]:
    async for picture in feed.stream():
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n\r\n"
        yield head.encode() + picture.jpeg + b"\r\n"
