from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from robot.errors import DatasetError
from robot.recording.reader import Dataset
from training.image_cache import Pictures, missing_bytes, open_images, resize_frames

WRIST = {"wrist": (16, 16)}


def read(pictures: Pictures, *rows: int) -> np.ndarray:
    into = np.zeros((len(rows), *pictures.shape[1:]), np.uint8)
    pictures.read(np.array(rows, np.int64), into)
    return into


def test_pictures_are_decoded_once(dataset_root: Path, tmp_path: Path) -> None:
    dataset, counts = Dataset(dataset_root), []
    both = {**WRIST, "overhead": (8, 12)}
    assert missing_bytes(dataset, both, tmp_path) == 42 * (16 * 16 + 8 * 12) * 3
    first = open_images(dataset, WRIST, tmp_path, counts.append)
    assert counts == [9, 12, 10, 11]
    assert missing_bytes(dataset, both, tmp_path) == 42 * 8 * 12 * 3
    again = open_images(dataset, WRIST, tmp_path, counts.append)
    assert len(counts) == 4
    np.testing.assert_array_equal(read(first["wrist"], 3, 41), read(again["wrist"], 3, 41))
    assert open_images(dataset, both, tmp_path)["overhead"].shape == (42, 8, 12, 3)


def test_rows_come_in_the_order_that_is_asked_for(dataset_root: Path, tmp_path: Path) -> None:
    pictures = open_images(Dataset(dataset_root), WRIST, tmp_path)["wrist"]
    # Frame 8 of episode 0, 0 of 1, 10 of 3; grey is 20 * episode + 5 * frame + 30.
    greys = read(pictures, 41, 8, 9, 8).reshape(4, -1).mean(1)
    np.testing.assert_allclose(greys, [140, 70, 50, 70], atol=4)


def test_caching_averages_as_the_policy_does() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (300, 20, 30, 3), dtype=np.uint8)
    expected = frames.reshape(300, 4, 5, 6, 5, 3).mean((2, 4))
    assert np.abs(resize_frames(frames, 4, 6) - expected).max() <= 0.5001


def test_a_changed_dataset_gets_a_new_cache(dataset_root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "set"
    shutil.copytree(dataset_root, copy)
    open_images(Dataset(copy), WRIST, tmp_path / "cache")
    video = next(copy.glob("videos/**/*.mp4"))
    os.utime(video, (1, 1))
    assert missing_bytes(Dataset(copy), WRIST, tmp_path / "cache") > 0


def test_a_disk_without_room_is_said_before_decoding(
    dataset_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1000))
    with pytest.raises(DatasetError, match=r"needs 0.0 GB, .*cache/deep has .* free: choose another"):
        open_images(Dataset(dataset_root), WRIST, tmp_path / "cache" / "deep")
    assert list(tmp_path.iterdir()) == []


def test_what_was_cut_short_is_not_used(dataset_root: Path, tmp_path: Path) -> None:
    dataset = Dataset(dataset_root)
    pictures = open_images(dataset, WRIST, tmp_path)["wrist"]
    file = next(tmp_path.glob("*/wrist.npy"))
    os.truncate(file, file.stat().st_size - 100)
    with pytest.raises(DatasetError, match="cut short: delete it"):
        read(pictures, 41)
    with pytest.raises(DatasetError, match=r"cannot be read .*delete it"):
        open_images(dataset, WRIST, tmp_path)


DECODE = """
import sys, time
from pathlib import Path
from robot.recording.reader import Dataset
from training.image_cache import open_images
dataset = Dataset(Path(sys.argv[1]))
whole = dataset.frames
def frames(number, camera, start, stop):
    if number == 2:
        print("half", flush=True)
        time.sleep(60)
    return whole(number, camera, start, stop)
dataset.frames = frames
open_images(dataset, {"wrist": (16, 16)}, Path(sys.argv[2]))
"""


def test_a_kill_while_decoding_leaves_no_half_cache(dataset_root: Path, tmp_path: Path) -> None:
    """Who wants the same pictures waits for the one that makes them, and makes them if that one is killed."""
    command = [sys.executable, "-c", DECODE, str(dataset_root), str(tmp_path)]
    counts: list[int] = []
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed,
        ThreadPoolExecutor(1) as pool,
    ):
        assert killed.stdout.readline() == "half\n"
        waiting = pool.submit(open_images, Dataset(dataset_root), WRIST, tmp_path, counts.append)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
        assert not counts and not list(tmp_path.glob("*/wrist.npy"))
        killed.kill()
        pictures = waiting.result(timeout=60)["wrist"]
    assert counts == [9, 12, 10, 11]
    np.testing.assert_allclose(read(pictures, 8, 31).reshape(2, -1).mean(1), [70, 90], atol=4)
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["wrist.lock", "wrist.npy"]
