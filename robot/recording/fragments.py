"""Videos that are still growing, or whose writer was killed: what they hold, and copies that are ordinary."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from robot.errors import DatasetError

_BOX = struct.Struct(">I4s")
"""Head of a part of an mp4 file: its length with the head, and its kind."""


def copy_video(source: Path, target: Path, count: int) -> int:
    """Copy the first ``count`` pictures of a video without encoding them again.

    Args:
        source: may be cut off anywhere.
        target: an ordinary mp4 file, with its index, which players and LeRobot seek in.
        count: the rest of the source is left out.

    Returns:
        How many whole pictures the source has; the target has that many or ``count``.

    Raises:
        DatasetError: the target cannot be written.
    """
    packets = whole_packets(source)
    first = next(packets, None)
    if first is None:
        return 0
    found = 0
    try:
        # A file of our own: one that FFmpeg opened stays open when the disk is full.
        with target.open("wb") as file, av.open(file, "w", format="mp4") as out:
            copy = out.add_stream_from_template(first.stream, opaque=True)
            for packet in itertools.chain((first,), packets):
                if found < count:
                    packet.stream = copy
                    out.mux(packet)
                found += 1
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DatasetError(f"cannot write video {target}: {error}") from error
    return found


def cut_to_fragments(path: Path) -> None:
    """Take a growing video's last fragment away where it is not whole: FFmpeg may refuse the file for it.

    Raises:
        OSError: the file cannot be read or cut.
    """
    size, end, position = path.stat().st_size, 0, 0
    with path.open("r+b") as file:
        while position + _BOX.size <= size:
            file.seek(position)
            length, kind = _BOX.unpack(file.read(_BOX.size))
            if length < _BOX.size or position + length > size:
                break
            position += length
            if kind in (b"moov", b"mdat"):
                end = position
        file.truncate(end)


def whole_packets(path: Path) -> Iterator[Any]:
    """The encoded pictures of a video from the first to the last before a broken one."""
    try:
        with av.open(str(path)) as file:
            step: int | None = None
            for k, packet in enumerate(p for p in file.demux(video=0) if p.size):
                step = packet.pts if k == 1 else step
                if packet.is_corrupt or packet.pts is None or packet.pts != k * (step or 0):
                    return
                if bytes(packet)[-2:] == b"\0\0":
                    return  # No picture ends so: its last page never reached the disk.
                yield packet
    except (av.FFmpegError, OSError, IndexError):
        return
