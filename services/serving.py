"""From the options of ``so101 serve`` to a running supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import logging
import math
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.camera_file import table_maps
from inference.manifest import read_manifest
from robot.calibration_file import load_calibration
from robot.camera_reference import load_references
from robot.config import RobotConfig, load_robot
from robot.errors import CommandError, ConfigError
from robot.mailbox import MailboxClient
from robot.runtime import Runtime
from robot.seqlock import SharedBlock
from robot.twin.client import TwinProcess
from services.api.link import RobotLink
from services.recording.options import RecordingOptions
from services.shipped import ROOT
from services.status_board import BOARD_BYTES, StatusBoard
from services.supervisor import Supervisor, remove_leftovers, service_specs, write_description

log = logging.getLogger(__name__)

READY_PERIOD_S = 0.5
PATIENCE_S = 20.0
"""How long a start may take before a person is told what it waits for."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What ``so101 serve`` was told."""

    robot: str = "twin"
    policy: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    execution: dict[str, Any] | None = None
    """Overrides the way of executing chunks that the bundle recommends."""
    seed: int = 0
    """Of what the twin draws."""
    provider: str = "cpu"
    """Execution provider that the policy runs on, and no other: cpu, cuda or tensorrt."""
    threads: int = 1
    """Of the policy, within one operator."""
    recording: RecordingOptions | None = None
    """What is recorded beside it; ``None``: nothing."""


def serve(options: ServeOptions, say: Callable[[str], None], on_up: Callable[[], None] | None = None) -> None:
    """Run the service until a signal ends it.

    Args:
        options: What to serve.
        say: Takes lines for the person at the terminal.
        on_up: Called once when the service is ready, or up with a fault to clear.

    Raises:
        So101Error: the robot, the policy or the address cannot be right; nothing is left running.
    """
    config, folder = load_robot(options.robot)
    # The children read these too, and one that cannot would be started again for ever.
    table_maps(config, folder)
    load_references(config, folder)
    robot = str(Path(options.robot).resolve()) if Path(options.robot).is_file() else options.robot
    execution = options.execution
    if options.policy is not None:
        execution = execution or read_manifest(options.policy).execution.model_dump()
        _check_provider(options.provider)
    recording = None if options.recording is None else _checked(options.recording, config, folder)
    _check_address(options.host, options.port)
    say = undisturbed(say)
    with runtime_folder() as runtime, contextlib.ExitStack() as stack:
        twin = None
        if config.kind == "twin":
            say("starting the digital twin")
            rendered = any(camera.source is None for camera in config.cameras)
            twin = stack.enter_context(TwinProcess(seed=options.seed, cameras=rendered))
        write_description(
            runtime,
            {
                "robot": robot,
                "policy": None if options.policy is None else str(options.policy.resolve()),
                "execution": execution,
                "inference": {"provider": options.provider, "threads": options.threads},
                "twin": None if twin is None else twin.description,
                "api": {"host": options.host, "port": options.port},
                "recording": None if recording is None else recording.model_dump(mode="json"),
            },
        )
        block = stack.enter_context(SharedBlock.create(runtime.service_status_name, BOARD_BYTES))
        supervisor = Supervisor(
            runtime,
            service_specs(
                runtime, policy=options.policy is not None, recording=options.recording is not None
            ),
            StatusBoard(block),
            twin=twin,
            environment={"PYTHONPATH": _python_path(), "PYTHONUNBUFFERED": "1"},
        )
        supervisor.on_death = lambda name: hold_without_api(runtime, name)
        herald = Herald(options, say, on_up)
        supervisor.run(herald.poll)


def undisturbed(say: Callable[[str], None]) -> Callable[[str], None]:
    """The same, but a terminal that has gone away ends nothing: the arm comes first."""

    def told(line: str) -> None:
        with contextlib.suppress(OSError):
            say(line)

    return told


class Herald:
    """Says where the service is as soon as it is ready, and what it waits for where that takes long."""

    def __init__(
        self, options: ServeOptions, say: Callable[[str], None], on_up: Callable[[], None] | None = None
    ) -> None:
        self._options = options
        self._say = say
        self._on_up = on_up
        self._done = False
        self._next_s = 0.0
        self._patient_until_s = time.monotonic() + PATIENCE_S

    def poll(self) -> None:
        """Ask ``/readyz`` now and then until it says yes."""
        if self._done or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + READY_PERIOD_S
        host = "127.0.0.1" if self._options.host in ("0.0.0.0", "::") else self._options.host  # noqa: S104
        connection = http.client.HTTPConnection(host, self._options.port, timeout=0.5)
        with (
            contextlib.suppress(OSError, ValueError, http.client.HTTPException),
            contextlib.closing(connection),
        ):
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            checks = json.loads(answer.read()).get("checks", {})
            wrong = {name: value for name, value in checks.items() if value != "ok"}
            url = f"http://{host}:{self._options.port}"
            if answer.status == 200:
                self._done = True
                self._say(f"ready: {url}")
                self._up()
            elif set(wrong) == {"faults"}:  # this waits for a person, who has to know where to look
                self._done = True
                self._say(f"up, with a fault to clear ({wrong['faults']}): {url}")
                self._up()
            elif time.monotonic() > self._patient_until_s:
                self._patient_until_s = math.inf
                self._say(f"not ready yet ({'; '.join(': '.join(one) for one in wrong.items())}): {url}")

    def _up(self) -> None:
        if self._on_up is not None:
            self._on_up()


def hold_without_api(runtime: Runtime, name: str) -> None:
    """Hold the arm at once when the API has died while it moved: nobody could stop it by the page any more.

    The controller would hold by itself when it misses the API's heartbeat, some two seconds later. An arm
    that parks goes on parking.
    """
    if name != "api":
        return
    link = RobotLink(runtime, ())
    try:
        if link.controller_alive() and link.status().get("mode") in ("starting", "running"):
            MailboxClient(runtime.controller_socket).ask({"op": "stop", "level": "hold"}, timeout_s=0.5)
            log.warning("the API has died while the arm moved: it holds")
    except CommandError as error:
        log.warning("the API has died while the arm moved, the controller does not answer: %s", error)
    finally:
        link.close()


@contextlib.contextmanager
def runtime_folder() -> Iterator[Runtime]:
    """A new runtime folder that is locked while it is in use; those of killed services are removed."""
    parent = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    for folder in parent.glob("so101-*"):
        _remove_if_dead(Runtime(folder))
    runtime = Runtime.create(parent)
    with (runtime.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield runtime
        finally:
            remove_leftovers(runtime)


def _remove_if_dead(runtime: Runtime) -> None:
    """Remove what a killed service left. Without a lock it is being made; another user's is not ours."""
    with contextlib.suppress(OSError), (runtime.folder / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_leftovers(runtime)


def _check_provider(provider: str) -> None:
    """Find out now, and not in the worker, whether an execution provider is there. The CPU is everywhere."""
    if provider != "cpu":
        from inference.runtime import check_provider  # onnxruntime has no business in this process

        check_provider(provider)


def _checked(recording: RecordingOptions, config: RobotConfig, folder: Path) -> RecordingOptions:
    """The same with a full path. Raises So101Error where the dataset that is there does not fit."""
    from services.recording.dataset import check_resumable  # brings pyarrow and FFmpeg's libraries

    check_resumable(recording, config, load_calibration(folder / config.calibration).hash)
    return recording.model_copy(update={"out": recording.out.resolve()})


def _check_address(host: str, port: int) -> None:
    """Find out now, and not in a child, whether the port is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another with --port"
            ) from error


def _python_path() -> str:
    known = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(ROOT), *([known] if known else [])])
