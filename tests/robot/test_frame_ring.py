"""Frames between real processes."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import numpy as np
import pytest

from robot.errors import SegmentError
from robot.frame_ring import FrameRing
from robot.seqlock import segment_path

WRITER = """
import sys, numpy as np
from robot.frame_ring import FrameRing
ring = FrameRing.create(sys.argv[1], 120, 160)
print("ready", flush=True)
while True:
    value = (ring.index + 1) % 256
    ring.write(np.full((120, 160, 3), value, np.uint8), float(value))
"""


@pytest.fixture
def name() -> Iterator[str]:
    name = f"so101-test-{uuid.uuid4().hex}"
    yield name
    segment_path(name).unlink(missing_ok=True)


@pytest.fixture
def writer(name: str) -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-c", WRITER, name], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield name
        process.kill()


def test_frames_are_never_torn(writer: str) -> None:
    ring = FrameRing.attach(writer)
    indices = []
    end_s = time.monotonic() + 1.0
    while time.monotonic() < end_s:
        frame = ring.newest()
        if frame is None:
            continue
        assert (frame.image == frame.index % 256).all()
        assert frame.time_s == frame.index % 256
        indices.append(frame.index)
    assert indices == sorted(indices)
    assert len(set(indices)) > 20
    ring.close()


def test_frame_is_a_copy_that_stays(name: str) -> None:
    ring = FrameRing.create(name, 4, 6)
    assert ring.newest() is None
    ring.write(np.full((4, 6, 3), 7, np.uint8)[:, ::-1], 1.5)  # not contiguous
    first = ring.newest()
    for value in range(20):
        ring.write(np.full((4, 6, 3), value, np.uint8), 2.0)
    assert first is not None
    assert (first.image == 7).all()
    assert (first.time_s, first.index, first.image.shape) == (1.5, 1, (4, 6, 3))
    ring.close()


def test_every_frame_is_there_until_later_ones_take_its_place(name: str) -> None:
    ring = FrameRing.create(name, 4, 6, slots=5)
    for value in range(1, 9):
        assert ring.write(np.full((4, 6, 3), value, np.uint8), 0.1 * value) == value
    assert [ring.read(index) is None for index in range(10)] == [True] * 4 + [False] * 5 + [True]
    for index in range(4, 9):
        frame = ring.read(index)
        assert frame is not None
        assert (frame.index, frame.time_s) == (index, pytest.approx(0.1 * index))
        assert (frame.image == index).all()
    ring.close()


@pytest.mark.parametrize("image", [np.zeros((6, 4, 3), np.uint8), np.zeros((4, 6, 3), np.float32)])
def test_wrong_frames_are_refused(name: str, image: np.ndarray) -> None:
    ring = FrameRing.create(name, 4, 6)
    with pytest.raises(SegmentError, match=r"must be uint8 \(4, 6, 3\)"):
        ring.write(image, 0.0)
    ring.close()
