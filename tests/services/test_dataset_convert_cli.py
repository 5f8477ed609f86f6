"""``so101 dataset convert``, ``merge`` and ``push`` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from robot.config import load_robot
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter
from services import hub
from services.cli import app
from tests.legacy_dataset import write_legacy

CONFIG, FOLDER = load_robot("twin")


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["dataset", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def old(tmp_path: Path) -> Path:
    write_legacy(tmp_path / "old", (3, 4), cameras=("wrist",))
    return tmp_path / "old"


def test_converting_tells_how_many_and_in_which_units(old: Path, tmp_path: Path) -> None:
    code, out, err = run("convert", old, tmp_path / "unsaid")
    assert (code, out) == (0, f"2 episodes (7 frames) in {tmp_path / 'unsaid'}, units not said\n")
    assert "--units degrees (LeRobot since 0.4.4) or m100_100 (before)" in err
    code, out, err = run("convert", old, tmp_path / "one", "--units", "degrees", "--skip", "0", "--json")
    assert code == 0 and json.loads(out) == {"out": str(tmp_path / "one"), "episodes": 1, "units": "degrees"}
    calibration = ("--to-degrees", "--calibration", FOLDER / CONFIG.calibration)
    drop = ("--drop", "observation.images.wrist")
    assert run("convert", old, tmp_path / "deg", "--units", "m100_100", *calibration, *drop)[0] == 0
    assert (Dataset(tmp_path / "deg").units, Dataset(tmp_path / "deg").cameras) == ("degrees", ())


def test_merging_tells_what_was_left_out(old: Path, tmp_path: Path) -> None:
    write_legacy(tmp_path / "blind", (2,), cameras=())
    both = ("merge", old, tmp_path / "blind", "--out", tmp_path / "all", "--units", "degrees")
    code, out, err = run(*both)
    assert (code, out) == (1, "") and not (tmp_path / "all").exists()
    lacks = f"so101: {tmp_path / 'blind'} lacks observation.images.wrist: --common leaves out"
    assert err.strip().splitlines()[-1].startswith(lacks)
    code, out, _ = run(*both, "--common")
    assert code == 0 and out == (
        f"3 episodes (9 frames) in {tmp_path / 'all'}\nleft out: observation.images.wrist\n"
    )


def test_errors_are_one_line(tmp_path: Path) -> None:
    with DatasetWriter.create(tmp_path / "broken", fps=30, cameras={}, environment_state=False) as writer:
        for _ in range(2):
            writer.begin_episode("wait")
            writer.add_frame(np.zeros(6), np.zeros(6), {})
            writer.save_episode()
    (broken := tmp_path / "broken").joinpath("data/chunk-000/file-000.parquet").unlink()
    for arguments in (
        ("convert", tmp_path / "none", tmp_path / "new"),
        ("merge", tmp_path / "none", tmp_path / "none", "--out", tmp_path / "new"),
        ("push", tmp_path / "none", "me/cubes"),
        ("info", tmp_path / "none", "--json"),
        ("view", tmp_path / "none"),
        ("repair", tmp_path / "none", "--json"),
        ("delete", tmp_path / "none", "--episodes", "1", "--yes"),
        ("delete", broken, "--episodes", "1", "--yes"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (1, "") and err.startswith(f"so101: no {tmp_path}"), err
        assert err.count("\n") == 1


def test_pushing_is_private_unless_said(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def push(root: Path, repo: str, *, private: bool) -> str:
        asked.append((root, repo, private))
        return f"there/{repo}"

    monkeypatch.setattr(hub, "push", push)
    assert run("push", old, "me/cubes")[:2] == (0, "there/me/cubes\n")
    assert run("push", old, "me/cubes", "--public")[0] == 0
    assert asked == [(old, "me/cubes", True), (old, "me/cubes", False)]
