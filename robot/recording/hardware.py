"""Which encoder a recording takes: a hardware one that really encodes here, or one in software."""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
import numpy as np

from robot.errors import DatasetError
from robot.recording.fragments import whole_packets
from robot.recording.video import CODECS, Codec, CodecName, VideoWriter

HARDWARE: dict[str, Codec] = {
    "h264_nvenc": Codec("h264", "h264_nvenc", 20, "p4", {"tune": "ull", "rc": "constqp", "delay": "0"}, "qp"),
    "h264_qsv": Codec("h264", "h264_qsv", 20, "veryfast", {"async_depth": "1"}, "global_quality", "nv12"),
    "h264_v4l2m2m": Codec("h264", "h264_v4l2m2m", 20, "", {}, ""),
}
"""Hardware encoders in the order they are tried in: NVIDIA, Intel, and those of small ARM boards. VAAPI is
not among them: the wheels of PyAV are built without."""

CODEC_NAMES: tuple[str, ...] = ("auto", *CODECS, *HARDWARE)
"""What a recording's codec may be called."""

_PROBE_PX = (240, 320)


def choose_codec(name: str) -> Codec:
    """The encoder of this name; ``auto`` is the first hardware encoder that works here, else libx264.

    Raises:
        DatasetError: there is no such name, or the hardware encoder does not work here.
    """
    if name == "auto":
        return next((codec for codec in HARDWARE.values() if failure(codec) is None), CODECS["h264"])
    if name in HARDWARE:
        why = failure(HARDWARE[name])
        if why is not None:
            raise DatasetError(
                f"codec {name} does not work on this machine ({why}): choose auto, h264 or av1, or see to "
                "its driver"
            )
        return HARDWARE[name]
    for codec in CODECS.values():
        if codec.name == name:
            return codec
    raise DatasetError(f"no codec {name!r}: there are {', '.join(CODEC_NAMES)}")


def codec_of(name: CodecName | str, wanted: str | None) -> Codec:
    """The encoder for a dataset whose videos are ``name``: the wanted one, else the one in software.

    Raises:
        DatasetError: the wanted one makes other videos, or does not work here.
    """
    canonical: CodecName = "av1" if name == "av1" else "h264"
    if wanted is None or (wanted == "auto" and canonical != "h264"):
        return CODECS[canonical]
    codec = choose_codec(wanted)
    if codec.name != canonical:
        raise DatasetError(
            f"the dataset's videos are {canonical}, codec {wanted} makes {codec.name}: choose {canonical} or "
            "begin another dataset"
        )
    return codec


def failure(codec: Codec) -> str | None:
    """Why an encoder does not encode two pictures here; ``None`` where it does."""
    try:
        av.codec.Codec(codec.library, "w")
    except (av.FFmpegError, ValueError):
        return "PyAV was built without it"
    picture = np.zeros((*_PROBE_PX, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.mp4"
        try:
            video = VideoWriter(path, *_PROBE_PX, 30, codec)
            try:
                video.add(picture)
                video.add(picture)
            except DatasetError:
                video.abandon()
                raise
            video.close()
        except DatasetError as error:
            return str(error.__cause__ or error)
        return None if sum(1 for _ in whole_packets(path)) == 2 else "it lost a picture of two"
