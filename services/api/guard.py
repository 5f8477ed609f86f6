"""What stands before all routes: counting, a limit on bodies, no commands from other people's web pages."""

from __future__ import annotations

import ipaddress
import socket
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
OWN = "open the service by its address, by a name without dots, or by NAME.local"
MAX_BODY_BYTES = 16 * 1024


class Guard:
    """Refuses commands that a foreign web page sends through a person's browser, and counts requests.

    Args:
        app: What stands behind it.
        metrics: Takes the counts.
        name: A name, with dots, by which people reach the service (``--host NAME``), or an address.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, name: str = "") -> None:
        self._app = app
        self._metrics = metrics
        self._names = frozenset({name.lower(), socket.gethostname().lower()})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "websocket" and self._foreign(scope):
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

        foreign = scope["method"] not in SAFE and self._foreign(scope)
        if foreign and scope["path"] not in ALWAYS:
            problem = Problem(
                403, "foreign_origin", "commands are taken from this service's own pages only", OWN
            )
            await problem_response(problem)(scope, receive, counted)
            return
        always = _no_body if foreign else receive
        limited = always if scope["path"] in ALWAYS else _limited(scope, receive)
        await self._app(scope, limited, counted)

    def _foreign(self, scope: Scope) -> bool:
        """Whether a browser says that the request comes from a page of another host, or cannot know better.

        The name of a foreign page may have been made to lead here (DNS rebinding); its host is then its own.
        Ours is only a host that nobody elsewhere can name: an address, a name without dots, ``NAME.local``
        or a name of this machine.
        """
        headers = Headers(scope=scope)
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is None:
            return False
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return urlsplit(origin).netloc != host or not (_ungiven(name) or name in self._names)
        except ValueError:
            return True

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


def _ungiven(name: str) -> bool:
    """Whether no name server of the internet can have given this name."""
    if "." not in name or name.endswith(".local"):  # an IPv6 address has no dots
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
