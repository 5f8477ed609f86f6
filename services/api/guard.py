"""What stands before all routes: counting, a limit on bodies, no commands from other people's web pages."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.problems import Problem, problem_response
from services.metrics import Metrics

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
ALWAYS = frozenset({"/v1/stop"})
"""A stop is taken from anybody, and its body, whatever its size, is not in its way. That of a foreign
page's stop is not read: such a page may make the arm hold, but neither move it nor let it fall.
"""
MAX_BODY_BYTES = 16 * 1024


class Guard:
    """Refuses commands that a foreign web page sends through a person's browser, and counts requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "websocket" and _foreign(scope):
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = time.monotonic()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, int(message["status"]), time.monotonic() - began_s)
            await send(message)

        foreign = scope["method"] not in SAFE and _foreign(scope)
        if foreign and scope["path"] not in ALWAYS:
            problem = Problem(403, "foreign_origin", "commands are taken from this service's own pages only")
            await problem_response(problem)(scope, receive, counted)
            return
        always = _no_body if foreign else receive
        limited = always if scope["path"] in ALWAYS else _limited(scope, receive)
        await self._app(scope, limited, counted)

    def _count(self, scope: Scope, status: int, duration_s: float) -> None:
        route: Any = scope.get("route")
        pattern = getattr(route, "path", None)
        self._metrics.request(str(pattern or "other"), str(scope["method"]), status, duration_s)


async def _no_body() -> Message:
    """What a request without a body receives."""
    return {"type": "http.request", "body": b"", "more_body": False}


def _limited(scope: Scope, receive: Receive) -> Receive:
    """The same stream, which ends in 413 once the body is larger than it may be."""
    size = 0
    announced = Headers(scope=scope).get("content-length", "0")

    async def receive_limited() -> Message:
        nonlocal size
        if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body may have {MAX_BODY_BYTES} bytes")
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body may have {MAX_BODY_BYTES} bytes")
        return message

    return receive_limited


def _foreign(scope: Scope) -> bool:
    """Whether a browser says that the request comes from a page of another host."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")
