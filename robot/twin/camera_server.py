"""The twin's cameras: a process of its own that renders what the live gait published and serves MJPEG.

``http://127.0.0.1:PORT/wrist.mjpg`` opens in ``cv2.VideoCapture`` and in a browser; ``/wrist.jpg`` is one
picture. A picture shows the world of its capture time and can be fetched ``delay_s`` later, as with a real
camera. Nothing is rendered while nobody looks.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any, cast

import cv2
import numpy as np

from robot.errors import So101Error, TwinError
from robot.realtime import give_way
from robot.seams import ByteArray
from robot.seqlock import SharedBlock
from robot.twin import camera_faults, child, render_state
from robot.twin.camera_faults import CameraFaults

FPS = 30
JPEG_QUALITY = 90
BOUNDARY = "so101frame"
NICE = 5
"""Real cameras take no processor time: whoever drives, stops or records the arm goes first. Where there is
too little of it, fewer pictures come, as of a slow camera."""
SEND_TIMEOUT_S = 5.0
SEND_BUFFER = 64 * 1024
"""A viewer that does not read gets newer pictures later, not older pictures for ever: little may queue."""

LOOK_S = 0.02
"""How often a stream without new pictures looks whether its camera was unplugged."""

RenderCamera = Callable[[str], ByteArray]
"""Renders the present view of a camera, RGB uint8 (height, width, 3). Called from one thread only."""


class Feed:
    """The newest JPEG of one camera and those who wait for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._changed = threading.Condition()
        self._jpeg = b""
        self._time_s = float("-inf")
        self._viewers = 0

    @property
    def watched(self) -> bool:
        """Whether anybody waits for pictures."""
        with self._changed:
            return self._viewers > 0

    def put(self, jpeg: bytes, time_s: float) -> None:
        """Make a picture of monotonic ``time_s`` the newest."""
        with self._changed:
            self._jpeg, self._time_s = jpeg, time_s
            self._changed.notify_all()

    @contextlib.contextmanager
    def viewing(self, wake: threading.Event) -> Any:
        """Count as a viewer meanwhile."""
        with self._changed:
            self._viewers += 1
        wake.set()
        try:
            yield self
        finally:
            with self._changed:
                self._viewers -= 1

    def newer(self, taken_s: float, timeout_s: float) -> tuple[float, bytes] | None:
        """Capture time and JPEG of the newest picture, once it was taken after ``taken_s``; else ``None``."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._time_s > taken_s, timeout_s):
                return None
            return self._time_s, self._jpeg


class CameraServer:
    """Renders at 30 frames per second and serves over HTTP on the loopback address.

    Args:
        names: of the cameras.
        port: TCP port, 0 for any free one.
        delay_s: from capture to availability.
        faults: what is wrong with the cameras; asked before each picture and by each viewer.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        *,
        port: int = 0,
        delay_s: float = 0.030,
        faults: Callable[[], CameraFaults] = CameraFaults,
    ) -> None:
        self.feeds = {name: Feed(name) for name in names}
        self.delay_s = delay_s
        self.faults = faults
        self._newest: dict[str, tuple[float, bytes]] = {}
        self._wake = threading.Event()
        self._running = True
        self._http = _Server(("127.0.0.1", port), _Handler)
        self._http.owner = self

    @property
    def urls(self) -> dict[str, str]:
        """Camera name -> address of its MJPEG stream."""
        port = self._http.server_address[1]
        return {name: f"http://127.0.0.1:{port}/{name}.mjpg" for name in self.feeds}

    @property
    def running(self) -> bool:
        """Whether :meth:`stop` has not been called."""
        return self._running

    @property
    def wake(self) -> threading.Event:
        """Set by a viewer that comes, so that rendering begins at once."""
        return self._wake

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Let :meth:`run` return; may be a signal handler."""
        self._running = False
        self._wake.set()

    def run(self, render: RenderCamera) -> None:
        """Serve until :meth:`stop`. Rendering happens in the calling thread, which owns the GL context."""
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
        thread.start()
        try:
            self._pace(render)
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()

    def _pace(self, render: RenderCamera) -> None:
        period_s = 1.0 / FPS
        ready: list[tuple[float, float, str, bytes]] = []
        capture_s = time.monotonic()
        while self._running:
            now_s = time.monotonic()
            while ready and ready[0][0] <= now_s:
                _, taken_s, name, encoded = heapq.heappop(ready)
                self.feeds[name].put(encoded, taken_s)
            watched = [name for name, feed in self.feeds.items() if feed.watched]
            if not watched and not ready:
                self._wake.clear()
                self._wake.wait(0.5)
                capture_s = time.monotonic()
                continue
            if watched and now_s >= capture_s:
                for name in watched:
                    taken_s = time.monotonic()
                    jpeg = self._picture(name, taken_s, render)
                    if jpeg is not None:
                        heapq.heappush(ready, (taken_s + self.delay_s, taken_s, name, jpeg))
                # Deadlines stay on a grid; pictures that a slow machine missed are not made up for.
                behind = max(0.0, time.monotonic() - capture_s)
                capture_s += period_s * (1 + int(behind / period_s))
            next_s = min([capture_s] * bool(watched) + [due_s for due_s, *_ in ready[:1]])
            time.sleep(max(0.0, next_s - time.monotonic()))

    def _picture(self, name: str, taken_s: float, render: RenderCamera) -> bytes | None:
        """The JPEG that a camera gives at this time, with what is wrong with it; ``None``: it gives none."""
        faults = self.faults()
        fault = faults.of(name)
        newest = self._newest.get(name)
        if fault.stale or fault.unplugged:
            return None
        # Half a frame early is on time: pictures are only taken on the grid of the full rate.
        if fault.fps is not None and newest and taken_s - newest[0] < 1.0 / fault.fps - 0.5 / FPS:
            return None
        if fault.frozen and newest:
            self._newest[name] = (taken_s, newest[1])
        else:
            image = render(faults.shown_by(name))
            self._newest[name] = (taken_s, encode_jpeg(np.zeros_like(image) if fault.black else image))
        return self._newest[name][1]


def encode_jpeg(image: ByteArray) -> bytes:
    """JPEG of an RGB picture."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not ok:
        raise TwinError("OpenCV cannot encode JPEG: install opencv-python-headless")
    return bytes(data.tobytes())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: CameraServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A viewer that goes away is no error; anything else is reported as usual."""
        if not isinstance(sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def setup(self) -> None:
        """Small buffers, no waiting for full segments, and a limit on how long a viewer may not read."""
        self.request.settimeout(SEND_TIMEOUT_S)
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def do_GET(self) -> None:
        """``/NAME.mjpg`` streams, ``/NAME.jpg`` is one picture."""
        name, _, kind = self.path.lstrip("/").partition("?")[0].rpartition(".")
        owner = self.server.owner
        feed = owner.feeds.get(name)
        if feed is None or kind not in ("mjpg", "jpg"):
            known = ", ".join(f"/{known}.mjpg, /{known}.jpg" for known in owner.feeds)
            self.send_error(404, f"there are {known}")
            return
        if owner.faults().of(name).unplugged:
            return  # without an answer: there is nobody
        with feed.viewing(owner.wake):
            if kind == "jpg":
                self._single(feed)
            else:
                self._stream(feed, owner)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""

    def _single(self, feed: Feed) -> None:
        picture = feed.newer(time.monotonic(), SEND_TIMEOUT_S)
        if picture is None:
            self.send_error(503, "the renderer gives no pictures")
            return
        time_s, jpeg = picture
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(jpeg)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Capture-Monotonic", f"{time_s:.6f}")
        self.end_headers()
        self.wfile.write(jpeg)

    def _stream(self, feed: Feed, owner: CameraServer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        time_s = time.monotonic()
        while owner.running and not owner.faults().of(feed.name).unplugged:
            picture = feed.newer(time_s, LOOK_S)
            if picture is None:
                continue
            time_s, jpeg = picture
            # With its length a part is complete when its last byte is there; without, a reader would wait for
            # the next boundary, which is a whole picture later.
            head = (
                f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
                f"X-Capture-Monotonic: {time_s:.6f}\r\n\r\n"
            )
            self.wfile.write(head.encode() + jpeg + b"\r\n")


def open_renderer() -> Any:
    """MuJoCo's renderer with EGL, or with OSMesa where EGL does not work.

    MuJoCo takes its library from the environment when it is first imported, so the second try is this program
    again, with the other choice.

    Raises:
        TwinError: neither works; the message names what to install.
    """
    library = os.environ.get("MUJOCO_GL", "")
    try:
        from robot.twin.render import Renderer

        return Renderer()
    except (TwinError, ImportError, AttributeError, OSError) as error:  # a broken library can be any of these
        if library != "egl":
            raise TwinError(
                f"the twin's cameras cannot render (MUJOCO_GL={library or 'unset'}): {error}; "
                "apt-get install libegl1 libgl1-mesa-dri libosmesa6"
            ) from error
        sys.stderr.write(f"EGL does not work here ({error}), trying OSMesa\n")
        sys.stderr.flush()
    os.environ["MUJOCO_GL"] = "osmesa"
    again = [sys.executable, "-m", "robot.twin.camera_server", *sys.argv[1:], "--nice", "0"]
    os.execv(sys.executable, again)  # noqa: S606  the same program, same arguments


def main() -> int:
    """Entry of ``python -m robot.twin.camera_server``, which the live gait starts."""
    parser = argparse.ArgumentParser(description="Cameras of a live digital twin.")
    parser.add_argument("--block", required=True, help="shared memory segment of the live gait")
    parser.add_argument("--faults-block", required=True, help="as --block: what is wrong with the cameras")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=30.0)
    parser.add_argument("--nice", type=int, default=NICE)
    given = parser.parse_args()
    try:
        child.die_with_parent()
        give_way(given.nice)  # before there are the renderer's threads
        block = SharedBlock.attach(given.block)
        faults = SharedBlock.attach(given.faults_block)
        renderer = open_renderer()
        from robot.twin.render import CAMERAS

        def render(name: str) -> ByteArray:
            positions = render_state.newest(block)
            if positions is None:
                raise TwinError(f"nothing was ever written to {given.block}")
            return cast(ByteArray, renderer.render(positions[1], name))

        server = CameraServer(
            CAMERAS,
            port=given.port,
            delay_s=given.delay_ms / 1000.0,
            faults=lambda: camera_faults.newest(faults),
        )
        signal.signal(signal.SIGTERM, server.stop)
        child.announce({"cameras": server.urls, "gl": os.environ.get("MUJOCO_GL")})
        server.run(render)
    except So101Error as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
