"""Pictures to mp4 and back with PyAV: encoded while they are recorded, decoded as arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np

from robot.errors import DatasetError
from robot.seams import ByteArray

CodecName = Literal["h264", "av1"]
"""What LeRobot calls the formats."""

GOP = 2
"""Every second picture is a key frame, so that any picture is at most one decode away."""

_SMALL_PX = 320 * 240
"""Below this size one encoding or decoding thread is faster than several."""
_ALONE_PX = 640 * 480
"""Up to this size one encoding thread keeps 30 pictures a second for a tenth of a core."""

_FRAGMENTED = {"movflags": "frag_every_frame+empty_moov+default_base_moof", "flush_packets": "1"}
"""Every picture is whole in the file as soon as it is encoded, whatever happens to the writer."""


@dataclass(frozen=True)
class Codec:
    """How videos are encoded."""

    name: CodecName
    """What LeRobot calls the format."""
    library: str
    """FFmpeg's name of the encoder."""
    crf: int
    """Quality: constant rate factor, or the quantiser of an encoder that has none."""
    preset: str
    """How fast it is, in the library's words; empty where it has none."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Further options of the library."""
    quality_option: str = "crf"
    """What the library calls ``crf``; empty for one that goes by bits per second."""
    pixel_format: str = "yuv420p"
    """What the library takes; what it writes is always read as ``yuv420p``."""

    def options(self) -> dict[str, str]:
        """The library's options."""
        options = {"preset": self.preset, self.quality_option: str(self.crf)}
        return {key: value for key, value in options.items() if key and value} | dict(self.more)

    def info(self, height_px: int, width_px: int, fps: int) -> dict[str, Any]:
        """The ``info`` block of a video feature, keys as LeRobot writes them."""
        return {
            "video.height": height_px,
            "video.width": width_px,
            "video.codec": self.name,
            "video.pix_fmt": "yuv420p",
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
            "video.g": GOP,
            "video.crf": self.crf,
            "video.preset": self.preset,
            "video.fast_decode": 0,
            "video.video_backend": "pyav",
            "video.extra_options": dict(self.more),
            "is_depth_map": False,
        }


CODECS: dict[CodecName, Codec] = {
    # Without zerolatency the encoder keeps dozens of pictures to itself, which a killed writer loses.
    # Where every second picture stands alone, slower presets find nothing: at 640x480 they take twice the
    # time, for files of the same size and pictures that are not better.
    "h264": Codec("h264", "libx264", 23, "ultrafast", {"tune": "fastdecode,zerolatency"}),
    # Low delay, one picture in and one out, in one thread of its own.
    "av1": Codec("av1", "libsvtav1", 30, "11", {"svtav1-params": "pred-struct=1:lookahead=0:lp=1"}),
}
"""``h264`` encodes and decodes fastest and everywhere; ``av1`` is what LeRobot writes and half the size."""


