"""The camera server with a renderer that costs nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from robot.seams import ByteArray
from robot.twin.camera_server import BOUNDARY, FPS, SEND_TIMEOUT_S, CameraServer, encode_jpeg

DELAY_S = 0.05


class Scene:
    """Renders grey pictures, or noise, and counts them; the grey level is the test's to set."""

    def __init__(self) -> None:
        self.level = 100
        self.noise: ByteArray | None = None
        self.rendered = {"wrist": 0, "overhead": 0}

    def render(self, name: str) -> ByteArray:
        self.rendered[name] += 1
        if self.noise is not None:
            return self.noise
        return np.full((48, 64, 3), self.level, dtype=np.uint8)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def server(scene: Scene) -> Iterator[CameraServer]:
    server = CameraServer(("wrist", "overhead"), delay_s=DELAY_S)
    thread = threading.Thread(target=server.run, args=(scene.render,))
    thread.start()
    yield server
    server.stop()
    thread.join()


def still(server: CameraServer, name: str) -> tuple[ByteArray, float]:
    """A single picture and the age it has when it comes."""
    with urllib.request.urlopen(server.urls[name].replace(".mjpg", ".jpg"), timeout=30) as reply:
        data = reply.read()
        age_s = time.monotonic() - float(reply.headers["X-Capture-Monotonic"])
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), age_s


def until(reached: Callable[[], bool], limit_s: float = 20.0) -> bool:
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        if reached():
            return True
        time.sleep(0.02)
    return False


def test_single_picture_is_taken_after_the_request_and_comes_late(server: CameraServer, scene: Scene) -> None:
    still(server, "wrist")
    scene.level = 200
    image, age_s = still(server, "wrist")
    assert image.shape == (48, 64, 3)
    assert abs(int(image.mean()) - 200) <= 2
    assert age_s >= DELAY_S


def test_stream_opens_in_opencv_and_moves_on(server: CameraServer, scene: Scene) -> None:
    capture = cv2.VideoCapture(server.urls["overhead"], cv2.CAP_FFMPEG)
    assert capture.isOpened()
    ok, image = capture.read()
    assert ok
    assert abs(int(image.mean()) - 100) <= 2
    scene.level = 30
    assert until(lambda: abs(int(capture.read()[1].mean()) - 30) <= 2)
    capture.release()


def test_nothing_is_rendered_while_nobody_looks(server: CameraServer, scene: Scene) -> None:
    still(server, "wrist")
    assert scene.rendered["overhead"] == 0
    assert until(lambda: not server.feeds["wrist"].watched)
    time.sleep(0.2)
    count = scene.rendered["wrist"]
    time.sleep(0.3)
    assert scene.rendered["wrist"] == count


def test_many_viewers_cost_one_rendering_each(server: CameraServer, scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(urllib.request.urlopen(server.urls["wrist"], timeout=30)) for _ in range(8)
        ]
        began, began_s = scene.rendered["wrist"], time.monotonic()
        time.sleep(1.0)
        rendered, seconds = scene.rendered["wrist"] - began, time.monotonic() - began_s
        assert all(stream.read(2000).count(BOUNDARY.encode()) for stream in streams)
    assert 0 < rendered < 1.5 * FPS * seconds


def test_viewer_that_does_not_read_holds_up_nobody(server: CameraServer, scene: Scene) -> None:
    scene.noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)  # 0.4 MB as JPEG
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", urlsplit(server.urls["wrist"]).port))
        lazy.sendall(b"GET /wrist.mjpg HTTP/1.0\r\n\r\n")
        assert lazy.recv(1)  # it is being sent to, and takes no more
        assert until(lambda: server.feeds["wrist"].watched)
        times = [time.monotonic() - still(server, "wrist")[1] for _ in range(5)]
    assert all(np.diff(times) > 0)
    assert times[-1] - times[0] < SEND_TIMEOUT_S


def test_viewer_that_leaves_is_forgotten(server: CameraServer) -> None:
    with urllib.request.urlopen(server.urls["wrist"], timeout=30) as reply:
        reply.read(10)
        assert server.feeds["wrist"].watched
    assert until(lambda: not server.feeds["wrist"].watched)


@pytest.mark.parametrize("path", ["/", "/elbow.mjpg", "/wrist.png", "/../etc/passwd"])
def test_other_addresses_say_what_there_is(server: CameraServer, path: str) -> None:
    base = server.urls["wrist"].removesuffix("/wrist.mjpg")
    with pytest.raises(urllib.error.HTTPError, match=r"/wrist\.mjpg") as caught:
        urllib.request.urlopen(base + path, timeout=30)
    assert caught.value.code == 404
    caught.value.close()


def test_stop_ends_open_streams(scene: Scene) -> None:
    server = CameraServer(("wrist",))
    thread = threading.Thread(target=server.run, args=(scene.render,))
    thread.start()
    with urllib.request.urlopen(server.urls["wrist"], timeout=30) as reply:
        reply.read(10)
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


def test_jpeg_keeps_colours() -> None:
    red = np.zeros((16, 16, 3), dtype=np.uint8)
    red[..., 0] = 200
    back = cv2.imdecode(np.frombuffer(encode_jpeg(red), np.uint8), cv2.IMREAD_COLOR)
    assert back[8, 8, 2] > 190  # OpenCV gives BGR
    assert back[8, 8, 0] < 10
