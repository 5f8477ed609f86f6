"""A camera on USB: what is asked of its driver, and what is made of the driver's answers.

No machine that runs the tests has one, so OpenCV's capture is a stand-in that keeps a driver's habits: it
takes the nearest mode it has without a word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from robot import cameras
from robot.cameras import OpenCvCamera
from robot.config import CameraConfig
from robot.errors import CameraError

MJPG = cv2.VideoWriter.fourcc(*"MJPG")
WANTED = CameraConfig(name="wrist", width_px=640, height_px=480, fps=30)


class Driver:
    """Stands for ``cv2.VideoCapture`` on a device whose best mode is ``size`` at ``fps``."""

    size, fps = (640, 480), 30.0
    usable = True
    opened: list[Driver]

    def __init__(self, path: str, backend: int) -> None:
        self.path, self.backend = path, backend
        self.asked: list[tuple[int, float]] = []
        self.released = False
        self.opened.append(self)

    def set(self, what: int, value: float) -> bool:
        self.asked.append((what, value))
        return True

    def get(self, what: int) -> float:
        width, height = self.size
        found = {
            cv2.CAP_PROP_FRAME_WIDTH: width,
            cv2.CAP_PROP_FRAME_HEIGHT: height,
            cv2.CAP_PROP_FPS: self.fps,
        }
        return float(found[what])

    def isOpened(self) -> bool:
        return self.usable

    def grab(self) -> bool:
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((*self.size[::-1], 3), np.uint8)

    def release(self) -> None:
        self.released = True


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> type[Driver]:
    class Present(Driver):
        opened: list[Driver] = []  # noqa: RUF012  one list for each test

    monkeypatch.setattr(cameras.cv2, "VideoCapture", Present)
    return Present


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A device file, and the stable link to it."""
    path = tmp_path / "video0"
    path.touch()
    by_id = tmp_path / "by-id"
    by_id.mkdir()
    (by_id / "usb-Some_Webcam-video-index0").symlink_to(path)
    monkeypatch.setattr(cameras, "BY_ID", by_id)
    return str(path)


def test_compressed_pictures_without_a_queue_are_asked_for(driver: type[Driver], device: str) -> None:
    camera = OpenCvCamera(WANTED, device)
    assert camera.read().image.shape == (480, 640, 3)
    (one,) = driver.opened
    assert (one.path, one.backend) == (device, cv2.CAP_V4L2)
    assert one.asked[0] == (cv2.CAP_PROP_FOURCC, MJPG)  # what rates there are depends on it
    assert (cv2.CAP_PROP_FPS, 30) in one.asked and (cv2.CAP_PROP_BUFFERSIZE, 1) in one.asked
    camera.close()
    assert one.released


@pytest.mark.parametrize(
    ("size", "fps", "said"),
    [((1280, 720), 30.0, "gives 1280x720 at 30"), ((640, 480), 15.0, "gives 640x480 at 15")],
)
def test_another_mode_is_refused_with_what_was_asked_and_got(
    driver: type[Driver], device: str, size: tuple[int, int], fps: float, said: str
) -> None:
    driver.size, driver.fps = size, fps
    with pytest.raises(CameraError) as caught:
        OpenCvCamera(WANTED, device)
    words = str(caught.value)
    assert "camera wrist" in words and "asked for 640x480 at 30" in words and said in words
    assert "usb-Some_Webcam-video-index0" in words and "v4l2-ctl" in words
    assert driver.opened[0].released


@pytest.mark.parametrize("fps", [29.97, 30.00003, 0.0])
def test_a_rate_that_is_rounded_or_not_known_is_taken(driver: type[Driver], device: str, fps: float) -> None:
    driver.fps = fps
    OpenCvCamera(WANTED, device).close()


def test_a_device_that_cannot_be_opened_is_named_by_its_stable_link(
    driver: type[Driver], device: str
) -> None:
    driver.usable = False
    with pytest.raises(CameraError, match=r"video0 \(better .*usb-Some_Webcam-video-index0\).*group video"):
        OpenCvCamera(WANTED, device)
    assert driver.opened[0].released


def test_a_source_by_its_stable_link_is_told_as_it_is(driver: type[Driver], device: str) -> None:
    driver.usable = False
    by_path = Path(device).with_name("pci-0-usb-1-video-index0")  # two of one make share their name by id
    by_path.symlink_to(device)
    for link in (str(cameras.BY_ID / "usb-Some_Webcam-video-index0"), str(by_path)):
        with pytest.raises(CameraError) as caught:
            OpenCvCamera(WANTED, link)
        assert link in str(caught.value) and "better" not in str(caught.value)


def test_pictures_of_another_size_than_the_driver_said_are_refused(
    driver: type[Driver], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def retrieve(self: Any) -> tuple[bool, np.ndarray]:
        return True, np.zeros((240, 320, 3), np.uint8)

    monkeypatch.setattr(driver, "retrieve", retrieve)
    with pytest.raises(CameraError, match=r"gives 320x240 pictures.*640x480"):
        OpenCvCamera(WANTED, device)
    assert driver.opened[0].released
