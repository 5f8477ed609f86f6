"""The camera process against a real MJPEG server that stops, comes back and changes its picture size."""

from __future__ import annotations

import http.server
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from robot.cameras import OpenCvCamera
from robot.config import CameraConfig, RobotConfig, load_robot
from robot.errors import CameraError, SegmentError
from robot.frame_ring import FrameRing
from robot.runtime import Runtime
from robot.seams import Camera
from robot.seqlock import SharedBlock
from services.processes.camera_stream import CameraThread
from services.processes.cameras import CameraProcess
from services.supervisor import remove_leftovers

RED = (200, 30, 40)
WRIST = CameraConfig(name="wrist", width_px=160, height_px=120)


class MjpegServer:
    """Serves one colour as Motion JPEG on a port of its own, until it is stopped."""

    def __init__(self, port: int = 0) -> None:
        self.size = (120, 160)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
                self.end_headers()
                try:
                    while not outer.stopped.wait(0.02):
                        image = np.full((*outer.size, 3), RED[::-1], np.uint8)
                        jpeg = cv2.imencode(".jpg", image)[1].tobytes()
                        head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                        self.wfile.write(head.encode() + jpeg + b"\r\n")
                except OSError:
                    return

            def log_message(self, *arguments: Any) -> None:
                pass

        self.stopped = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/wrist.mjpg"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    server = MjpegServer()
    yield server
    server.stop()


def test_frames_are_rgb_with_rising_times(server: MjpegServer) -> None:
    camera = OpenCvCamera(WRIST, server.url)
    frames = [camera.read() for _ in range(10)]
    camera.close()
    camera.close()
    times = [frame.time_s for frame in frames]
    assert times == sorted(times)
    assert abs(times[-1] - time.monotonic()) < 1.0
    assert [frame.index for frame in frames] == list(range(1, 11))
    assert frames[0].image.shape == (120, 160, 3)
    assert frames[0].image.dtype == np.uint8
    assert np.abs(frames[0].image.reshape(-1, 3).mean(axis=0) - RED).max() < 4


def test_other_size_than_configured_is_refused_by_name(server: MjpegServer) -> None:
    config = CameraConfig(name="overhead", width_px=640, height_px=480)
    with pytest.raises(CameraError, match=r"camera overhead gives 160x120 pictures.*640x480"):
        OpenCvCamera(config, server.url)


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/none.mjpg", "/dev/v4l/by-id/no-such-camera", None])
def test_camera_that_is_not_there_is_refused_by_name(source: str | None) -> None:
    with pytest.raises(CameraError, match="camera wrist"):
        OpenCvCamera(WRIST, source)


def test_camera_that_stops_is_an_error() -> None:
    server = MjpegServer()
    camera = OpenCvCamera(WRIST, server.url)
    camera.read()
    server.stop()
    with pytest.raises(CameraError, match="gives no pictures any more"):
        for _ in range(200):
            camera.read()
    camera.close()


class Rig:
    """A camera process in threads of this one."""

    def __init__(self, tmp_path: Path, url: str) -> None:
        twin: RobotConfig = load_robot("twin")[0]
        self.runtime = Runtime(tmp_path / f"so101-{uuid.uuid4().hex[:8]}")
        self.runtime.folder.mkdir()
        self.process = CameraProcess(
            self.runtime, twin.model_copy(update={"cameras": (WRIST,)}), {"wrist": url}
        )
        self._thread = threading.Thread(target=self.process.run)
        self._thread.start()
        self.ring = FrameRing.attach(self.runtime.frame_name("wrist"))

    def status(self) -> dict[str, Any]:
        with SharedBlock.attach(self.runtime.cameras_status_name) as block:
            text = block.read()
        return {} if text is None else dict(json.loads(text)["cameras"]["wrist"])

    def until(self, condition: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < end_s, f"not {what}: {self.status()}"
            time.sleep(0.02)

    def close(self) -> None:
        self.process.stop()
        self._thread.join(10.0)
        assert not self._thread.is_alive()
        self.ring.close()
        remove_leftovers(self.runtime)


@pytest.mark.live
def test_lost_camera_goes_stale_and_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = MjpegServer()
    rig = Rig(tmp_path, server.url)
    try:
        rig.until(lambda: rig.status().get("state") == "streaming", "streaming")
        server.stop()
        rig.until(lambda: rig.status()["state"] == "reconnecting", "reconnecting")
        assert "wrist" in rig.status()["error"]
        last = rig.ring.newest()
        assert last is not None
        time.sleep(0.3)
        assert rig.ring.index == last.index  # old pictures are not served as new ones
        server = MjpegServer(server.port)
        rig.until(lambda: rig.status()["state"] == "streaming" and rig.ring.index > last.index, "back")
        assert rig.status()["error"] is None
        assert rig.status()["lost"] >= 1
    finally:
        server.stop()
        rig.close()
    with pytest.raises(SegmentError):
        FrameRing.attach(rig.runtime.frame_name("wrist"))


@pytest.mark.live
def test_camera_that_is_absent_or_of_the_wrong_size_does_not_end_the_process(tmp_path: Path) -> None:
    server = MjpegServer()
    server.size = (60, 80)
    rig = Rig(tmp_path, server.url)
    try:
        rig.until(lambda: "80x60" in str(rig.status().get("error")), "told of the size")
        server.size = (120, 160)
        rig.until(lambda: rig.status()["state"] == "streaming", "streaming")
    finally:
        server.stop()
        rig.close()


def test_a_device_that_goes_while_it_is_looked_up_ends_no_camera() -> None:
    stop, tries = threading.Event(), []

    def connect() -> Camera:
        tries.append(1)
        if len(tries) == 2:
            stop.set()
            raise CameraError("no camera")
        raise FileNotFoundError(2, "No such file or directory", "/dev/v4l/by-id")

    ring = FrameRing.create(f"so101-{uuid.uuid4().hex[:8]}-wrist", 120, 160)
    thread = CameraThread(WRIST, ring, connect, lambda: None, stop, threading.Event())
    thread.run()
    ring.close()
    assert len(tries) == 2 and thread.state.lost == 2
