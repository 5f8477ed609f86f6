from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from robot.errors import BundleError, ConfigError, DatasetError, So101Error
from robot.recording.reader import Dataset
from services.cli import app
from training import recorder
from training.demonstrations import Demonstrator
from training.episodes import CorrectionOrder, DemonstrationOrder
from training.recorder import record_episodes

SMALL = DemonstrationOrder(seed=1, width_px=64, height_px=48)


@pytest.mark.slow
def test_the_same_episodes_whoever_shares_the_work(tmp_path: Path) -> None:
    kept = []
    for jobs in (1, 2):
        order = DemonstrationOrder(seed=5, width_px=64, height_px=48)
        record_episodes(tmp_path / str(jobs), order, 2, jobs=jobs, on_episode=lambda: kept.append(1))
    alone, shared = Dataset(tmp_path / "1"), Dataset(tmp_path / "2")
    assert len(kept) == 4
    assert alone.info == shared.info
    assert len(alone.episodes) == 2
    for number in range(2):
        columns = alone.load(number)
        for name, column in columns.items():
            np.testing.assert_array_equal(column, shared.load(number)[name])
        for camera in ("wrist", "overhead"):
            np.testing.assert_array_equal(alone.frames(number, camera), shared.frames(number, camera))
        assert set(np.unique(columns["loss_mask"])) <= {0.0, 1.0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_impossible_requests(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        record_episodes(tmp_path / "d", SMALL, 0)
    with pytest.raises(ValidationError, match="multiple of 2"):
        DemonstrationOrder(seed=1, width_px=63, height_px=48)
    with pytest.raises(BundleError, match="none"):
        record_episodes(tmp_path / "d", CorrectionOrder(policy=tmp_path / "none", seed=1), 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(DatasetError, match="not empty"):
        record_episodes(tmp_path / "full", SMALL, 1)


@pytest.mark.parametrize("jobs", [1, 3])
def test_attempts_that_are_never_kept_come_to_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    """However few are missing in each round of the processes."""
    rounds = []

    def nothing_kept(parts: Path, stretches: list[range], *rest: object) -> list[Path]:
        rounds.append(stretches)
        return []

    monkeypatch.setattr(recorder, "_round", nothing_kept)
    monkeypatch.setattr(Demonstrator, "episode", lambda self, number: None)
    with pytest.raises(So101Error, match="attempts in a row gave no episode"):
        record_episodes(tmp_path / "d", SMALL, 2, jobs=jobs)
    numbers = [number for stretches in rounds for stretch in stretches for number in stretch]
    assert numbers == ([] if jobs == 1 else list(range(26)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--image-size", "big"], "WIDTHxHEIGHT"),
        (["--image-size", "63x48"], "even"),
        (["--robot", "arm.yaml"], "--task"),
        (["--task", "pick it up"], "pick_place_confuser"),
        (["--live", "--looks", "0.5"], "--looks"),
    ],
)
def test_record_options_are_checked(tmp_path: Path, options: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["record", "--out", str(tmp_path / "d"), *options])
    assert result.exit_code != 0
    assert says in result.stderr
