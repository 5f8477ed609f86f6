"""The recorder's process: ``python -m services.processes.recorder RUNTIME_FOLDER``.

Follows the cameras and the controller, takes commands, and writes episodes to disk. SIGTERM ends the open
episode, waits until it is committed, and ends the process. A dataset that cannot be written is told in the
status and tried again; it does not end the process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2

from robot.calibration_file import load_calibration
from robot.config import RobotConfig, load_robot
from robot.errors import CommandError, ConfigError, So101Error
from robot.mailbox import Mailbox, from_json, to_json
from robot.runtime import Runtime
from robot.seqlock import SharedBlock
from robot.standing_thread import StandingThread
from robot.twin.client import TwinControl
from services.processes.signals import end_on_signals
from services.recording.dataset import free_bytes, open_dataset
from services.recording.inputs import POLL_S, LiveInputs
from services.recording.keeper import Keeper
from services.recording.options import PickupPoint, RecordingOptions
from services.recording.session import Session
from services.recording.status import status

STATUS_BYTES = 32 * 1024
STATUS_S = 0.1
"""How often the status is published; a change of state is told at once."""

log = logging.getLogger(__name__)


class RecorderProcess:
    """Sockets, segments and threads around a ``Session``.

    Args:
        runtime: names of the service.

    Raises:
        So101Error: the description, the robot or its calibration cannot be used.
    """

    def __init__(self, runtime: Runtime) -> None:
        options, config, calibration, control = _read(runtime)
        self._cameras = {camera.name: float(camera.fps) for camera in config.cameras}
        self._stop = threading.Event()
        self._block = SharedBlock.create(runtime.recorder_status_name, STATUS_BYTES)
        self._mailbox = Mailbox(runtime.recorder_socket)
        self._inputs = LiveInputs(runtime, tuple(self._cameras.items()))
        worker = StandingThread("dataset")
        keeper = Keeper(
            lambda: open_dataset(options, config, calibration),
            worker.submit,
            time.monotonic,
            lambda number: _first_episode(runtime.folder / "recorder.json", number),
        )
        self._session = Session(
            options,
            tuple(self._cameras),
            self._inputs,
            keeper,
            time.monotonic,
            lambda: free_bytes(options.out),
            None if control is None else lambda: _cube(control),
        )
        self._published: tuple[str, float] = ("", 0.0)

    def stop(self) -> None:
        """End ``run`` once everything is on the disk. May be called from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Record until ``stop``."""
        asked = False
        while not (asked and self._session.state == "ended"):
            if self._stop.is_set() and not asked:
                asked = True
                self._session.command({"op": "stop"})
            for payload, sender in self._mailbox.drain():
                self._mailbox.reply(sender, to_json(self._answer(payload)))
            self._session.poll()
            self._publish()
            select.select([self._mailbox], [], [], POLL_S)

    def close(self) -> None:
        """Let go of sockets and segments."""
        self._inputs.close()
        self._mailbox.close()
        self._block.close()

    def _answer(self, payload: bytes) -> dict[str, Any]:
        try:
            return self._session.command(from_json(payload))
        except CommandError as error:
            return {"ok": False, "code": error.code, "message": str(error), "state": self._session.state}

    def _publish(self) -> None:
        now_s, state = time.monotonic(), self._session.state
        before, at_s = self._published
        if state == before and now_s - at_s < STATUS_S:
            return
        self._published = (state, now_s)
        text = {"pid": os.getpid(), **status(self._session, self._cameras, now_s)}
        self._block.write(to_json(text))


def _read(runtime: Runtime) -> tuple[RecordingOptions, RobotConfig, str, TwinControl | None]:
    """Options, robot, hash of its calibration, and the twin's control socket where it is the twin."""
    try:
        description = json.loads(runtime.description.read_text(encoding="utf-8"))
        options = RecordingOptions.model_validate(description["recording"])
        twin, robot = description.get("twin") or {}, description["robot"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{runtime.description} cannot be used: {error!r}") from error
    config, folder = load_robot(robot)
    control = TwinControl(twin["control"]) if "control" in twin else None
    return options, config, load_calibration(folder / config.calibration).hash, control


def _cube(control: TwinControl) -> PickupPoint:
    """Where the twin's cube lies. Raises TwinError where the twin does not answer."""
    cube = control.truth()["cube"]
    return PickupPoint(x_m=cube["x_m"], y_m=cube["y_m"])


def _first_episode(note: Path, number: int) -> int:
    """The number that this session began with: this one, or the one that a recorder before noted down."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(note.read_text(encoding="utf-8"))["first_episode"])
    with contextlib.suppress(OSError):
        note.write_text(json.dumps({"first_episode": number}), encoding="utf-8")
    return number


def main(arguments: list[str]) -> int:
    """Entry point; SIGTERM and ctrl-C end it cleanly."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s recorder %(levelname)s %(message)s")
    if len(arguments) != 1:
        log.error("usage: python -m services.processes.recorder RUNTIME_FOLDER")
        return 2
    cv2.setNumThreads(1)
    try:
        process = RecorderProcess(Runtime(Path(arguments[0])))
    except So101Error as error:
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
