from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from robot.errors import ConfigError
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter
from training import preflight
from training.config import TrainConfig
from training.data_checks import Found, check_frames
from training.frames import Frames
from training.loop import train
from training.policies.act import ActConfig
from training.preflight import check, needed

CPU = torch.device("cpu")
Usage = namedtuple("Usage", ["total", "used", "free"])


def put(config: TrainConfig, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({**config.model_dump(), **changes})


def rows_of(motion: np.ndarray, root: Path, fps: int = 30) -> Path:
    """A dataset of one episode without pictures that matter; states and goals are the rows of ``motion``."""
    with DatasetWriter.create(root, fps=fps, cameras={"wrist": (32, 32)}, environment_state=False) as writer:
        writer.begin_episode("x")
        for row in motion:
            writer.add_frame(row, row, {"wrist": np.zeros((32, 32, 3), np.uint8)})
        writer.save_episode()
    return root


def looked_at(root: Path, tiny: ActConfig) -> Found:
    found = Found()
    check_frames(Frames.read(Dataset(root)), tiny.model_copy(update={"cameras": ("wrist",)}), found)
    return found


def test_a_sound_run_may_begin(train_config: TrainConfig, tiny: ActConfig) -> None:
    ready = check(train_config, tiny, CPU)
    assert sum(ready.frames[0].lengths) == 42
    assert ready.need.cache == 2 * 42 * 32 * 32 * 3
    assert any("GB of memory on cpu" in note for note in ready.notes)


def test_everything_that_is_wrong_is_said_at_once(
    train_config: TrainConfig, tiny: ActConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = rows_of(np.full((20, 6), 5.0), tmp_path / "slow", fps=15)
    wrong = put(train_config, datasets=(str(tmp_path / "gone"), *train_config.datasets, str(slow)))
    policy = tiny.model_copy(update={"chunk_size": 30})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 1000))
    monkeypatch.setattr(preflight, "_free_memory", lambda device: 1000)
    with pytest.raises(ConfigError) as caught:
        check(wrong, policy, CPU)
    problems = str(caught.value).split("\n  - ")[1:]
    expected = (
        "gone",
        "a chunk of 30 steps takes 30 frames, the longest episode has 12",
        "slow has no camera overhead, only wrist",
        "takes 30 frames, the longest episode has 20",
        "must have one frame rate, got ",
        "free: the run needs 0.0 GB for decoded pictures and 0.0 GB for checkpoints",
        "memory on cpu, free are 0.0 GB: lower batch_size",
    )
    assert len(problems) == len(expected), problems
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem


def test_values_that_no_arm_has(tiny: ActConfig, tmp_path: Path) -> None:
    wave = 30.0 * np.sin(np.arange(40)[:, None] / 5.0 + np.arange(6)) + 40.0
    assert looked_at(rows_of(wave, tmp_path / "sound"), tiny).problems == []
    beyond = wave.copy()
    beyond[7, 2] = 130.0
    (problem, again) = looked_at(rows_of(beyond, tmp_path / "beyond"), tiny).problems
    assert (
        "observation.state of elbow_flex is 130.0 deg in episode 0, the arm moves within -97..97" in problem
    )
    assert "action of elbow_flex" in again
    radians = looked_at(rows_of(np.radians(wave), tmp_path / "radians"), tiny).problems
    assert len(radians) == 1 and "in degrees, they look like radians" in radians[0]
    nothing = looked_at(rows_of(np.zeros((9, 6)), tmp_path / "zero"), tiny)
    assert len(nothing.problems) == 2 and "action is zero in all frames" in nothing.problems[1]
    still = wave.copy()
    still[:, 4], still[:, 5] = 0.0, 50.0
    notes = " ".join(looked_at(rows_of(still, tmp_path / "still"), tiny).notes)
    assert "action of wrist_roll is zero" in notes and "gripper is never moved" in notes
    assert "does not say where to pick up" in notes


def test_coordinates_in_metres_that_nobody_says_cannot_be_trained(
    train_config: TrainConfig, tiny: ActConfig, tmp_path: Path
) -> None:
    wave = np.random.default_rng(0).uniform(10.0, 20.0, (20, 6))
    silent = put(train_config, datasets=(str(rows_of(wave, tmp_path / "silent")),))
    crop = {"camera": "wrist", "pixel_to_table": np.eye(3).tolist()}
    base = {**tiny.model_dump(), "cameras": ["wrist"]}
    plain, *in_metres = (
        ActConfig.model_validate({**base, "coordinates": coordinates})
        for coordinates in ({}, {"crop": crop}, {"tool_frame": True}, {"encoding": "raw"})
    )
    assert [policy.needs_pickup for policy in (plain, *in_metres)] == [False, True, True, True]
    with pytest.raises(ConfigError, match="no dataset says where to pick up"):
        check(silent, in_metres[1], CPU)
    check(put(silent, init_from="elsewhere"), in_metres[1], CPU)


def test_numbers_that_are_none_are_named(tiny: ActConfig, train_config: TrainConfig, tmp_path: Path) -> None:
    root = rows_of(np.full((20, 6), 5.0), tmp_path / "set")
    file = next(root.glob("data/**/*.parquet"))
    table = pq.read_table(file)
    goals = np.stack(table["action"].to_pylist())
    goals[12, 3] = np.nan
    column = table.schema.get_field_index("action")
    broken = pa.array(goals.tolist(), table.schema.field(column).type)
    pq.write_table(table.set_column(column, table.schema.field(column), broken), file)
    with pytest.raises(ConfigError, match=r"not finite in 1 frames, first in frame 12 of episode 0.*delete"):
        check(put(train_config, datasets=(str(root),)), tiny, CPU)


def test_a_video_that_was_not_copied_is_missed(
    dataset_root: Path, tiny: ActConfig, train_config: TrainConfig, tmp_path: Path
) -> None:
    copy = tmp_path / "set"
    shutil.copytree(dataset_root, copy)
    next(copy.glob("videos/*wrist*/**/*.mp4")).unlink()
    with pytest.raises(ConfigError, match=r"lacks 1 videos, for instance .*wrist.*copy the dataset again"):
        check(put(train_config, datasets=(str(copy),)), tiny, CPU)


def test_the_need_is_what_is_written_and_kept(
    train_config: TrainConfig, tiny: ActConfig, dataset_root: Path
) -> None:
    frames = [Frames.read(Dataset(dataset_root))]
    need = needed(train_config, tiny, frames)
    train(train_config)
    files = Path(train_config.output_dir).glob("checkpoints/*/*.safetensors")
    written = sum(value.nbytes for path in files for value in load_file(path).values())
    assert need.checkpoints == pytest.approx(written, rel=0.02)
    assert needed(train_config, tiny, frames, done=3).checkpoints * 2 == need.checkpoints
    assert need.memory is not None
    twice = needed(put(train_config, batch_size=16), tiny, frames)
    half = needed(put(train_config, batch_size=16), tiny, frames, processes=2)
    fixed = 5 * need.parameters
    assert twice.memory - fixed == pytest.approx(2 * (need.memory - fixed), rel=0.05)
    assert half.memory == need.memory
