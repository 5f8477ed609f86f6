"""``WS /v1/telemetry``: records as they come, the oldest dropped for a slow reader."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import Annotated, Any

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from robot.joints import JOINTS
from robot.telemetry import MODES, SOURCES, Record
from services.api.context import Ctx
from services.api.link import RobotLink

router = APIRouter(prefix="/v1", tags=["telemetry"])
QUEUE = 64
_VECTORS = ("position", "velocity", "load_pct", "current_ma", "voltage_v", "temperature_c", "goal")


def message(record: Record, dropped: int) -> dict[str, Any]:
    """One record; arrays are in the order of ``joints`` and in user units (degrees, gripper percent)."""
    return {
        "tick": int(record["tick"]),
        "time_s": float(record["time_s"]),
        "mode": MODES[int(record["mode"])],
        "run_id": int(record["run_id"]),
        "source": SOURCES[int(record["source"])],
        **{name: [round(float(value), 3) for value in record[name]] for name in _VECTORS},
        "tool_m": [round(float(value), 4) for value in record["tool_m"]],
        "lateness_ms": round(float(record["lateness_ms"]), 3),
        "chunk_age_ticks": int(record["chunk_age_ticks"]),
        "dropped": dropped,
    }


class Outbox:
    """A bounded queue between the sampler and one socket; the oldest goes when it is full."""

    def __init__(self, size: int = QUEUE) -> None:
        self._records: deque[Record] = deque(maxlen=size)
        self._filled = asyncio.Event()
        self.dropped = 0

    def put(self, record: Record) -> None:
        """Add one; never waits."""
        self.dropped += len(self._records) == self._records.maxlen
        self._records.append(record)
        self._filled.set()

    async def get(self) -> Record:
        """Take the oldest; waits for one."""
        while not self._records:
            self._filled.clear()
            await self._filled.wait()
        return self._records.popleft()


async def sample(link: RobotLink, outbox: Outbox, hz: float, control_hz: float) -> None:
    """Put records into the outbox for ever: all of them at control rate, else the newest at ``hz``."""
    newest = link.newest()
    tick = -1 if newest is None else int(newest["tick"]) - 1
    every = hz >= control_hz
    deadline_s = time.monotonic()
    while True:
        records = link.since(tick)
        newest = link.newest()
        if newest is not None and int(newest["tick"]) < tick:  # a restarted controller counts from the start
            records = [newest]
        for record in records if every else records[-1:]:
            outbox.put(record)
        if records:
            tick = int(records[-1]["tick"])
        deadline_s = max(deadline_s + 1.0 / hz, time.monotonic())
        await asyncio.sleep(deadline_s - time.monotonic())


@router.websocket("/telemetry")
async def telemetry(
    socket: WebSocket, context: Ctx, hz: Annotated[float, Query(ge=0.1, le=500)] = 20.0
) -> None:
    """Stream records as JSON, ``?hz=`` of them a second. The first message names the joints."""
    await socket.accept()
    outbox = Outbox()
    control_hz = float(context.config.control_hz)
    sampler = asyncio.create_task(sample(context.link, outbox, min(hz, control_hz), control_hz))
    listener = asyncio.create_task(_until_closed(socket))
    try:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await socket.send_json({"joints": list(JOINTS), "control_hz": control_hz, "hz": hz})
            while not listener.done():
                getting = asyncio.ensure_future(outbox.get())
                await asyncio.wait({getting, listener}, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    break
                await socket.send_json(message(getting.result(), outbox.dropped))
    finally:
        sampler.cancel()
        listener.cancel()


async def _until_closed(socket: WebSocket) -> None:
    """Read and forget what the client sends, until it goes."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.receive_text()
