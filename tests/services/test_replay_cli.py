from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from robot.recording.writer import DatasetWriter
from services.cli import app


def small_dataset(root: Path) -> None:
    with DatasetWriter.create(root, fps=30, cameras={}, environment_state=False) as writer:
        writer.begin_episode("wave")
        for frame in range(60):
            pose = np.array([20 * np.sin(frame / 10), -60.0, 30.0, 60.0, 0.0, 20.0])
            writer.add_frame(pose, pose, {})
        writer.save_episode()


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_dataset_info(tmp_path: Path) -> None:
    small_dataset(tmp_path / "d")
    code, out, _ = run("dataset", "info", str(tmp_path / "d"), "--json")
    assert code == 0
    described = json.loads(out)
    assert (described["episodes"], described["frames"], described["units"]) == (1, 60, "degrees")
    assert described["tasks"] == ["wave"]
    code, out, _ = run("dataset", "info", str(tmp_path / "d"))
    assert code == 0
    assert "wave" in out


def test_what_cannot_be_replayed_is_said_in_a_line(tmp_path: Path) -> None:
    small_dataset(tmp_path / "d")
    code, _, err = run("replay", str(tmp_path / "d"), "--episode", "3")
    assert code != 0
    assert "no episode 3" in err
    code, _, err = run("replay", str(tmp_path / "d/data/chunk-000/file-000.parquet"))
    assert code != 0
    assert "--units" in err
    code, _, err = run("replay", str(tmp_path / "nowhere"))
    assert code != 0
    assert "not a LeRobot dataset" in err
    code, _, err = run("replay", str(tmp_path / "d"), "--robot", "nobody")
    assert code != 0
    assert "nobody" in err


@pytest.mark.live
def test_replay_on_a_live_twin(tmp_path: Path) -> None:
    small_dataset(tmp_path / "d")
    plot = tmp_path / "plot.png"
    code, out, err = run("replay", str(tmp_path / "d"), "--compare", "--json", "--plot", str(plot))
    assert code == 0, err
    joints = json.loads(out)["joints"]
    assert {"rmse", "lag_frames", "static_error"} <= set(joints["shoulder_pan"])
    # The recording's servos were perfect: the twin lags behind, as real ones do.
    assert 1.0 < joints["shoulder_pan"]["lag_twin_frames"] < 8.0
    assert plot.stat().st_size > 1000
