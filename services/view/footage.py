"""One episode's part of a video as an mp4 that browsers play."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import av

from robot.errors import DatasetError
from robot.recording.cut import cut, pictures
from robot.recording.video import CODECS, VideoWriter

_PLAYED = ("h264", "av1")
"""Codecs that browsers decode without help of the system."""
_PLAIN = ("yuv420p", "yuvj420p")
"""Pixel formats that all of them show."""


@dataclass(frozen=True)
class Footage:
    """A video of one episode; picture k is shown from ``k / fps`` on."""

    mp4: bytes
    codec: str
    """What a browser must decode: ``h264`` or ``av1``."""
    anew: bool
    """Whether the pictures were encoded anew, because they could not be copied out as they are."""


def footage(path: Path, *, start_s: float, count: int, fps: float) -> Footage:
    """The ``count`` pictures of a video from ``start_s`` on, copied where they will then be played.

    Raises:
        DatasetError: the file is absent or broken, or has fewer pictures.
    """
    with TemporaryDirectory() as folder:
        part = Path(folder) / "part.mp4"
        anew = cut(path, part, start_s=start_s, count=count, fps=round(fps)) == "encoded"
        codec, pixels = _format(part)
        if codec not in _PLAYED or pixels not in _PLAIN:
            played = Path(folder) / "played.mp4"
            _encode(part, played, count, round(fps))
            part, codec, anew = played, "h264", True
        return Footage(part.read_bytes(), codec, anew)


def _format(path: Path) -> tuple[str, str]:
    """Codec and pixel format of a video."""
    try:
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            return str(stream.codec.canonical_name), str(stream.codec_context.pix_fmt)
    except (av.FFmpegError, OSError, IndexError) as error:
        raise DatasetError(f"{path} is not a readable video: {error}") from error


def _encode(source: Path, target: Path, count: int, fps: int) -> None:
    writer: VideoWriter | None = None
    for image in pictures(source, start_s=0.0, count=count, fps=fps):
        if writer is None:
            writer = VideoWriter(target, image.shape[0], image.shape[1], fps, CODECS["h264"])
        writer.add(image)
    if writer is not None:
        writer.close()
