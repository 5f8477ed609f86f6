from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from robot.errors import DatasetError
from robot.recording.cut import cut, pictures, video_stats
from robot.recording.video import read_video
from tests.legacy_dataset import grey, number_of, write_video

FRAMES = 24


def video(path: Path, **options: object) -> Path:
    write_video(path, (grey(k) for k in range(FRAMES)), **options)
    return path


def shown(path: Path, count: int) -> list[int]:
    return [number_of(image) for image in read_video(path, start_s=0.0, count=count, fps=30)]


def times_s(path: Path) -> list[float]:
    with av.open(str(path)) as file:
        packets = file.demux(file.streams.video[0])
        return sorted(float(p.pts * p.time_base) for p in packets if p.pts is not None)


@pytest.mark.parametrize(
    ("options", "first", "count", "how"),
    [
        ({}, 0, FRAMES, "linked"),
        ({}, 10, 8, "copied"),  # begins with a key frame
        ({}, 11, 8, "encoded"),
        ({"codec": "libsvtav1"}, 10, FRAMES - 10, "copied"),
        ({"gop": 12, "b_frames": 2}, 0, FRAMES, "linked"),
        ({"gop": 12, "b_frames": 2}, 0, 7, "copied"),
        ({"gop": 12, "b_frames": 2}, 0, 8, "encoded"),  # the last needs one that is not of the episode
        ({"time_base": Fraction(1, 1000)}, 0, FRAMES, "copied"),  # a third of a millisecond off
        ({"time_base": Fraction(1, 90000), "first_s": 0.2}, 0, FRAMES, "copied"),  # does not begin at 0
    ],
)
def test_an_episode_of_a_video_shows_its_pictures_at_their_times(
    tmp_path: Path, options: dict[str, object], first: int, count: int, how: str
) -> None:
    source, target = video(tmp_path / "source.mp4", **options), tmp_path / "target.mp4"
    assert cut(source, target, start_s=first / 30, count=count, fps=30) == how
    assert shown(target, count) == list(range(first, first + count))
    np.testing.assert_allclose(times_s(target), np.arange(count) / 30, atol=1e-5)
    assert source.samefile(target) == (how == "linked")
    assert sorted(tmp_path.iterdir()) == [source, target]


def test_packets_that_are_copied_are_the_same_bytes(tmp_path: Path) -> None:
    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as file:
            return [bytes(p) for p in file.demux(file.streams.video[0]) if p.pts is not None]

    source = video(tmp_path / "source.mp4", gop=6, b_frames=2)
    cut(source, tmp_path / "target.mp4", start_s=6 / 30, count=12, fps=30)
    assert packets(tmp_path / "target.mp4") == packets(source)[6:18]
    np.testing.assert_allclose(times_s(tmp_path / "target.mp4"), np.arange(12) / 30, atol=1e-5)


def test_a_start_that_drifted_by_rounding_is_the_nearest_picture(tmp_path: Path) -> None:
    source = video(tmp_path / "source.mp4")
    for drift_s in (-0.012, 0.012):
        target = tmp_path / f"{drift_s}.mp4"
        cut(source, target, start_s=10 / 30 + drift_s, count=8, fps=30)
        assert shown(target, 8) == list(range(10, 18))


def test_a_video_that_cannot_be_the_episodes_is_refused(tmp_path: Path) -> None:
    source, target = video(tmp_path / "source.mp4"), tmp_path / "target.mp4"
    with pytest.raises(DatasetError, match=r"24 pictures from 0.000 s on, 25 belong to the episode"):
        cut(source, target, start_s=0.0, count=25, fps=30)
    with pytest.raises(DatasetError, match=r"4 pictures from 0.667 s on, 8 belong"):
        cut(source, target, start_s=20 / 30, count=8, fps=30)
    (tmp_path / "half.mp4").write_bytes(source.read_bytes()[:-200])
    with pytest.raises(DatasetError, match=r"half.mp4"):
        cut(tmp_path / "half.mp4", target, start_s=0.0, count=FRAMES, fps=30)
    with pytest.raises(DatasetError, match=r"no video at .*gone.mp4"):
        cut(tmp_path / "gone.mp4", target, start_s=0.0, count=FRAMES, fps=30)
    assert not target.exists()


def test_statistics_are_of_all_pictures(tmp_path: Path) -> None:
    stats = video_stats(video(tmp_path / "source.mp4"), FRAMES, 30)
    mean = np.mean([grey(k).mean() for k in range(FRAMES)]) / 255
    np.testing.assert_allclose(stats["mean"].reshape(-1), mean, atol=0.01)
    assert stats["mean"].shape == (3, 1, 1) and stats["count"].tolist() == [FRAMES]
    np.testing.assert_allclose(stats["min"].reshape(-1), 3 / 255, atol=0.01)


def test_pictures_of_a_video_that_begins_late_come_in_order(tmp_path: Path) -> None:
    write_video(tmp_path / "late.mp4", (grey(k % 50) for k in range(70)), first_s=0.1)
    seen = [number_of(image) for image in pictures(tmp_path / "late.mp4", start_s=0.0, count=70, fps=30)]
    assert seen == [k % 50 for k in range(70)]