class VideoWriter:
    """One mp4 file that grows picture by picture; frame ``i`` is shown at ``i / fps``.

    Every picture is a fragment of its own: a file cut anywhere holds all pictures before the cut.
    """

    def __init__(self, path: Path, height_px: int, width_px: int, fps: int, codec: Codec) -> None:
        # SVT-AV1 greets on stderr, unless it is told to report errors only.
        os.environ.setdefault("SVT_LOG", "1")
        options = codec.options()
        try:
            self._file: Any = av.open(str(path), "w", format="mp4", options=_FRAGMENTED)
            stream = self._file.add_stream(codec.library, rate=fps, options=options)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DatasetError(f"cannot write video {path}: {error}") from error
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, codec.pixel_format
        stream.codec_context.gop_size = GOP
        # Without B frames decoding order is showing order, and frame i has exactly pts i.
        stream.codec_context.max_b_frames = 0
        stream.codec_context.time_base = Fraction(1, fps)
        if height_px * width_px <= _ALONE_PX:
            stream.codec_context.thread_count = 1
        if not codec.quality_option:
            # A tenth of a byte a pixel: what libx264 takes for such pictures at its quality.
            stream.codec_context.bit_rate = height_px * width_px * fps * 8 // 10
        self._pixel_format = codec.pixel_format
        self._stream = stream
        self._path = path
        self._index = 0

    def add(self, image: ByteArray) -> None:
        """Encode one RGB picture, uint8 (height, width, 3).

        Raises:
            DatasetError: the encoder or the disk failed.
        """
        # OpenCV's conversion (BT.601, as an untagged video is read) costs a third of swscale's.
        planes = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2YUV_I420)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        if self._pixel_format != "yuv420p":
            frame = frame.reformat(format=self._pixel_format)
        frame.pts = self._index
        self._index += 1
        self._mux(frame)

    def close(self) -> None:
        """Flush the encoder and finish the file.

        Raises:
            DatasetError: the encoder or the disk failed.
        """
        self._mux(None)
        try:
            self._file.close()
        except (av.FFmpegError, OSError) as error:
            raise DatasetError(f"encoding {self._path} failed: {error}") from error

    def abandon(self) -> None:
        """Close the file whatever state it is in."""
        try:
            self._file.close()
        except (av.FFmpegError, OSError):
            return

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._file.mux(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DatasetError(f"encoding {self._path} failed: {error}") from error


def decoded(path: Path) -> Iterator[ByteArray]:
    """Pictures of a video, RGB uint8 (height, width, 3), from the first to the last before a broken one."""
    try:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            # One thread: with more, a broken picture takes those before it along.
            stream.thread_count = 1
            for frame in file.decode(stream):
                if frame.is_corrupt:
                    return
                yield _to_rgb(frame)
    except (av.FFmpegError, OSError, IndexError):
        return


def read_video(path: Path, *, start_s: float, count: int, fps: float) -> ByteArray:
    """``count`` pictures from ``start_s`` on, RGB uint8 (count, height, width, 3).

    Raises:
        DatasetError: the file is absent or broken, or ends before ``count`` pictures.
    """
    if not path.is_file():
        raise DatasetError(f"no video at {path}: the dataset is incomplete")
    images: ByteArray | None = None
    found = 0
    try:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            small = stream.width * stream.height <= _SMALL_PX
            if small:
                stream.thread_count = 1
            else:
                stream.thread_type = "AUTO"
            # Half a frame of slack: time stamps are rounded to the file's time base.
            earliest_s = start_s - 0.5 / fps
            if start_s > 0:
                file.seek(max(0, int(earliest_s / stream.time_base)), stream=stream)
            for frame in file.decode(stream):
                if found == count:
                    break
                if frame.time is not None and frame.time < earliest_s:
                    continue
                image = _to_rgb(frame)
                if images is None:
                    images = np.empty((count, *image.shape), dtype=np.uint8)
                images[found] = image
                found += 1
    except (av.FFmpegError, OSError, IndexError) as error:
        raise DatasetError(f"{path} is not a readable video: {error}") from error
    if images is None or found < count:
        raise DatasetError(
            f"{path} has {found} pictures from {start_s:.3f} s on, {count} belong to the episode"
        )
    return images


_PLAIN_COLOURS = (2, 5, 6)
"""FFmpeg's numbers of colour spaces read as BT.601: unspecified, BT.470BG, SMPTE 170M."""
_FULL_RANGE = 2


def _to_rgb(frame: Any) -> ByteArray:
    plain = frame.format.name == "yuv420p" and frame.color_range != _FULL_RANGE
    if plain and frame.colorspace in _PLAIN_COLOURS and not (frame.width % 2 or frame.height % 2):
        planes: ByteArray = frame.to_ndarray()
        rgb: ByteArray = np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420), dtype=np.uint8)
        return rgb
    converted: ByteArray = frame.to_ndarray(format="rgb24")
    return converted
