"""One episode's pictures as an mp4 of their own, encoded again only where there is no other way.

Datasets keep videos in many ways: a file per episode, hundreds of episodes in one file, time stamps that do
not begin at zero or are rounded to milliseconds. What comes out is always the same: picture ``i`` is shown
at ``i / fps``, which LeRobot demands to a tenth of a millisecond.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av

from robot.errors import DatasetError
from robot.recording.fragments import copy_video
from robot.recording.stats import ImageStats, Stats
from robot.recording.video import CODECS, CodecName, VideoWriter, read_video
from robot.seams import ByteArray

How = Literal["linked", "copied", "encoded"]

_EXACT_S = 5e-5
"""Half of the tolerance with which LeRobot looks for a picture."""
_AT_ONCE = 64
"""Pictures decoded into memory at a time."""


@dataclass(frozen=True, slots=True)
class _Packet:
    time_s: float
    key: bool


@dataclass(frozen=True, slots=True)
class _Span:
    """The packets of an episode in decoding order."""

    packets: list[_Packet]
    apart: bool
    """They begin with a key frame, and no packet of other pictures is among them."""
    alone: bool
    """The file has nothing else."""

    def numbers(self) -> list[int]:
        """Which picture of the episode each packet is."""
        order = sorted(range(len(self.packets)), key=lambda k: self.packets[k].time_s)
        rank = {k: number for number, k in enumerate(order)}
        return [rank[k] for k in range(len(self.packets))]

    def exact(self, fps: float) -> bool:
        """Whether picture ``i`` is shown at ``i / fps`` already."""
        numbers = self.numbers()
        times = zip(self.packets, numbers, strict=True)
        return all(abs(packet.time_s - number / fps) < _EXACT_S for packet, number in times)


def cut(
    source: Path, target: Path, *, start_s: float, count: int, fps: int, codec: CodecName = "h264"
) -> How:
    """Make an mp4 of ``count`` pictures of another, from ``start_s`` on.

    The file is hard-linked where it is just that already, its packets are copied where they begin with a key
    frame, and the pictures are encoded anew with ``codec`` otherwise. A start of 0 means the first picture,
    whatever its time stamp.

    Raises:
        DatasetError: the source is absent, broken, or has fewer pictures than that.
    """
    if not source.is_file():
        raise DatasetError(f"no video at {source}: the dataset is incomplete")
    try:
        with av.open(str(source)) as file:
            streams = len(file.streams)
        span = _find(source, start_s, count, fps)
        if len(span.packets) < count:
            raise DatasetError(
                f"{source} has {len(span.packets)} pictures from {start_s:.3f} s on, {count} belong to the "
                "episode: leave the episode out"
            )
        if span.alone and streams == 1 and span.exact(fps):
            _link(source, target)
            return "linked"
        if span.apart and len(span.packets) == count:
            _copy(source, target, start_s, span, fps)
            if _find(target, 0.0, count, fps).exact(fps):
                return "copied"
            target.unlink()
    except (av.FFmpegError, OSError, IndexError) as error:
        raise DatasetError(f"{source} is not a readable video: {error}") from error
    encode(pictures(source, start_s=start_s, count=count, fps=fps), target, fps, codec)
    return "encoded"


def encode(images: Iterable[ByteArray], target: Path, fps: int, codec: CodecName = "h264") -> int:
    """Pictures, RGB uint8 (height, width, 3) each, as an mp4; returns how many there were.

    Raises:
        DatasetError: the encoder or the disk failed.
    """
    encoded = target.with_suffix(".encoded.mp4")  # meant for a crash, so copied into an ordinary file
    writer: VideoWriter | None = None
    count = 0
    try:
        for image in images:
            if writer is None:
                writer = VideoWriter(encoded, image.shape[0], image.shape[1], fps, CODECS[codec])
            writer.add(image)
            count += 1
        if writer is not None:
            writer.close()
            copy_video(encoded, target, count)
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise
    finally:
        encoded.unlink(missing_ok=True)
    return count


def pictures(path: Path, *, start_s: float, count: int, fps: float) -> Iterator[ByteArray]:
    """The same pictures as :func:`robot.recording.video.read_video`, without holding all in memory."""
    first_s = start_s
    for first in range(0, count, _AT_ONCE):
        if first == _AT_ONCE and start_s == 0.0:
            with av.open(str(path)) as file:
                first_s = _start(file.streams.video[0], start_s)
        part = min(_AT_ONCE, count - first)
        yield from read_video(path, start_s=first_s + first / fps, count=part, fps=fps)


def video_stats(path: Path, count: int, fps: float) -> Stats:
    """Statistics of a video's first ``count`` pictures, all of which are decoded."""
    stats = ImageStats()
    for image in pictures(path, start_s=0.0, count=count, fps=fps):
        stats.add(image)
    return stats.stats()


def _find(path: Path, start_s: float, count: int, fps: float) -> _Span:
    """The packets that show an episode; more or fewer than ``count`` where the video does not fit."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        start_s = _start(stream, start_s)
        earliest_s, end_s = start_s - 0.5 / fps, start_s + (count - 0.5) / fps
        packets: list[_Packet] = []
        foreign, among, alone = 0, 0, True
        for packet in _demux(file, stream, earliest_s):
            time_s = float(packet.pts * packet.time_base)
            if float(packet.dts * packet.time_base) >= end_s:
                alone = False
                break
            if earliest_s <= time_s < end_s:
                among = foreign
                packets.append(_Packet(time_s, packet.is_keyframe))
            else:
                alone = False
                foreign += bool(packets)
        return _Span(packets, bool(packets) and packets[0].key and not among, alone)


def _start(stream: Any, start_s: float) -> float:
    """Time stamp of the first picture; that of the file where the episode begins with it."""
    if start_s == 0.0 and stream.start_time is not None:
        return float(stream.start_time * stream.time_base)
    return start_s


def _demux(file: Any, stream: Any, earliest_s: float) -> Iterator[Any]:
    """Packets in decoding order from the last key frame before a time on."""
    if earliest_s > 0:
        file.seek(int(earliest_s / stream.time_base), stream=stream)
    for packet in file.demux(stream):
        if packet.pts is not None and packet.dts is not None:
            yield packet


def _link(source: Path, target: Path) -> None:
    """A second name for the file; a copy where the file system cannot have one."""
    real = source.resolve()  # a dataset from a download cache is made of symbolic links
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)


def _copy(source: Path, target: Path, start_s: float, span: _Span, fps: int) -> None:
    """Packets as they are, with new time stamps."""
    numbers = span.numbers()
    # Decoding may run ahead of showing by some pictures, where there are B frames.
    ahead = max(k - number for k, number in enumerate(numbers))
    wanted = {packet.time_s: number for packet, number in zip(span.packets, numbers, strict=True)}
    with av.open(str(source)) as file, av.open(str(target), "w", format="mp4") as out:
        stream = file.streams.video[0]
        copied: Any = out.add_stream_from_template(stream, opaque=True)
        copied.time_base = Fraction(1, fps)
        done = 0
        for packet in _demux(file, stream, _start(stream, start_s) - 0.5 / fps):
            number = wanted.get(float(packet.pts * packet.time_base))
            if number is None:
                if done == len(wanted):
                    break
                continue
            packet.stream = copied
            packet.time_base = Fraction(1, fps)
            packet.pts, packet.dts, packet.duration = number, done - ahead, 1
            out.mux(packet)
            done += 1
