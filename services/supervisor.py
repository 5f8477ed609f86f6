"""Starts the processes of the service, watches them, and says what happened to them.

The supervisor touches neither the bus nor a model, so that there is nothing in it that could fail with the
arm. Its children are bound to it by the kernel: none outlives it. A child that dies is started again, with
growing pauses. A controller that comes back finds the servos holding their last goal and moves nothing; what
happened is latched as a fault until a person clears it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from robot.errors import CommandError
from robot.mailbox import Mailbox, from_json, to_json
from robot.runtime import Runtime
from services.status_board import ProcessInfo, StatusBoard

POLL_S = 0.1
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
AT_ONCE_S = 2.0
"""Time that a child has to end once it is to end at once."""
STABLE_S = 20.0
"""A child that lived this long is started again without a growing pause."""


class Twin(Protocol):
    """The digital twin's process as the supervisor sees it."""

    description: dict[str, Any]

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process with the world and the servos."""

    def close(self) -> None:
        """Terminate it; safe to call twice."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How one child is started and what its death means."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    nice: int = 0
    """How far it gives way on a small machine, see :func:`service_specs`."""
    what: str = ""
    """The child in words, for messages."""
    fault: tuple[str, str] | None = None
    """Code and remedy of the fault that its death latches; ``None``: only an event."""
    stop_s: float = 5.0
    """Time to end by itself after SIGTERM."""
    early: bool = False
    """Told to end before any other, and waited for in its turn: it ends with what the others still give."""


@dataclass(slots=True)
class Child:
    """A child and its present process."""

    spec: ChildSpec
    info: ProcessInfo
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    due_s: float = 0.0
    pause_s: float = FIRST_PAUSE_S

    @property
    def pid(self) -> int | None:
        """Process id of the present process."""
        return None if self.process is None else self.process.pid


