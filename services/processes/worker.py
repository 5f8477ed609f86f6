"""The policy worker's process: ``python -m services.processes.worker RUNTIME_FOLDER``.

Loads the bundle with every check, then answers commands and sends chunks until it is told to end. A bundle
that cannot be loaded is told in the status and does not end the process: starting it again would not help.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
from pathlib import Path
from typing import Any

from inference.bundle import Bundle, load_bundle
from inference.worker import PERSON_DRIVES, Eyes, Trouble, Worker
from robot.config import load_robot
from robot.errors import CommandError, ConfigError, SegmentError, So101Error
from robot.frame_ring import FrameRing
from robot.mailbox import Mailbox, MailboxClient, to_json
from robot.runtime import Runtime
from robot.seams import Frame, MonotonicClock
from robot.seqlock import SharedBlock
from robot.telemetry import Record, TelemetryRing
from services.api.link import Attached
from services.processes.signals import end_on_signals

STATUS_BYTES = 8192
STATUS_S = 0.2
"""How often the status is published while nothing changes."""
BUSY_POLL_S = 0.003
"""Pause between two looks for a new tick during a run: a fifth of a control tick."""
IDLE_POLL_S = 0.05
YIELDED_POLL_S = 0.01
"""While a person drives: the policy is to see soon that it is its turn again."""

log = logging.getLogger(__name__)


class CamerasStatus:
    """What the camera process says against its cameras' pictures."""

    def __init__(self, name: str) -> None:
        self._block: Attached[SharedBlock] = Attached(SharedBlock, name)
        self._payload = b""
        self._cameras: dict[str, Any] = {}

    def trouble(self, camera: str) -> Trouble | None:
        """The first finding that forbids acting on a camera's pictures."""
        block = self._block.get()
        try:
            payload = None if block is None else block.read()
        except SegmentError:
            payload = None
        if payload and payload != self._payload:
            self._payload, self._cameras = payload, json.loads(payload)["cameras"]
        for finding in self._cameras.get(camera, {}).get("findings", ()):
            if finding["blinds"]:
                return Trouble(finding["code"], finding["message"])
        return None


class WorkerProcess:
    """Sockets and segments around a ``Worker``."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.clock = MonotonicClock()
        self._stop = threading.Event()
        self._block = SharedBlock.create(runtime.worker_status_name, STATUS_BYTES)
        self._mailbox = Mailbox(runtime.worker_socket)
        self._published: tuple[dict[str, Any], float] = ({}, 0.0)

    def stop(self) -> None:
        """End ``run`` soon. May be called from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Load the policy and work until ``stop``."""
        about: dict[str, Any] = {"pid": os.getpid()}
        self._publish({**about, "state": "loading", "error": None, "chunks": 0})
        try:
            worker = self._load(about)
        except So101Error as error:
            log.error("the policy cannot be used: %s", error)
            self._refuse({**about, "state": "error", "error": str(error), "chunks": 0})
            return
        log.info("ready: %s", about)
        while not self._stop.is_set():
            worker.serve(self._mailbox)
            worker.step()
            status = worker.status()
            self._publish(status)
            select.select([self._mailbox], [], [], _pause_s(status))

    def close(self) -> None:
        """Let go of sockets and segments."""
        self._mailbox.close()
        self._block.close()

    def _load(self, about: dict[str, Any]) -> Worker:
        try:
            description = json.loads(self.runtime.description.read_text(encoding="utf-8"))
            folder, name = description["policy"], description["robot"]
            options = description.get("inference") or {}
            provider, precision = options.get("provider", "cpu"), options.get("precision", "fp32")
            threads = int(options.get("threads", 1))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self.runtime.description} cannot be used: {error!r}") from error
        if folder is None:
            raise ConfigError("the service was started without a policy: so101 serve --policy BUNDLE")
        robot, _ = load_robot(name)
        bundle: Bundle = load_bundle(
            Path(folder), robot, provider=provider, precision=precision, threads=threads
        )
        about |= {
            "bundle": str(folder),
            "name": bundle.manifest.name,
            "provider": bundle.policy.provider,
            "precision": bundle.precision,
            "parity_user": bundle.parity_user,
        }
        chunks = MailboxClient(self.runtime.chunk_socket)
        controller = MailboxClient(self.runtime.controller_socket)

        def hold() -> None:
            controller.tell({"op": "stop", "level": "hold"})

        return Worker(
            bundle.policy,
            bundle.manifest,
            self._eyes(bundle),
            chunks.send,
            self.clock,
            robot.control_hz,
            about,
            hold,
        )

    def _eyes(self, bundle: Bundle) -> Eyes:
        telemetry: Attached[TelemetryRing] = Attached(TelemetryRing, self.runtime.telemetry_name)
        frames: dict[str, Attached[FrameRing]] = {
            camera.name: Attached(FrameRing, self.runtime.frame_name(camera.name))
            for camera in bundle.manifest.cameras
        }

        def record() -> Record | None:
            ring = telemetry.get()
            try:
                return None if ring is None else ring.newest()
            except SegmentError:
                return None

        def frame(camera: str) -> Frame | None:
            ring = frames[camera].get()
            try:
                return None if ring is None else ring.newest()
            except SegmentError:
                return None

        cameras = CamerasStatus(self.runtime.cameras_status_name)
        return Eyes(record, frame, cameras.trouble)

    def _refuse(self, status: dict[str, Any]) -> None:
        """Say why there is no policy, to the status and to every command, until told to end."""
        answer = to_json({"ok": False, "code": "policy_not_ready", "message": status["error"]})
        while not self._stop.is_set():
            self._publish(status)
            for _, address in self._mailbox.drain():
                self._mailbox.reply(address, answer)
            select.select([self._mailbox], [], [], STATUS_S)

    def _publish(self, status: dict[str, Any]) -> None:
        """Write the status when something other than its counters changed, and now and then."""
        now_s = self.clock.now_s()
        before, at_s = self._published
        keys = ("state", "error", "waiting", "run_id", "blind")
        same = bool(before) and all(before.get(key) == status.get(key) for key in keys)
        if same and now_s - at_s < STATUS_S:
            return
        self._published = (status, now_s)
        self._block.write(to_json(status))


def _pause_s(status: dict[str, Any]) -> float:
    """How long to wait before the next look, unless a command comes."""
    if status["state"] != "running":
        return IDLE_POLL_S
    return YIELDED_POLL_S if status["waiting"] == PERSON_DRIVES else BUSY_POLL_S


def main(arguments: list[str]) -> int:
    """Entry point; SIGTERM and ctrl-C end it cleanly."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(levelname)s %(message)s")
    if len(arguments) != 1:
        log.error("usage: python -m services.processes.worker RUNTIME_FOLDER")
        return 2
    try:
        process = WorkerProcess(Runtime(Path(arguments[0])))
    except (CommandError, SegmentError) as error:
        log.error("%s", error)
        return 1
    end_on_signals(process.stop)
    try:
        process.run()
    finally:
        process.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
