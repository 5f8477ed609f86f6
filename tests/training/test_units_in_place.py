"""LeRobot's datasets do not say their units: where the values prove degrees, they are read as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robot.errors import DatasetError
from robot.recording.found_units import units_found
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter
from training.frames import Frames


def recorded(root: Path, units_per_tick: np.ndarray) -> Dataset:
    """Two episodes of readings that a servo could have given, in a dataset that says no units."""
    ticks = np.rint(400 * np.sin(np.arange(40)[:, None] / 7 + np.arange(6)))
    with DatasetWriter.create(root, fps=30, cameras={}, environment_state=False) as writer:
        for _ in range(2):
            writer.begin_episode("wave")
            for row in ticks * units_per_tick:
                writer.add_frame(row, row, {})
            writer.save_episode()
    info = json.loads((root / "meta/info.json").read_text())
    del info["so101"]
    (root / "meta/info.json").write_text(json.dumps(info))
    return Dataset(root)


def test_proven_degrees_are_read_in_place(tmp_path: Path) -> None:
    dataset = recorded(tmp_path / "degrees", np.full(6, 360.0 / 4095.0))
    found = units_found(dataset)
    assert found is not None and found.units == "degrees" and "0.0879" in found.why
    assert Frames.read(dataset).state.shape == (80, 6)


def test_the_swept_range_is_not_taken_for_degrees(tmp_path: Path) -> None:
    dataset = recorded(tmp_path / "swept", 200.0 / np.array([2549.0, 2303, 2205, 2287, 3900, 1450]))
    with pytest.raises(DatasetError, match=r"looks like m100_100.*NEW --units m100_100 --to-degrees"):
        Frames.read(dataset)


def test_what_has_no_grid_is_asked_for(tmp_path: Path) -> None:
    dataset = recorded(tmp_path / "computed", np.pi / np.array([97.0, 93, 91, 89, 83, 79]) / 7.0)
    assert units_found(dataset) is None
    with pytest.raises(DatasetError, match="does not say in which units"):
        Frames.read(dataset)
