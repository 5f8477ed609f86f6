"""A file that plays as a camera: real files, real time."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot import file_camera
from robot.cameras import OpenCvCamera, open_camera
from robot.config import CameraConfig
from robot.errors import CameraError
from robot.recording.video import CODECS, VideoWriter

CONFIG = CameraConfig(name="wrist", width_px=64, height_px=48, fps=60)
LEVELS = (40, 90, 140, 190)


@pytest.fixture(params=["film", "stills"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    images = [np.full((48, 64, 3), level, np.uint8) for level in LEVELS]
    if request.param == "stills":
        for number, image in enumerate(images):
            cv2.imwrite(str(tmp_path / f"{number}.png"), image)
        (tmp_path / "notes.txt").write_text("no picture")
        return tmp_path
    writer = VideoWriter(tmp_path / "film.mp4", 48, 64, 15, CODECS["h264"])
    for image in images:
        writer.add(image)
    writer.close()
    return tmp_path / "film.mp4"


class Clock:
    """Stands in for the module ``time``; waits take as long as is asked for, and ``late_s`` more."""

    def __init__(self) -> None:
        self.now_s, self.late_s = 5000.0, 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds + self.late_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(file_camera, "time", made)
    return made


def test_it_plays_in_a_loop_at_the_configured_rate(file: Path, clock: Clock) -> None:
    camera = open_camera(CONFIG, f"file:{file}")
    clock.late_s = 0.004
    frames = [camera.read() for _ in range(13)]
    camera.close()
    camera.close()
    levels = [int(np.argmin([abs(int(f.image.mean()) - level) for level in LEVELS])) for f in frames]
    assert levels == [(levels[0] + k) % 4 for k in range(13)]
    assert [frame.index for frame in frames] == list(range(1, 14))
    times_s = np.array([frame.time_s for frame in frames])
    # Waits that end late do not add up: pictures stay on the grid of the rate.
    np.testing.assert_allclose(times_s[1:] - 5000.0, np.arange(1, 13) / 60 + 0.004, atol=1e-6)


def test_pictures_that_nobody_fetched_are_left_out_and_the_rest_stay_in_time(
    file: Path, clock: Clock
) -> None:
    camera = open_camera(CONFIG, f"file:{file}")
    first_s = camera.read().time_s
    clock.now_s += 6.3 / 60
    late = [camera.read().time_s - first_s for _ in range(4)]
    camera.close()
    # One is long due; those that were missed with it are not made up for.
    np.testing.assert_allclose(late, np.array([6.3, 7, 8, 9]) / 60, atol=1e-6)


def test_pictures_come_in_real_time(file: Path) -> None:
    camera = open_camera(CONFIG, f"file:{file}")
    begun_s = time.monotonic()
    times_s = [camera.read().time_s for _ in range(4)]
    camera.close()
    assert begun_s <= times_s[0] < times_s[-1] <= time.monotonic()
    assert time.monotonic() - begun_s > 2.5 / 60


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "absent.mp4", "not a readable video"),
        (lambda folder: folder, "no pictures"),
        (lambda folder: _written(folder / "film.mp4", b"no film"), "not a readable video"),
        (lambda folder: _written(folder / "a.png", b"no picture").parent, "is not a picture"),
        (lambda folder: _large(folder / "a.png").parent, "64x48.*width_px"),
    ],
)
def test_what_cannot_be_played_is_named(make: object, words: str, tmp_path: Path) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(CameraError, match=words) as error:
        open_camera(CONFIG, f"file:{path}")
    assert "wrist" in str(error.value)


def test_other_sources_are_devices_and_addresses() -> None:
    with pytest.raises(CameraError, match="no device /dev/video-absent"):
        open_camera(CONFIG.model_copy(update={"source": "/dev/video-absent"}))
    with pytest.raises(CameraError, match="has no source"):
        OpenCvCamera(CONFIG)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _large(path: Path) -> Path:
    cv2.imwrite(str(path), np.zeros((96, 128, 3), np.uint8))
    return path
