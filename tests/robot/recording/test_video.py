"""Videos: whole while they grow, copied without being encoded again, encoders that work or say why not."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from recording_samples import create, picture, record

from robot.errors import DatasetError
from robot.recording import hardware
from robot.recording.fragments import copy_video, cut_to_fragments, whole_packets
from robot.recording.hardware import HARDWARE, choose_codec, failure
from robot.recording.reader import Dataset
from robot.recording.video import CODECS, Codec, VideoWriter, decoded, read_video
from robot.recording.writer import DatasetWriter

COUNT = 20


def write(path: Path, codec: str = "h264") -> VideoWriter:
    video = VideoWriter(path, 32, 48, 30, choose_codec(codec))
    for frame in range(COUNT):
        video.add(picture(frame))
    return video


def check(images: np.ndarray, count: int) -> None:
    wanted = np.stack([picture(frame) for frame in range(count)])
    assert np.abs(images.astype(int) - wanted).mean(axis=(1, 2, 3)).max() < 8


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_all_but_the_newest_picture_is_in_the_file_while_it_grows(tmp_path: Path, codec: str) -> None:
    video = write(tmp_path / "v.mp4", codec)
    (tmp_path / "as it is.mp4").write_bytes((tmp_path / "v.mp4").read_bytes())
    images = np.stack(list(decoded(tmp_path / "as it is.mp4")))
    assert len(images) == COUNT - 1
    check(images, COUNT - 1)
    video.close()
    assert len(list(decoded(tmp_path / "v.mp4"))) == COUNT


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_a_video_cut_at_any_byte_has_all_pictures_before(tmp_path: Path, codec: str, zeros: bool) -> None:
    write(tmp_path / "v.mp4", codec).close()
    content = (tmp_path / "v.mp4").read_bytes()
    starts = [k for k in range(len(content)) if content[k : k + 4] == b"moof"]
    wanted = [bytes(packet) for packet in whole_packets(tmp_path / "v.mp4")]
    assert len(starts) == COUNT
    path = tmp_path / "cut.mp4"
    for cut in range(starts[-2], len(content), 3):
        # A power cut leaves a file's length without its last content.
        path.write_bytes(content[:cut] + (bytes(len(content) - cut) if zeros else b""))
        cut_to_fragments(path)
        found = [bytes(packet) for packet in whole_packets(path)]
        begun = sum(start - 4 < cut for start in starts)
        # A picture of which one byte is missing may pass, as a zero it may have been.
        assert begun - 1 <= len(found) <= begun
        assert found[: begun - 1] == wanted[: begun - 1]
        assert zeros or found == wanted[: len(found)]
    path.write_bytes(content[: starts[0] - 10])
    cut_to_fragments(path)
    assert list(whole_packets(path)) == []


@pytest.mark.parametrize("codec", ["h264", "av1"])
@pytest.mark.parametrize("count", [1, 7, COUNT, COUNT + 5])
def test_a_copy_has_the_first_pictures_bit_for_bit(tmp_path: Path, codec: str, count: int) -> None:
    write(tmp_path / "v.mp4", codec).close()
    assert copy_video(tmp_path / "v.mp4", tmp_path / "copy.mp4", count) == COUNT
    kept = min(count, COUNT)
    pairs = [[bytes(p) for p in whole_packets(tmp_path / name)] for name in ("v.mp4", "copy.mp4")]
    assert pairs[0][:kept] == pairs[1]
    check(read_video(tmp_path / "copy.mp4", start_s=0.0, count=kept, fps=30), kept)
    with av.open(str(tmp_path / "copy.mp4")) as file:
        stream = file.streams.video[0]
        assert stream.frames == kept  # an index, not fragments
        assert [float(f.time) for f in file.decode(stream)] == pytest.approx([k / 30 for k in range(kept)])


def test_nothing_is_copied_of_what_is_no_video(tmp_path: Path) -> None:
    for content in (b"", b"no video", bytes(5000)):
        (tmp_path / "v.mp4").write_bytes(content)
        assert copy_video(tmp_path / "v.mp4", tmp_path / "copy.mp4", 5) == 0
    assert copy_video(tmp_path / "absent.mp4", tmp_path / "copy.mp4", 5) == 0


def test_a_video_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"absent.v\.mp4"):
        write(tmp_path / "absent/v.mp4")
    write(tmp_path / "v.mp4").close()
    with pytest.raises(DatasetError, match=r"absent.copy\.mp4"):
        copy_video(tmp_path / "v.mp4", tmp_path / "absent/copy.mp4", 5)


def test_software_encoders_work_and_the_choice_is_theirs_without_hardware(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [failure(codec) for codec in CODECS.values()] == [None, None]
    broken = Codec("h264", "libx264", 18, "no such preset")
    absent = Codec("h264", "h264_of_tomorrow", 18, "")
    monkeypatch.setattr(hardware, "HARDWARE", {"broken": broken, "absent": absent})
    assert choose_codec("auto") is CODECS["h264"]
    with pytest.raises(DatasetError, match=r"codec broken does not work.*choose auto, h264 or av1"):
        choose_codec("broken")
    with pytest.raises(DatasetError, match=r"codec absent.*PyAV was built without it"):
        choose_codec("absent")
    works = Codec("h264", "libx264", 20, "ultrafast")
    monkeypatch.setitem(hardware.HARDWARE, "works", works)
    assert choose_codec("auto") is works
    with pytest.raises(DatasetError, match=r"no codec 'vp9': there are auto, h264, av1"):
        choose_codec("vp9")


@pytest.mark.parametrize("name", sorted(HARDWARE))
def test_a_hardware_encoder_works_or_says_why_not(name: str) -> None:
    try:
        assert choose_codec(name).library == name
    except DatasetError as error:
        assert name in str(error)


def test_a_dataset_keeps_its_format_when_another_encoder_goes_on(tmp_path: Path) -> None:
    with create(tmp_path / "d", ("wrist",), codec="auto") as writer:
        record(writer, 1, 3)
        assert writer.codec.name == "h264"
    with pytest.raises(DatasetError, match=r"videos are h264, codec av1 makes av1"):
        DatasetWriter.open(tmp_path / "d", codec="av1")
    with DatasetWriter.open(tmp_path / "d", codec="h264") as writer:
        record(writer, 2, 3)
    assert (
        Dataset(tmp_path / "d").info["features"]["observation.images.wrist"]["info"]["video.codec"] == "h264"
    )
    with create(tmp_path / "a", ("wrist",), codec="av1"):
        pass
    with DatasetWriter.open(tmp_path / "a", codec="auto") as writer:
        assert writer.codec is CODECS["av1"]


def test_a_library_that_goes_by_bits_and_wants_other_planes_is_served(tmp_path: Path) -> None:
    codec = Codec("h264", "libx264", 20, "ultrafast", {}, "", "nv12")
    video = VideoWriter(tmp_path / "v.mp4", 240, 320, 30, codec)
    for frame in range(5):
        video.add(picture(frame, 240, 320))
    video.close()
    wanted = np.stack([picture(frame, 240, 320) for frame in range(5)])
    found = read_video(tmp_path / "v.mp4", start_s=0.0, count=5, fps=30)
    assert np.abs(found.astype(int) - wanted).mean() < 4
