"""A service as the console sees it, scripted: arm, recorder and policy are a few variables."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from services.console.client import ServiceClient
from services.console.session import Session, SessionOptions
from services.console.status import Status

CUBE = {"x_m": 0.2, "y_m": 0.1}


class FakeService:
    """Answers like the real one, but at once; ``calls`` is what was asked of it in order, without looks."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.app.add_api_route("/{path:path}", self._answer, methods=["GET", "POST", "PUT"])
        self.app.add_api_websocket_route("/v1/teleop/intents", self._listen)
        self.reset()

    def reset(self) -> None:
        """Everything as at the start."""
        self.calls: list[tuple[str, Any]] = []
        self.in_bowl = False
        self.faults: list[dict[str, str]] = []
        self.intents: list[dict[str, Any]] = []
        self.mode, self.source = "off", None
        self.pickup: dict[str, Any] | None = None
        self.recording: dict[str, Any] | None = {
            "state": "idle",
            "message": "",
            "out": "/tmp/d",
            "task": "Pick.",
            "pickup": "required",
            "corrections": False,
            "can_label": False,
            "last": None,
            "kept": 0,
            "episodes": None,
            "seconds": 0.0,
            "frames": 0,
            "fps": 0.0,
            "free_gb": 50.0,
            "next_in_s": None,
            "cameras": {},
        }
        self.refuse: dict[str, list[str]] = {}
        """Path -> codes of the refusals that come before it is taken."""
        self.slow_s: dict[str, float] = {}

    def posted(self) -> list[str]:
        return [path.removeprefix("/v1/") for path, _ in self.calls]

    async def _listen(self, socket: WebSocket) -> None:
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                self.intents.append(await socket.receive_json())

    async def _answer(self, request: Request) -> JSONResponse:
        path = request.url.path
        if path == "/v1/recording" and self.recording is None:
            return JSONResponse({"code": "not_recording", "detail": "nothing"}, 404)
        if request.method == "GET":
            return JSONResponse(self._look(path))
        raw = await request.body()
        self.calls.append((path, await request.json() if raw else None))
        await asyncio.sleep(self.slow_s.get(path, 0.0))
        if self.refuse.get(path):
            code = self.refuse[path].pop(0)
            return JSONResponse({"code": code, "detail": f"{code}!", "remedy": "do so"}, 409)
        return JSONResponse(self._do(path.removeprefix("/v1/"), self.calls[-1][1] or {}))

    def _look(self, path: str) -> Any:
        if path == "/v1/state":
            return {
                "mode": self.mode,
                "faults": self.faults,
                "run": {"pickup": self.pickup and self.pickup["id"]},
            }
        if path == "/v1/teleop":
            active = self.source in ("leader", "teleop")
            return {"active": active, "source": self.source, "lag_ms": 80.0, "away": {}}
        if path == "/v1/twin":
            return {"cube": CUBE, "cube_in_bowl": self.in_bowl}
        if path == "/v1/recording":
            return self.recording
        if path.startswith("/v1/pickups/"):
            return self.pickup
        return {"status": "ok"}

    def _do(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        recording = self.recording or {}
        match what.split("/"):
            case ["start"]:
                self.mode = "ready"
            case ["faults", "clear"]:
                self.faults = []
            case ["stop"]:
                self.mode, self.source = "hold", None
            case ["teleop", "start" | "take_over"]:
                self.mode, self.source = "running", body["source"]
            case ["teleop", "hand_back"]:
                self.source = "policy"
            case ["teleop", "stop"]:
                self.mode, self.source = "ready", None
            case ["pickups"]:
                self.pickup = {"id": "7", "status": "running", "detail": ""}
                self.mode, self.source = "running", "policy"
                return self.pickup
            case ["pickups", _, "cancel"]:
                self.end_pickup("cancelled")
            case ["recording", "next" | "redo"]:
                recording |= {"state": "recording", "can_label": True}
            case ["recording", "finish"]:
                recording |= {"state": "idle", "can_label": False}
            case ["recording", "stop"]:
                recording |= {"state": "ended", "can_label": False, "kept": recording["kept"] + 1}
            case ["recording", "discard"]:
                recording |= {"state": "idle", "can_label": False}
        self.recording = recording or None
        return {}

    def end_pickup(self, status: str) -> None:
        if self.pickup is not None and self.pickup["status"] == "running":
            self.pickup |= {"status": status, "detail": "so it is"}
            self.mode, self.source = "ready", None


@contextlib.contextmanager
def faked() -> Iterator[tuple[FakeService, ServiceClient]]:
    """A scripted service that answers on a port of its own."""
    service = FakeService()
    config = uvicorn.Config(service.app, port=0, log_level="error", ws="websockets-sansio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield service, ServiceClient(f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join()


class Seen:
    """A view that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.status = Status()

    def say(self, line: str) -> None:
        self.lines.append(line)

    def show(self, status: Status) -> None:
        self.status = status


class Sitting:
    """A session at a scripted service, and its view."""

    def __init__(self, service: FakeService, client: ServiceClient, options: SessionOptions) -> None:
        self.service, self.view, self.over = service, Seen(), threading.Event()
        self.session = Session(options, client, self.view, self.over.set)

    def until(self, condition: Callable[[], Any], timeout_s: float = 5.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, (self.service.calls, self.view.lines)
            time.sleep(0.01)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.session._on_key(key)

    def done(self, *calls: str) -> None:
        """Wait until exactly these have been asked for since the last time."""
        self.until(lambda: len(self.service.calls) >= len(calls))
        time.sleep(0.02)
        assert self.service.posted() == list(calls), self.view.lines
        self.service.calls.clear()
