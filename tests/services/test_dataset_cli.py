"""``so101 dataset check``, ``repair``, ``delete`` and ``info`` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from robot.recording.features import Feature
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter
from services.cli import app

LENGTHS = (60, 50, 40)


def run(*arguments: str | Path, typed: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["dataset", *map(str, arguments)], input=typed)
    return result.exit_code, result.stdout, result.stderr


def poses(frames: np.ndarray) -> np.ndarray:
    """A joint that swings, in the steps of a servo."""
    swing = np.round(40 * np.sin(frames / 8) * 4096 / 360) * 360 / 4096
    zero = np.zeros_like(swing)
    return np.stack([swing, zero - 60, zero + 30, swing / 2 + 40, zero, zero + 20], axis=1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    extra = (Feature("success", "int64", (1,)), Feature("timing.time_s", "float64", (1,)))
    with DatasetWriter.create(
        tmp_path / "d",
        fps=30,
        cameras={},
        environment_state=False,
        extra_features=extra,
        calibration_sha256="ab" * 32,
        extra_info={"teleop": "leader"},
    ) as writer:
        for length in LENGTHS:
            writer.begin_episode("wave")
            for k in range(length):
                state, action = poses(np.array([k - 4, k]))
                writer.add_frame(state, action, {}, extra={"timing.time_s": np.float64(k / 30)})
            writer.save_episode("success" if length == LENGTHS[0] else None)
    return tmp_path / "d"


def miscount(root: Path) -> None:
    path = root / "meta/info.json"
    path.write_text(path.read_text().replace('"total_frames": 150', '"total_frames": 1'))


def test_check_says_what_is_wrong_by_its_exit_status(root: Path) -> None:
    code, out, _ = run("check", root, "--json")
    assert code == 0
    said = json.loads(out)
    assert {key: said[key] for key in ("ok", "episodes", "frames", "findings")} == {
        "ok": True,
        "episodes": 3,
        "frames": 150,
        "findings": [],
    }
    miscount(root)
    code, out, _ = run("check", root, "--json", "--fast")
    assert code == 1
    said = json.loads(out)
    assert said["ok"] is False
    (finding,) = said["findings"]
    assert finding["code"] == "info_counts"
    assert finding["episode"] is None
    assert "total_frames 1" in finding["message"]
    assert "so101 dataset repair" in finding["remedy"]
    code, out, _ = run("check", root)
    assert code == 1
    assert "info_counts" in out
    assert "remedy: " in out


def test_check_of_what_is_no_dataset(tmp_path: Path) -> None:
    code, out, _ = run("check", tmp_path / "nowhere", "--json")
    assert code == 1
    assert [finding["code"] for finding in json.loads(out)["findings"]] == ["info_broken"]


def test_what_may_not_be_read_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", closed)
    code, out, err = run("check", root, "--json")
    assert (code, out) == (1, "") and err.startswith("so101: [Errno 13]") and err.count("\n") == 1


def test_repair_tells_first_and_does_it_then(root: Path) -> None:
    miscount(root)
    code, out, _ = run("repair", root, "--dry-run")
    assert code == 0
    assert "total_frames 1" in out
    assert run("check", root)[0] == 1
    code, out, _ = run("repair", root, "--json")
    assert code == 0
    said = json.loads(out)
    assert (said["done"], said["episodes"], said["lost"]) == (True, 3, [])
    assert Path(said["set_aside"], "meta/info.json").is_file()
    assert run("check", root)[0] == 0


def test_repair_asks_before_an_episode_goes(root: Path) -> None:
    data = root / "data/chunk-000/file-001.parquet"
    data.write_bytes(data.read_bytes()[:-12])
    code, out, _ = run("repair", root, typed="n\n")
    assert code == 1
    assert "set aside  episode 1" in out
    assert data.exists()
    code, out, _ = run("repair", root, "--yes")
    assert code == 0
    assert "2 episodes" in out
    assert [episode.length for episode in Dataset(root).episodes] == [60, 40]


def test_delete_asks_and_prints_what_is_left(root: Path, tmp_path: Path) -> None:
    code, out, _ = run("delete", root, "--episodes", "0-1", typed="n\n")
    assert code == 1
    assert "Delete 2 of the 3 episodes" in out
    code, out, _ = run("delete", root, "--episodes", "0-1", "--out", tmp_path / "left", "--json")
    assert code == 0
    assert json.loads(out) == {"out": str(tmp_path / "left"), "episodes": 1, "frames": 40}
    assert len(Dataset(root).episodes) == 3
    assert run("delete", root, "--episodes", "2", "--yes")[0] == 0
    assert [episode.length for episode in Dataset(root).episodes] == [60, 50]
    code, _, err = run("delete", root, "--episodes", "7", "--yes")
    assert code == 1
    assert "no episode 7" in err


def test_info_says_labels_rate_and_calibration(root: Path) -> None:
    code, out, _ = run("info", root, "--json")
    assert code == 0
    said = json.loads(out)
    assert said["labels"] == {"success": 1, "no label": 2}
    assert said["held_rate_hz"] == 30.0
    assert said["calibration_sha256"] == "ab" * 32
    assert said["recording"] == {"teleop": "leader"}
    assert said["corrected_frames"] is None
    assert said["bytes"] == sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    code, out, _ = run("info", root)
    assert code == 0
    assert "success: 1, no label: 2" in out
