"""The API's view of the other processes: shared memory to look, datagrams to ask. Nothing here blocks.

Segments are attached when they appear and again when their writer made new ones; until then there is
simply nothing to see.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from robot.errors import CommandError, SegmentError
from robot.frame_ring import FrameRing
from robot.mailbox import MAX_PAYLOAD, from_json, to_json
from robot.runtime import Runtime
from robot.seams import Frame
from robot.seqlock import SharedBlock
from robot.telemetry import Record, TelemetryRing

RECHECK_S = 0.5
FRESH_S = 0.5
"""Telemetry older than this means that the controller is gone."""


class Segment(Protocol):
    """What all readers of shared memory have."""

    def replaced(self) -> bool:
        """Whether there is a newer segment of this name."""

    def close(self) -> None:
        """Unmap."""


S = TypeVar("S", bound=Segment)


class Attached(Generic[S]):
    """One segment, attached lazily and again when it was replaced."""

    def __init__(self, kind: Any, name: str) -> None:
        self._kind = kind
        self._name = name
        self._segment: S | None = None
        self._checked_s = -RECHECK_S

    def get(self) -> S | None:
        """The segment, or ``None`` while there is none."""
        now_s = time.monotonic()
        if now_s - self._checked_s >= RECHECK_S:
            self._checked_s = now_s
            if self._segment is not None and self._segment.replaced():
                self.close()
            if self._segment is None:
                with contextlib.suppress(SegmentError):
                    self._segment = self._kind.attach(self._name)
        return self._segment

    def close(self) -> None:
        """Let go of it."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None


async def ask(path: Path, command: dict[str, Any], timeout_s: float = 1.0) -> dict[str, Any]:
    """Send a command to a mailbox and await its answer on the event loop, without a thread.

    Raises:
        CommandError: (``unreachable``) nobody listens; (``timeout``) no answer came in time.
    """
    loop = asyncio.get_running_loop()
    payload = to_json(command)
    with contextlib.closing(_sender(path)) as sender:
        try:
            sender.connect(str(path))
            sender.send(payload)
        except BlockingIOError as error:
            raise CommandError(f"{path.name} does not keep up: its queue is full", code="timeout") from error
        except OSError as error:
            raise CommandError(f"nobody listens at {path.name}", code="unreachable") from error
        try:
            answer = await asyncio.wait_for(loop.sock_recv(sender, MAX_PAYLOAD), timeout_s)
        except (TimeoutError, OSError) as error:
            raise CommandError(f"{path.name} gave no answer in {timeout_s:g} s", code="timeout") from error
    return from_json(answer)


def _sender(path: Path) -> socket.socket:
    """A socket with an abstract address of its own: a late answer is never taken for the next one."""
    sender = None
    try:
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.setblocking(False)
        sender.bind("")
    except OSError as error:
        if sender is not None:
            sender.close()
        words = f"no socket to ask {path.name} with ({error.strerror}): close connections, then try again"
        raise CommandError(words, code="unreachable") from error
    return sender


