"""The camera process: ``python -m services.processes.cameras RUNTIME_FOLDER``.

A thread per camera writes the newest pictures to shared memory. A camera that is lost is opened again, with
growing pauses; meanwhile its frames grow old, and the status says why. What is wrong with the pictures that
do come is in the status too. No camera ends this process.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

from robot import camera_health
from robot.camera_reference import SWAPPED_LOOKS, Reference, load_references, swapped
from robot.cameras import open_camera
from robot.config import CameraConfig, RobotConfig, load_robot
from robot.errors import SegmentError, So101Error
from robot.frame_ring import FrameRing
from robot.mailbox import to_json
from robot.runtime import Runtime
from robot.seams import Camera, FloatArray
from robot.seqlock import SharedBlock
from robot.telemetry import TelemetryRing
from services.api.link import Attached
from services.processes.camera_stream import STALE_S, CameraThread, SinceWhen
from services.processes.signals import end_on_signals

STATUS_BYTES = 16 * 1024
STATUS_S = 0.1
"""How often the status is written while nothing changes; what does change is written at once."""
COMPARE_S = 0.5
"""How often the pictures are compared with the cameras' references."""
POSE_LIMIT_S = 0.1
"""Telemetry older than this does not say where the arm is."""
JOIN_S = 2.5
LEAST_SLOTS = 4
"""Pictures in memory where only the newest is read: a reader has the time of three for its copy."""
RECORDED_S = 0.5
"""How long the recorder may pause: 16 MB of memory for a camera with 640x480 pixels at 30 a second."""

log = logging.getLogger(__name__)


class CameraProcess:
    """All cameras of one robot.

    Args:
        runtime: names of the segments.
        config: which cameras there are.
        sources: camera name -> URL, for cameras whose configuration has none (the twin's).
        references: camera name -> what it has shown while all was well, for those that have one.
        pause_s: for how long a reader of every picture may pause, and miss none.
    """

    def __init__(
        self,
        runtime: Runtime,
        config: RobotConfig,
        sources: dict[str, str],
        references: Mapping[str, Reference] | None = None,
        pause_s: float = 0.0,
    ) -> None:
        self._stop, self._changed = threading.Event(), threading.Event()
        self._status = SharedBlock.create(runtime.cameras_status_name, STATUS_BYTES)
        self._references = dict(references or {})
        self._exchanged: tuple[tuple[str, str], ...] = ()
        self._exchanged_looks = 0
        self._compare_s = 0.0
        self._since = SinceWhen()
        self._rings: dict[str, FrameRing] = {}
        self.threads: dict[str, CameraThread] = {}
        for camera in config.cameras:
            slots = max(LEAST_SLOTS, math.ceil(pause_s * camera.fps) + 2)
            name = runtime.frame_name(camera.name)
            ring = FrameRing.create(name, camera.height_px, camera.width_px, slots)
            self._rings[camera.name] = ring
            self.threads[camera.name] = CameraThread(
                camera, ring, _connector(camera, sources.get(camera.name)), _pose(runtime), self._stop,
                self._changed,
            )  # fmt: skip

    def stop(self) -> None:
        """End ``run`` soon. May be called from a signal handler."""
        self._stop.set()
        self._changed.set()

    def run(self) -> None:
        """Stream until ``stop``."""
        for thread in self.threads.values():
            thread.start()
        while not self._stop.is_set():
            self._changed.wait(STATUS_S)
            self._changed.clear()
            now_s = time.monotonic()
            self._compare(now_s)
            self._publish(now_s)
        deadline_s = time.monotonic() + JOIN_S
        for thread in self.threads.values():
            thread.join(max(0.0, deadline_s - time.monotonic()))
        if not any(thread.is_alive() for thread in self.threads.values()):
            for ring in self._rings.values():
                ring.close()
        self._status.close()

    def _compare(self, now_s: float) -> None:
        """Now and then: whether cameras show what others should."""
        if not self._references or now_s < self._compare_s:
            return
        self._compare_s = now_s + COMPARE_S
        frames = {name: ring.newest() for name, ring in self._rings.items()}
        images = {
            name: frame.image
            for name, frame in frames.items()
            if frame is not None
            and now_s - frame.time_s < STALE_S
            and not any(finding.blinds for finding in self.threads[name].state.found)
        }
        found = swapped(images, self._references)
        self._exchanged_looks = self._exchanged_looks + 1 if found == self._exchanged else 1
        self._exchanged = found

    def _publish(self, now_s: float) -> None:
        pairs = self._exchanged if self._exchanged_looks >= SWAPPED_LOOKS else ()
        states = {}
        for name, thread in self.threads.items():
            found = thread.state.findings(now_s)
            found += tuple(camera_health.exchanged(a, b) for a, b in pairs if name in (a, b))
            states[name] = {**thread.state.as_json(now_s), "findings": self._since.told(name, found, now_s)}
        self._status.write(to_json({"pid": os.getpid(), "cameras": states}))


def _pose(runtime: Runtime) -> Callable[[], FloatArray | None]:
    """Where the arm is, from telemetry; one for each thread."""
    telemetry: Attached[TelemetryRing] = Attached(TelemetryRing, runtime.telemetry_name)

    def position_deg() -> FloatArray | None:
        ring = telemetry.get()
        try:
            record = None if ring is None else ring.newest()
        except SegmentError:
            return None
        if record is None or time.monotonic() - float(record["time_s"]) > POSE_LIMIT_S:
            return None
        return np.array(record["position"], dtype=np.float64) if int(record["state_age_ticks"]) == 0 else None

    return position_deg


def _connector(camera: CameraConfig, source: str | None) -> Callable[[], Camera]:
    return lambda: open_camera(camera, camera.source or source)


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
        config, folder = load_robot(description["robot"])
        twin = description.get("twin") or {}
        sources = dict(twin.get("cameras", {}))
        pause_s = RECORDED_S if description.get("recording") else 0.0
        process = CameraProcess(runtime, config, sources, load_references(config, folder), pause_s)
    except (So101Error, OSError, ValueError, KeyError) as error:
        log.error("%s", error)
        return 1
    end_on_signals(process.stop)
    process.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
