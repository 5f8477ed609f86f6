"""One camera of the camera process: opened, read, judged, and opened again when it is lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robot import camera_health
from robot.camera_health import CameraFinding, CameraHealth
from robot.config import CameraConfig
from robot.errors import CameraError
from robot.frame_ring import FrameRing
from robot.seams import Camera, FloatArray

STALE_S = 0.5
"""Age of the newest frame at which a camera counts as stale although it has reported no error. A run pauses
earlier (inference/worker.py); a picture or two that come late are no fault of the camera.
"""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class CameraState:
    """How one camera does; written by its thread, read by the main one."""

    name: str
    state: str = "connecting"
    """``connecting``, ``streaming`` or ``reconnecting``."""
    error: str | None = None
    frames: int = 0
    lost: int = 0
    """How often it had to be opened again."""
    newest_s: float = 0.0
    fps: float = 0.0
    found: tuple[CameraFinding, ...] = ()
    """What its pictures say."""

    def findings(self, now_s: float) -> tuple[CameraFinding, ...]:
        """What is wrong with it at this time."""
        if self.state == "reconnecting":
            return (camera_health.lost(self.name, self.error or ""),)
        return (camera_health.stale(self.name),) if self._stale(now_s) else self.found

    def as_json(self, now_s: float) -> dict[str, Any]:
        """For the status block, but for the findings."""
        return {
            "state": "stale" if self._stale(now_s) else self.state,
            "error": self.error,
            "frames": self.frames,
            "lost": self.lost,
            "fps": round(self.fps, 1),
        }

    def _stale(self, now_s: float) -> bool:
        return self.state == "streaming" and now_s - self.newest_s > STALE_S


class CameraThread(threading.Thread):
    """Keeps one camera open and its pictures flowing.

    Args:
        config: of the camera.
        ring: where its pictures go.
        connect: opens it; raises CameraError or OSError.
        position_deg: joints at present, shape (6,); ``None`` while the arm is not read.
        stop: ends the thread when set.
        changed: set by the thread when something has become wrong, or right again.
    """

    def __init__(
        self,
        config: CameraConfig,
        ring: FrameRing,
        connect: Callable[[], Camera],
        position_deg: Callable[[], FloatArray | None],
        stop: threading.Event,
        changed: threading.Event,
    ) -> None:
        super().__init__(name=f"camera-{config.name}", daemon=True)
        self.state = CameraState(config.name)
        self._config = config
        self._ring = ring
        self._connect = connect
        self._position_deg = position_deg
        self._stop_event = stop
        self._changed = changed

    def run(self) -> None:
        """Open, stream, and open again, until told to stop."""
        pause_s = FIRST_PAUSE_S
        while not self._stop_event.is_set():
            frames_before = self.state.frames
            try:
                self._stream()
            except (CameraError, OSError) as error:  # a device may go while it is looked up
                self.state.error = str(error)
                self.state.state = "reconnecting"
                self.state.lost += 1
                self._changed.set()
            if self.state.frames > frames_before:
                pause_s = FIRST_PAUSE_S
            self._stop_event.wait(pause_s)
            pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)

    def _stream(self) -> None:
        camera, health = self._connect(), CameraHealth(self._config.name, self._config.fps)
        try:
            log.info("camera %s is open", self._config.name)
            while not self._stop_event.is_set():
                frame = camera.read()
                self._ring.write(frame.image, frame.time_s)
                health.update(frame.image, frame.time_s, self._position_deg())
                self._note(frame.time_s, health)
        finally:
            camera.close()

    def _note(self, time_s: float, health: CameraHealth) -> None:
        state, found = self.state, health.findings()
        news = state.state != "streaming" or [f.code for f in found] != [f.code for f in state.found]
        state.found, state.fps = found, health.fps
        state.state, state.error, state.newest_s = "streaming", None, time_s
        state.frames += 1
        if news:
            self._changed.set()


class SinceWhen:
    """Remembers when each finding came, and logs what comes and goes."""

    def __init__(self) -> None:
        self._since_s: dict[tuple[str, str], float] = {}

    def told(self, camera: str, findings: tuple[CameraFinding, ...], now_s: float) -> list[dict[str, Any]]:
        """The findings of a camera as JSON, with ``raised_s``, the monotonic time at which each began."""
        codes = {finding.code for finding in findings}
        for known, code in list(self._since_s):
            if known == camera and code not in codes:
                del self._since_s[known, code]
                log.info("camera %s: %s is over", camera, code)
        for finding in findings:
            if (camera, finding.code) not in self._since_s:
                self._since_s[camera, finding.code] = now_s
                log.warning("%s: %s", finding.code, finding.message)
        return [{**f.as_json(), "raised_s": self._since_s[camera, f.code]} for f in findings]