class RobotLink:
    """Everything the API knows of one running service.

    Args:
        runtime: Names of its sockets and segments.
        cameras: Names of the cameras.
    """

    def __init__(self, runtime: Runtime, cameras: tuple[str, ...]) -> None:
        self.runtime = runtime
        self._telemetry: Attached[TelemetryRing] = Attached(TelemetryRing, runtime.telemetry_name)
        self._blocks: dict[str, Attached[SharedBlock]] = {
            name: Attached(SharedBlock, name)
            for name in (
                runtime.status_name,
                runtime.worker_status_name,
                runtime.service_status_name,
                runtime.cameras_status_name,
                runtime.recorder_status_name,
            )
        }
        self._frames: dict[str, Attached[FrameRing]] = {
            name: Attached(FrameRing, runtime.frame_name(name)) for name in cameras
        }
        self._parsed: dict[str, tuple[bytes, dict[str, Any]]] = {}

    def newest(self) -> Record | None:
        """The newest telemetry record, however old."""
        ring = self._telemetry.get()
        if ring is None:
            return None
        try:
            return ring.newest()
        except SegmentError:
            return None

    def since(self, tick: int) -> list[Record]:
        """Records after a tick, oldest first."""
        ring = self._telemetry.get()
        return [] if ring is None else ring.since(tick)

    def controller_alive(self) -> bool:
        """Whether the controller wrote telemetry a moment ago."""
        record = self.newest()
        return record is not None and time.monotonic() - float(record["time_s"]) < FRESH_S

    def status(self) -> dict[str, Any]:
        """The controller's status; empty before it is known."""
        return self._read(self.runtime.status_name)

    def worker(self) -> dict[str, Any]:
        """The policy worker's status; empty before it is known."""
        return self._read(self.runtime.worker_status_name)

    def service(self) -> dict[str, Any]:
        """The supervisor's board; empty without a supervisor."""
        return self._read(self.runtime.service_status_name)

    def camera(self, name: str) -> dict[str, Any]:
        """What the camera process says of one camera; empty before it is known or where its process died."""
        status = self._read(self.runtime.cameras_status_name)
        process = self.service().get("processes", {}).get("cameras", {})
        if process.get("pid", status.get("pid")) != status.get("pid"):
            return {}
        found = status.get("cameras", {}).get(name, {})
        return found if isinstance(found, dict) else {}

    def recorder(self) -> dict[str, Any]:
        """What the recorder says; empty before it is known, or where its process died."""
        status = self._read(self.runtime.recorder_status_name)
        process = self.service().get("processes", {}).get("recorder", {})
        return status if process.get("pid", status.get("pid")) == status.get("pid") else {}

    def frame(self, camera: str) -> Frame | None:
        """The newest picture of a camera, however old."""
        ring = self._frames[camera].get()
        if ring is None:
            return None
        try:
            return ring.newest()
        except SegmentError:
            return None

    def frame_index(self, camera: str) -> int:
        """Counter of the newest picture without copying it; 0 where there is none."""
        ring = self._frames[camera].get()
        return 0 if ring is None else ring.index

    async def controller(self, op: str, timeout_s: float = 1.0, **arguments: Any) -> dict[str, Any]:
        """Send one command to the controller.

        Raises:
            CommandError: it refused (with its code), or did not answer (``controller_unavailable``).
        """
        return await self._command(self.runtime.controller_socket, "controller", op, timeout_s, arguments)

    async def policy_worker(self, op: str, timeout_s: float = 1.0, **arguments: Any) -> dict[str, Any]:
        """Send one command to the policy worker. Raises CommandError (``worker_unavailable``)."""
        return await self._command(self.runtime.worker_socket, "worker", op, timeout_s, arguments)

    async def supervisor(self, op: str, timeout_s: float = 1.0) -> dict[str, Any]:
        """Send one command to the supervisor. Raises CommandError (``supervisor_unavailable``)."""
        return await self._command(self.runtime.supervisor_socket, "supervisor", op, timeout_s, {})

    def close(self) -> None:
        """Let go of all segments."""
        self._telemetry.close()
        for block in self._blocks.values():
            block.close()
        for ring in self._frames.values():
            ring.close()

    async def _command(
        self, path: Path, who: str, op: str, timeout_s: float, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        try:
            answer = await ask(path, {"op": op, **arguments}, timeout_s)
        except CommandError as error:
            raise CommandError(str(error), code=f"{who}_unavailable") from error
        if not answer.get("ok"):
            raise CommandError(str(answer.get("message", "refused")), code=str(answer.get("code", "refused")))
        return answer

    def _read(self, name: str) -> dict[str, Any]:
        block = self._blocks[name].get()
        if block is None:
            return {}
        try:
            payload = block.read()
        except SegmentError:
            payload = None
        if not payload:
            return {}
        known = self._parsed.get(name)
        if known is None or known[0] != payload:
            value = json.loads(payload)
            known = (payload, value if isinstance(value, dict) else {})
            self._parsed[name] = known
        return known[1]
