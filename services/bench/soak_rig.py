"""The live twin and the controller's real process, without the rest of the service."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from robot.errors import CommandError, SegmentError, TwinError
from robot.mailbox import MailboxClient
from robot.runtime import Runtime
from robot.seqlock import SharedBlock
from robot.telemetry import Record, TelemetryRing
from robot.twin.client import TwinProcess
from services.supervisor import describe_exit, remove_leftovers, write_description

START_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 2.0
STOP_TIMEOUT_S = 15.0
LOG_TAIL_BYTES = 2000
TWIN_PRIORITY, CONTROLLER_PRIORITY = 40, 41
"""On a robot nothing else is a real-time process. Here other twins may be, and real servos do not wait for
them.
"""


class SoakRig:
    """A twin without cameras and a controller on it, started here and ended with this object.

    Args:
        robot: name or path of the robot's configuration.
        seed: of what the twin draws.

    Attributes:
        twin: the twin.
        pid: of the controller.
        commands: where it takes commands.
        chunks: where its policy source takes chunks.

    Raises:
        TwinError: one of them did not start.
    """

    def __init__(self, robot: str, seed: int) -> None:
        self.twin = TwinProcess(cameras=False, seed=seed)
        self.runtime = Runtime.create(Path(tempfile.gettempdir()))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        write_description(self.runtime, {"robot": robot, "policy": None, "twin": self.twin.description})
        command = [sys.executable, "-m", "services.child", str(os.getpid()), "0"]
        command += ["services.processes.controller", str(self.runtime.folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=self._log, start_new_session=True
        )
        self.pid = self._process.pid
        self.commands = MailboxClient(self.runtime.controller_socket)
        self.chunks = MailboxClient(self.runtime.chunk_socket)
        try:
            self._telemetry = self._attach()
            _prefer(self.twin.pid, TWIN_PRIORITY)
            _prefer(self.pid, CONTROLLER_PRIORITY)
        except TwinError:
            self.close()
            raise

    def __enter__(self) -> SoakRig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._telemetry.close()
        self.close()

    def ask(self, op: str, **values: Any) -> str | None:
        """One command; why it was refused, ``None`` where it was carried out."""
        try:
            answer = self.commands.ask({"op": op, **values}, ANSWER_TIMEOUT_S)
        except CommandError as error:
            return str(error)
        return None if answer.get("ok") else str(answer.get("message"))

    def status(self) -> dict[str, Any]:
        """The controller's status. Raises TwinError when it has ended."""
        if self._process.poll() is not None:
            raise TwinError(f"the controller {describe_exit(self._process.returncode)}: {self.errors()}")
        with SharedBlock.attach(self.runtime.status_name) as block:
            status: dict[str, Any] = json.loads(block.read() or b"{}")
        return status

    def records(self, since: int) -> list[Record]:
        """Telemetry after that tick, as far back as the ring goes."""
        return self._telemetry.since(since)

    def errors(self) -> str:
        """The end of what the controller has written to stderr."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES)).decode(
            errors="replace"
        )

    def close(self) -> None:
        """Park, and end both."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self.twin.close()
        remove_leftovers(self.runtime)

    def _attach(self) -> TelemetryRing:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                if self.status().get("pid") == self.pid:
                    return TelemetryRing.attach(self.runtime.telemetry_name)
            except SegmentError:
                pass
            if time.monotonic() > deadline_s:
                raise TwinError(f"the controller did not start: {self.errors()}")
            time.sleep(0.05)


def _prefer(pid: int, priority: int) -> None:
    """Let a real-time process go before others that are; nothing where that is not allowed."""
    with contextlib.suppress(PermissionError):
        if os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO:
            os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(priority))
