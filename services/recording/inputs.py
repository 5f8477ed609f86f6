"""What the recorder sees of the service: every picture of every camera, every tick of the controller."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from robot.errors import SegmentError
from robot.frame_ring import FrameRing
from robot.recording.align import Aligner
from robot.runtime import Runtime
from robot.seams import Frame
from robot.telemetry import Record, TelemetryRing
from services.api.link import Attached

POLL_S = 0.01
"""Pause between two looks at a ring, a third of a period; the ring holds half a second."""
LONGEST_QUEUE_S = 2.0
"""Pictures that wait while the recorder is busy; more than that, and it does not keep up."""
_JOIN_S = 2.0


class Inputs(Protocol):
    """What a session records."""

    def poll(self, aligner: Aligner) -> None:
        """Hand over what has come since the last call."""


class CameraFollower(threading.Thread):
    """Takes every picture out of one camera's ring, in order, before another takes its place.

    Args:
        runtime: names of the segments.
        camera: its name.
        fps: its configured rate.
    """

    def __init__(self, runtime: Runtime, camera: str, fps: float) -> None:
        super().__init__(name=f"follow-{camera}", daemon=True)
        self._ring: Attached[FrameRing] = Attached(FrameRing, runtime.frame_name(camera))
        self._waiting: deque[Frame] = deque()
        self._most = max(2, round(LONGEST_QUEUE_S * fps))
        self._seen: FrameRing | None = None
        self._next = 0
        self._looked_s = time.monotonic()
        self._ending = threading.Event()

    def run(self) -> None:
        """Follow until ``stop``."""
        while not self._ending.wait(POLL_S):
            self.look()
        self._ring.close()

    def look(self) -> None:
        """Take what is new."""
        now_s, ring = time.monotonic(), self._ring.get()
        if ring is None:
            self._looked_s = now_s
            return
        newest = ring.index
        if ring is not self._seen or newest < self._next - 1:  # another camera process: from its newest on
            self._seen, self._next = ring, newest
        for index in range(max(self._next, 1), newest + 1):
            frame = ring.read(index)
            if frame is not None and len(self._waiting) < self._most:
                self._waiting.append(frame)  # else it is lost, which the next one's index tells
        self._next = newest + 1
        self._looked_s = now_s

    def taken(self) -> tuple[list[Frame], float]:
        """Pictures since the last call, and the time until which these are all."""
        looked_s = self._looked_s  # before the queue is emptied: what comes in between counts as seen later
        return [self._waiting.popleft() for _ in range(len(self._waiting))], looked_s

    def stop(self) -> None:
        """End the thread; waits for it a moment."""
        self._ending.set()
        self.join(_JOIN_S)


class LiveInputs:
    """The rings of a running service.

    Args:
        runtime: names of the segments.
        cameras: camera name -> configured rate.
    """

    def __init__(self, runtime: Runtime, cameras: Sequence[tuple[str, float]]) -> None:
        self._telemetry: Attached[TelemetryRing] = Attached(TelemetryRing, runtime.telemetry_name)
        self._followers = {name: CameraFollower(runtime, name, fps) for name, fps in cameras}
        self._tick = -1
        for follower in self._followers.values():
            follower.start()

    def poll(self, aligner: Aligner) -> None:
        """See :class:`Inputs`."""
        for name, follower in self._followers.items():
            aligner.add_frames(name, *follower.taken())
        now_s = time.monotonic()
        aligner.add_ticks(self._ticks(), now_s)

    def close(self) -> None:
        """Let go of the rings."""
        for follower in self._followers.values():
            follower.stop()
        self._telemetry.close()

    def _ticks(self) -> list[Record]:
        ring = self._telemetry.get()
        if ring is None:
            return []
        try:
            newest = ring.newest()
        except SegmentError:
            return []
        if newest is None or int(newest["tick"]) == self._tick:
            return []
        first = self._tick < 0 or int(newest["tick"]) < self._tick  # ticks before it are of no use
        found = [newest] if first else ring.since(self._tick)
        if found:
            self._tick = int(found[-1]["tick"])
        return found
