"""The camera process: ``python -m services.processes.cameras RUNTIME_FOLDER``.

A thread per camera writes the newest pictures to shared memory. A camera that is lost is opened again, with
growing pauses; meanwhile its frames grow old, and the status says why. No camera ends this process.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import cv2

from robot.cameras import OpenCvCamera
from robot.config import CameraConfig, RobotConfig, load_robot
from robot.errors import CameraError, So101Error
from robot.frame_ring import FrameRing
from robot.mailbox import to_json
from robot.runtime import Runtime
from robot.seams import Camera
from robot.seqlock import SharedBlock

STATUS_BYTES = 8192
STATUS_S = 0.25
STALE_S = 1.0
"""Age of the newest frame at which a camera counts as stale although it has reported no error."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
JOIN_S = 2.5
_SMOOTHING = 0.05

log = logging.getLogger(__name__)


@dataclass(slots=True)
class CameraState:
    """How one camera does; written by its thread, read by the main one."""

    state: str = "connecting"
    """``connecting``, ``streaming`` or ``reconnecting``."""
    error: str | None = None
    frames: int = 0
    lost: int = 0
    """How often it had to be opened again."""
    newest_s: float = 0.0
    period_s: float = 0.0
    """Smoothed time from frame to frame."""

    def as_json(self, now_s: float) -> dict[str, Any]:
        """For the status block."""
        stale = self.state == "streaming" and now_s - self.newest_s > STALE_S
        return {
            "state": "stale" if stale else self.state,
            "error": self.error,
            "frames": self.frames,
            "lost": self.lost,
            "fps": round(1.0 / self.period_s, 1) if self.period_s > 0 else 0.0,
        }


class CameraThread(threading.Thread):
    """Keeps one camera open and its pictures flowing."""

    def __init__(
        self, config: CameraConfig, ring: FrameRing, connect: Callable[[], Camera], stop: threading.Event
    ) -> None:
        super().__init__(name=f"camera-{config.name}", daemon=True)
        self.state = CameraState()
        self._name = config.name
        self._ring = ring
        self._connect = connect
        self._stop_event = stop

    def run(self) -> None:
        """Open, stream, and open again, until told to stop."""
        pause_s = FIRST_PAUSE_S
        while not self._stop_event.is_set():
            frames_before = self.state.frames
            try:
                self._stream()
            except CameraError as error:
                if str(error) != self.state.error:
                    log.warning("%s", error)
                self.state.error = str(error)
                self.state.state = "reconnecting"
                self.state.lost += 1
            if self.state.frames > frames_before:
                pause_s = FIRST_PAUSE_S
            self._stop_event.wait(pause_s)
            pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)

    def _stream(self) -> None:
        camera = self._connect()
        try:
            log.info("camera %s is open", self._name)
            while not self._stop_event.is_set():
                frame = camera.read()
                self._ring.write(frame.image, frame.time_s)
                self._note(frame.time_s)
        finally:
            camera.close()

    def _note(self, time_s: float) -> None:
        state = self.state
        if state.state == "streaming":
            period_s = time_s - state.newest_s
            state.period_s += (period_s - state.period_s) * (_SMOOTHING if state.period_s > 0 else 1.0)
        state.state, state.error, state.newest_s = "streaming", None, time_s
        state.frames += 1


class CameraProcess:
    """All cameras of one robot.

    Args:
        runtime: names of the segments.
        config: which cameras there are.
        sources: camera name -> URL or device, where it is not the one of the configuration (the twin's).
    """

    def __init__(self, runtime: Runtime, config: RobotConfig, sources: dict[str, str]) -> None:
        self._stop = threading.Event()
        self._status = SharedBlock.create(runtime.cameras_status_name, STATUS_BYTES)
        self._rings: list[FrameRing] = []
        self.threads: dict[str, CameraThread] = {}
        for camera in config.cameras:
            ring = FrameRing.create(runtime.frame_name(camera.name), camera.height_px, camera.width_px)
            self._rings.append(ring)
            self.threads[camera.name] = CameraThread(
                camera, ring, _connector(camera, sources.get(camera.name)), self._stop
            )

    def stop(self) -> None:
        """End ``run`` soon. May be called from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Stream until ``stop``."""
        for thread in self.threads.values():
            thread.start()
        while not self._stop.wait(STATUS_S):
            self._publish()
        deadline_s = time.monotonic() + JOIN_S
        for thread in self.threads.values():
            thread.join(max(0.0, deadline_s - time.monotonic()))
        if not any(thread.is_alive() for thread in self.threads.values()):
            for ring in self._rings:
                ring.close()
        self._status.close()

    def _publish(self) -> None:
        now_s = time.monotonic()
        states = {name: thread.state.as_json(now_s) for name, thread in self.threads.items()}
        self._status.write(to_json({"pid": os.getpid(), "cameras": states}))


def _connector(camera: CameraConfig, source: str | None) -> Callable[[], Camera]:
    return lambda: OpenCvCamera(camera, source)


def main(arguments: list[str]) -> int:
    """Entry point; SIGTERM and ctrl-C end it cleanly."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s cameras %(levelname)s %(message)s")
    if len(arguments) != 1:
        log.error("usage: python -m services.processes.cameras RUNTIME_FOLDER")
        return 2
    cv2.setNumThreads(1)
    runtime = Runtime(Path(arguments[0]))
    try:
        description = json.loads(runtime.description.read_text(encoding="utf-8"))
        config, _ = load_robot(description["robot"])
        twin = description.get("twin") or {}
        process = CameraProcess(runtime, config, dict(twin.get("cameras", {})))
    except (So101Error, OSError, ValueError, KeyError) as error:
        log.error("%s", error)
        return 1

    def on_signal(number: int, stack: FrameType | None) -> None:
        process.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    process.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
