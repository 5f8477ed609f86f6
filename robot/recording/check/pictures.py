"""A video in a few numbers a picture: when it is shown, whether it is black, how it differs from the last.

Only these are kept, so a video may be as long as it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from robot.camera_health import BLACK_MEAN, BLACK_STD
from robot.seams import ByteArray, Float32Array, FloatArray

SMALL = (80, 60)
"""Pictures are compared at this size (width, height): 8 pixels of VGA together, over which the codec's
noise is averaged away, and a finger's motion by a millimetre is not."""
_ONE_THREAD_PX = 320 * 240


@dataclass(frozen=True)
class Scan:
    """What a video file says without being decoded.

    Attributes:
        times_s: when pictures are shown, sorted, shape (pictures,).
        promised: pictures that the file's header counts; ``None`` where it does not.
        error: why the file cannot be read to its end; ``None`` where it can.
    """

    times_s: FloatArray
    promised: int | None
    error: str | None

    @property
    def hz(self) -> float | None:
        """Pictures a second, by the times at which they are shown."""
        if len(self.times_s) < 2:
            return None
        step_s = float(np.median(np.diff(self.times_s)))
        return 1.0 / step_s if step_s > 0 else None


@dataclass(frozen=True)
class Track:
    """What pictures of a video look like, in order.

    Attributes:
        black: whether a picture is dark all over, shape (pictures,).
        colour: mean colour, RGB in 0..1, shape (pictures, 3).
        change: mean change since the picture before, over how much there is to see, shape (pictures - 1,).
        most: change of the part that has changed most, of 255, shape (pictures - 1,).
        error: why it cannot be decoded to its end; ``None`` where it can.
    """

    black: NDArray[np.bool_]
    colour: FloatArray
    change: FloatArray
    most: FloatArray
    error: str | None


def scan(path: Path) -> Scan:
    """Read a video's packets; never raises for what is in the file."""
    times: list[float] = []
    promised: int | None = None
    error: str | None = None
    try:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            promised = stream.frames or None
            for packet in file.demux(stream):
                if packet.size and packet.pts is not None and packet.time_base is not None:
                    times.append(float(packet.pts * packet.time_base))
                    error = error or ("a packet is cut off" if packet.is_corrupt else None)
    except _UNREADABLE as problem:
        error = str(problem)
    if error is None and promised is not None and len(times) < promised:
        error = f"its header counts {promised} pictures, there are {len(times)}"
    return Scan(np.sort(np.array(times)), promised, error)


def watch(path: Path, seen: Callable[[], None] = lambda: None) -> Track:
    """Decode a video; never raises for what is in the file. ``seen`` is called after each picture."""
    black: list[bool] = []
    colour: list[FloatArray] = []
    change: list[float] = []
    most: list[float] = []
    before: Float32Array | None = None
    error: str | None = None
    try:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            if stream.width * stream.height <= _ONE_THREAD_PX:
                stream.thread_count = 1
            else:
                stream.thread_type = "AUTO"
            for frame in file.decode(stream):
                planes = _planes(frame)
                small = _small(planes[0])
                colour.append(_mean_colour(planes))
                black.append(bool(small.mean() <= BLACK_MEAN + _FOOT and small.std() <= BLACK_STD))
                if before is not None:
                    difference = np.abs(small - before)
                    change.append(float(difference.mean() / (_detail(small) + _detail(before) + 1.0)))
                    most.append(float(difference.max()))
                before = small
                seen()
    except _UNREADABLE as problem:
        error = str(problem)
    return Track(
        np.array(black, dtype=bool),
        np.array(colour).reshape(-1, 3),
        np.array(change),
        np.array(most),
        error,
    )


_UNREADABLE = (av.FFmpegError, OSError, IndexError, ValueError, AttributeError)
"""What PyAV raises for broken files; the last for a stream of a codec that does not exist."""
_FOOT = 16.0
"""Luma of black in video levels."""


def _planes(frame: Any) -> tuple[ByteArray, ByteArray, ByteArray]:
    """Luma and the two colour differences, uint8, video levels."""
    plain = frame.format.name == "yuv420p" and not (frame.width % 2 or frame.height % 2)
    packed = frame.to_ndarray() if plain else frame.to_ndarray(format="yuv444p")
    if not plain:
        return packed[0], packed[1], packed[2]
    height, width = frame.height, frame.width
    size = height * width // 4
    flat = packed.reshape(-1)[height * width :]
    return packed[:height], flat[:size], flat[size : 2 * size]


def _small(luma: ByteArray) -> Float32Array:
    height, width = luma.shape
    size = (min(width, SMALL[0]), min(height, SMALL[1]))
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _detail(small: Float32Array) -> float:
    """Mean difference of neighbours: how much a picture changes when what it shows moves by a pixel."""
    return float(np.abs(np.diff(small, axis=0)).mean() + np.abs(np.diff(small, axis=1)).mean())


def _mean_colour(planes: tuple[ByteArray, ByteArray, ByteArray]) -> FloatArray:
    """Mean RGB in 0..1 (BT.601); the mean of colours is the colour of means."""
    y, u, v = (float(cv2.mean(plane)[0]) for plane in planes)
    luma, u, v = 1.164 * (y - 16.0), u - 128.0, v - 128.0
    rgb = np.array([luma + 1.596 * v, luma - 0.392 * u - 0.813 * v, luma + 2.017 * u])
    return np.clip(rgb / 255.0, 0.0, 1.0)
