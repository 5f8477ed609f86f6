"""Cameras that go wrong, with a renderer that costs nothing."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from robot.cameras import OpenCvCamera
from robot.config import CameraConfig
from robot.errors import CameraError, ConfigError
from robot.seams import ByteArray
from robot.seqlock import SharedBlock
from robot.twin.camera_faults import CameraEvent, CameraFaults, CameraTrouble, newest
from robot.twin.camera_server import CameraServer
from robot.twin.faults import FaultEvent, load_faults, parse_fault

LEVEL = {"wrist": 60, "overhead": 180}


class Rig:
    """A camera server whose faults are the test's to set, and whose pictures grow brighter one by one."""

    def __init__(self) -> None:
        self.faults = CameraFaults()
        self.drawn = 0
        self.server = CameraServer(("wrist", "overhead"), delay_s=0.0, faults=lambda: self.faults)
        self.thread = threading.Thread(target=self.server.run, args=(self.render,))
        self.thread.start()

    def render(self, name: str) -> ByteArray:
        self.drawn += 1
        image = np.full((48, 64, 3), LEVEL[name], np.uint8)
        image[:, : self.drawn % 64] += 40
        return image

    def happen(self, kind: str, camera: str | None = None, **values: float) -> None:
        self.faults = self.faults.after(
            CameraEvent.model_validate({"kind": kind, "camera": camera, **values})
        )

    def open(self, name: str) -> OpenCvCamera:
        return OpenCvCamera(CameraConfig(name=name, width_px=64, height_px=48), self.server.urls[name])


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.server.stop()
    made.thread.join(20)
    assert not made.thread.is_alive()


def after(camera: OpenCvCamera, pictures: int = 4) -> ByteArray:
    """A picture from after what was on its way."""
    for _ in range(pictures):
        camera.read()
    return camera.read().image


def test_frozen_repeats_one_picture_with_new_times(rig: Rig) -> None:
    camera = rig.open("wrist")
    assert not np.array_equal(after(camera), after(camera))
    rig.happen("camera_freeze", "wrist")
    first = after(camera)
    frames = [camera.read() for _ in range(6)]
    assert all(np.array_equal(frame.image, first) for frame in frames)
    assert frames[-1].time_s - frames[0].time_s > 0.1
    rig.happen("camera_ok", "wrist")
    assert not np.array_equal(after(camera), first)
    camera.close()


def test_black_and_swapped_pictures(rig: Rig) -> None:
    camera = rig.open("wrist")
    rig.happen("camera_black", "wrist")
    assert after(camera).max() < 3
    rig.happen("camera_swap")
    rig.happen("camera_ok", "overhead")  # any ok ends a swap, which is of both; the wrist stays black
    assert after(camera).max() < 3
    rig.happen("camera_swap")
    rig.happen("camera_ok")
    assert abs(int(after(camera).min()) - LEVEL["wrist"]) < 5
    rig.happen("camera_swap")
    assert abs(int(after(camera).min()) - LEVEL["overhead"]) < 5
    camera.close()


def test_slow_keeps_its_rate(rig: Rig) -> None:
    camera = rig.open("wrist")
    rig.happen("camera_slow", "wrist", fps=10)
    after(camera)
    times_s = [camera.read().time_s for _ in range(8)]
    assert 0.09 < np.median(np.diff(times_s)) < 0.15
    camera.close()


def test_unplugged_closes_what_is_open_and_lets_nobody_in_until_it_is_back(rig: Rig) -> None:
    camera, other = rig.open("wrist"), rig.open("overhead")
    rig.happen("camera_unplug", "wrist")
    with pytest.raises(CameraError, match="wrist"):
        after(camera, 100)
    camera.close()
    with pytest.raises(CameraError, match="cannot be opened"):
        rig.open("wrist")
    assert other.read().image.shape == (48, 64, 3)
    rig.happen("camera_ok", "wrist")
    again = rig.open("wrist")
    assert after(again).any()
    again.close()
    other.close()


def test_stale_keeps_the_connection_and_sends_nothing(rig: Rig) -> None:
    with urllib.request.urlopen(rig.server.urls["wrist"], timeout=5) as reply:
        assert reply.read(100)
        rig.happen("camera_stale", "wrist")
        got = bytearray()
        with pytest.raises(TimeoutError):
            reply.fp.raw._sock.settimeout(0.5)
            while True:
                got += reply.read1(65536)
        assert len(got) < 20_000  # what was on its way
        rig.happen("camera_ok")
        assert cv2.imdecode(np.frombuffer(_still(rig), np.uint8), cv2.IMREAD_COLOR) is not None


def _still(rig: Rig) -> bytes:
    with urllib.request.urlopen(rig.server.urls["wrist"].replace(".mjpg", ".jpg"), timeout=10) as reply:
        return bytes(reply.read())


def test_the_block_carries_what_is_wrong(tmp_path: Path) -> None:
    trouble = CameraTrouble(f"test-{uuid.uuid4().hex[:8]}")
    with SharedBlock.attach(trouble.name) as block:
        assert newest(block) == CameraFaults()
        trouble.happen(CameraEvent(kind="camera_slow", camera="wrist", fps=4))
        trouble.happen(CameraEvent(kind="camera_unplug", camera="overhead"))
        trouble.happen(CameraEvent(kind="camera_swap"))
        seen = newest(block)
        assert seen.of("wrist").fps == 4 and seen.of("overhead").unplugged and seen.swapped
        assert (seen.shown_by("wrist"), seen.shown_by("overhead")) == ("overhead", "wrist")
        trouble.happen(CameraEvent(kind="camera_ok"))
        assert newest(block) == CameraFaults()
    trouble.close()


def test_events_of_cameras_and_servos_stand_in_one_script(tmp_path: Path) -> None:
    script = tmp_path / "faults.yaml"
    script.write_text(
        "- {at_s: 2, kind: camera_freeze, camera: wrist}\n- {at_s: 1, kind: mute, servo_id: 4}\n"
    )
    first, second = load_faults(script)
    assert isinstance(first, FaultEvent) and first.kind == "mute"
    assert isinstance(second, CameraEvent) and second.camera == "wrist"


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ({"kind": "camera_black"}, "needs camera, one of wrist, overhead"),
        ({"kind": "camera_black", "camera": "elbow"}, "camera"),
        ({"kind": "camera_slow", "camera": "wrist", "fps": 0}, "fps"),
        ({"kind": "camera_explode"}, "camera_freeze"),
        ({"kind": "camera_black", "camera": "wrist", "servo_id": 4}, "servo_id"),
    ],
)
def test_events_that_cannot_be_are_refused_by_name(raw: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse_fault(raw)
