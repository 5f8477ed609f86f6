from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from recording_samples import create, picture, record, vectors

from robot.errors import DatasetError
from robot.recording.features import Feature
from robot.recording.merge import append_dataset
from robot.recording.reader import Dataset


def test_merged_episodes_are_as_if_recorded_in_one_go(tmp_path: Path) -> None:
    lengths = {0: 4, 1: 3, 2: 5}
    with create(tmp_path / "whole") as writer:
        for seed, length in lengths.items():
            record(writer, seed, length, task="put away" if seed == 2 else "pick")
    with create(tmp_path / "a") as writer:
        record(writer, 0, 4, task="pick")
    with create(tmp_path / "b") as writer:
        record(writer, 1, 3, task="pick")
        record(writer, 2, 5, task="put away")
    with create(tmp_path / "merged") as writer:
        for part in ("a", "b"):
            append_dataset(writer, Dataset(tmp_path / part))
    for name in ("info", "stats"):
        texts = [
            json.loads((tmp_path / root / f"meta/{name}.json").read_text()) for root in ("merged", "whole")
        ]
        assert texts[0] == texts[1]
    merged, whole = Dataset(tmp_path / "merged"), Dataset(tmp_path / "whole")
    assert merged.episodes == whole.episodes
    for seed, length in lengths.items():
        for name, column in whole.load(seed).items():
            np.testing.assert_array_equal(merged.load(seed)[name], column)
        assert merged.load(seed)["action"][0].tolist() == np.float32(vectors(seed, 0)[1]).tolist()
        image = merged.frames(seed, "overhead")[length - 1]
        assert np.abs(image.astype(int) - picture(seed * 1000 + (length - 1) * 10 + 1)).mean() < 6
    assert not (tmp_path / "merged/.merging").exists()


def test_unlike_datasets_are_not_merged(tmp_path: Path) -> None:
    with create(tmp_path / "a", (), calibration_sha256="aa" * 32) as writer:
        record(writer, 0, 2)
    others = {
        "features": {"cameras": (), "extra_features": (Feature("x", "float32", (1,)),)},
        "units": {"cameras": (), "units": "m100_100"},
        "robot_type": {"cameras": (), "robot_type": "bi_so_follower"},
        "calibration_sha256 a{64}.* has b{64}": {"cameras": (), "calibration_sha256": "bb" * 32},
    }
    for number, (says, options) in enumerate(others.items()):
        with create(tmp_path / f"{number}", **options) as writer, pytest.raises(DatasetError, match=says):
            append_dataset(writer, Dataset(tmp_path / "a"))
    with create(tmp_path / "unsaid", ()) as writer:
        assert append_dataset(writer, Dataset(tmp_path / "a")) == 1