@dataclass(slots=True)
class Supervisor:
    """Runs children until told to stop.

    Args:
        runtime: Folder and names of this service; the folder exists.
        specs: Children in the order of their start; they are ended in reverse.
        board: Where events and faults are published.
        twin: The twin's process, if the robot is the twin.
        on_death: Called with the name of a child that has died, before it is started again.
        environment: Extra environment variables for the children.
    """

    runtime: Runtime
    specs: tuple[ChildSpec, ...]
    board: StatusBoard
    twin: Twin | None = None
    on_death: Callable[[str], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    children: dict[str, Child] = field(default_factory=dict)
    _mailbox: Mailbox | None = None
    _stop_signals: int = 0
    _twin_lost: bool = False

    def run(self, on_poll: Callable[[], None] | None = None) -> None:
        """Start everything and watch it until SIGTERM, SIGINT or SIGHUP; then stop it in order.

        A second signal is passed on, so that an arm that is being parked stops at once.
        """
        previous = {
            s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            self.start()
            while self._stop_signals == 0:
                self.poll(POLL_S)
                if on_poll is not None:
                    on_poll()
        finally:
            try:
                self.stop()
            finally:
                for number, handler in previous.items():
                    signal.signal(number, handler)

    @property
    def hurried(self) -> bool:
        """Whether a second signal asked to end at once, or there is no arm left that could be parked."""
        return self._stop_signals > 1 or self._twin_lost

    def start(self) -> None:
        """Start all children and open the command socket."""
        self._mailbox = Mailbox(self.runtime.supervisor_socket)
        for spec in self.specs:
            info = self.board.processes.setdefault(spec.name, ProcessInfo())
            self.children[spec.name] = Child(spec, info)
            self._launch(self.children[spec.name])
        if self.twin is not None:
            pid = self.twin.description.get("pid")
            self.board.processes["twin"] = ProcessInfo("running", pid if isinstance(pid, int) else None)
        self.board.publish()

    def poll(self, wait_s: float = 0.0) -> None:
        """Answer commands, notice deaths, start what is due. Waits up to ``wait_s`` for a command."""
        if self._mailbox is not None:
            select.select([self._mailbox.fileno()], [], [], wait_s)
            for payload, sender in self._mailbox.drain():
                self._mailbox.reply(sender, to_json(self._answer(payload)))
        now_s = time.monotonic()
        for child in self.children.values():
            if child.process is None:
                if now_s >= child.due_s:
                    self._launch(child)
            elif (status := child.process.poll()) is not None:
                self._bury(child, status, now_s)
            elif child.info.state == "starting" and now_s - child.started_s > 1.0:
                child.info.state = "running"
                if child.spec.fault is not None:
                    self.board.settle(child.spec.fault[0])
                self.board.publish()
        self._watch_twin()

    def stop(self) -> None:
        """End the children one after the other, in reverse order, then the twin; safe to call twice."""
        for child in self.children.values():
            if child.spec.early and child.process is not None:
                child.process.terminate()
        for child in reversed(list(self.children.values())):
            self._terminate(child)
            child.info.state = "stopped"
        self.children.clear()
        if self.twin is not None:
            self.twin.close()
        if self._mailbox is not None:
            self._mailbox.close()
            self._mailbox = None
        self.board.publish()

    def _terminate(self, child: Child) -> None:
        process, child.process = child.process, None
        if process is None:
            return
        deadline_s = time.monotonic() + child.spec.stop_s
        process.terminate()
        while process.poll() is None:
            now_s = time.monotonic()
            if self.hurried:  # a second SIGTERM, repeated: one that comes too soon is lost in the first
                deadline_s = min(deadline_s, now_s + AT_ONCE_S)
                process.terminate()
            if now_s > deadline_s:
                process.kill()
            time.sleep(0.02)

    def _on_signal(self, number: int, frame: object) -> None:
        self._stop_signals += 1

    def _launch(self, child: Child) -> None:
        spec = child.spec
        command = [sys.executable, "-m", "services.child", str(os.getpid()), str(spec.nice), spec.module]
        # A session of its own: Ctrl-C goes to the supervisor alone, which parks the arm first.
        child.process = subprocess.Popen(
            [*command, *spec.arguments],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **self.environment},
        )
        child.started_s = time.monotonic()
        child.info.pid = child.process.pid
        child.info.state = "starting"
        self.board.publish()

    def _bury(self, child: Child, status: int, now_s: float) -> None:
        lived_s = now_s - child.started_s
        child.pause_s = FIRST_PAUSE_S if lived_s > STABLE_S else min(2 * child.pause_s, LONGEST_PAUSE_S)
        child.process = None
        child.due_s = now_s + child.pause_s
        child.info.pid = None
        child.info.restarts += 1
        child.info.state = "restarting"
        child.info.last_exit = describe_exit(status)
        what = child.spec.what or child.spec.name
        message = f"{what} {child.info.last_exit}; it is started again"
        self.board.event(child.spec.name, message, "warn" if child.spec.fault is None else "hold")
        if child.spec.fault is not None:
            code, remedy = child.spec.fault
            self.board.raise_fault(code, message, remedy)
        if self.on_death is not None:
            self.on_death(child.spec.name)

    def _watch_twin(self) -> None:
        if self.twin is None or self._twin_lost:
            return
        status = self.twin.process.poll()
        if status is not None:
            self._twin_lost = True
            self.board.processes["twin"] = ProcessInfo("lost", None, 0, describe_exit(status))
            message = f"the digital twin {describe_exit(status)}: there is no arm any more"
            self.board.event("twin", message, "hold")
            self.board.raise_fault("twin_lost", message, "stop the service and start it again: so101 serve")

    def _answer(self, payload: bytes) -> dict[str, Any]:
        try:
            command = from_json(payload)
        except CommandError as error:
            return {"ok": False, "code": error.code, "message": str(error)}
        if command.get("op") != "clear_faults":
            return {"ok": False, "code": "unknown_op", "message": "the supervisor takes only clear_faults"}
        left = self.board.clear()
        if left:
            return {"ok": False, "code": "fault_active", "message": f"still there: {', '.join(left)}"}
        return {"ok": True}


def describe_exit(status: int) -> str:
    """An exit status in words: ``was killed (signal 9)`` or ``ended with status 1``."""
    return f"was killed (signal {-status})" if status < 0 else f"ended with status {status}"


def service_specs(runtime: Runtime, *, policy: bool, recording: bool = False) -> tuple[ChildSpec, ...]:
    """The children of ``so101 serve``. The controller ends first: the API takes a stop while it parks.

    The recorder is told before that, so that an episode ends while the arm is still driven, and has time to
    commit it while the arm parks.

    On a small machine the controller goes first, then what cannot be made up for: pictures get their time
    when they arrive, and the recorder ends an episode when it is a second behind. A policy's chunk and an
    answer may come a little later, but not much: a stop is one of them. The twin's renderer comes last
    (``robot.twin.camera_server.NICE``). A level is a quarter more or less of a processor that is short.
    """
    folder = (str(runtime.folder),)
    lost = (
        "controller_lost",
        "look at the arm, then clear the fault and start again; the servos held their position meanwhile",
    )
    controller = ChildSpec(
        "controller", "services.processes.controller", folder, what="the controller", fault=lost, stop_s=15.0
    )
    cameras = ChildSpec("cameras", "services.processes.cameras", folder, nice=1, what="the camera process")
    worker = ChildSpec("worker", "services.processes.worker", folder, nice=3, what="the policy worker")
    api = ChildSpec("api", "services.processes.api", folder, nice=3, what="the API", stop_s=4.0)
    recorder = ChildSpec(
        "recorder",
        "services.processes.recorder",
        folder,
        nice=1,
        what="the recorder",
        stop_s=30.0,
        early=True,
    )
    return (
        cameras,
        *((recorder,) if recording else ()),
        *((worker,) if policy else ()),
        api,
        controller,
    )


def write_description(runtime: Runtime, description: dict[str, Any]) -> None:
    """Write ``runtime.json`` in one piece, so that no child reads half of it."""
    draft = runtime.description.with_suffix(".draft")
    draft.write_text(json.dumps(description, indent=2), encoding="utf-8")
    draft.replace(runtime.description)


def remove_leftovers(runtime: Runtime, shared_memory: Path = Path("/dev/shm")) -> None:  # noqa: S108
    """Remove the runtime folder and every shared memory segment that carries its token."""
    if shared_memory.is_dir():
        for segment in shared_memory.glob(f"{runtime.token}-*"):
            segment.unlink(missing_ok=True)
    if runtime.folder.is_dir():
        for entry in runtime.folder.iterdir():
            entry.unlink(missing_ok=True)
        runtime.folder.rmdir()
