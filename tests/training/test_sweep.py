"""Sweeps: which runs there are, what is not done again, and one that is really trained and tried."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from robot.errors import ConfigError, So101Error
from training.config import TrainConfig
from training.pool import Job
from training.sweep import SweepConfig, load_sweep, members, run_sweep
from training.worker import processes


class Recorded:
    """A pool that answers itself, the last job first, and keeps what it was asked."""

    workers = 1

    def __init__(self, fails: str = "") -> None:
        self.asked: list[Job] = []
        self.fails = fails

    def map(self, jobs: Sequence[Job], tell: Callable[[int, str], None] = print) -> Iterator[tuple[int, Any]]:
        for number, job in reversed(list(enumerate(jobs))):
            self.asked.append(job)
            lr = job.given["config"]["optimiser"]["lr"]
            if str(lr) == self.fails:
                raise So101Error("no memory")
            result = {
                "step": 5,
                "episodes": 10,
                "successes": 8,
                "success_rate": 0.8,
                "wilson_low": 0.49,
                "wilson_high": 0.94,
            }
            folder = Path(job.given["folder"])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "result.json").write_text(json.dumps({"given": job.given, "result": result}))
            yield number, result


@pytest.fixture
def sweep(train_config: TrainConfig, tmp_path: Path) -> SweepConfig:
    (tmp_path / "base.yaml").write_text(train_config.model_dump_json())
    content = {
        "base": str(tmp_path / "base.yaml"),
        "work": str(tmp_path / "sweep"),
        "grid": {"optimiser.lr": [0.01, 0.001]},
        "list": [{}, {"seed": 3}],
        "episodes": 10,
    }
    (tmp_path / "sweep.yaml").write_text(json.dumps(content))
    return load_sweep(tmp_path / "sweep.yaml")


def test_each_settings_with_all_of_the_grid(sweep: SweepConfig) -> None:
    runs = members(sweep)
    assert [(run.config.optimiser.lr, run.config.seed) for run in runs] == [
        (0.01, 0),
        (0.001, 0),
        (0.01, 3),
        (0.001, 3),
    ]
    assert len({run.config.output_dir for run in runs}) == 4
    assert members(sweep.model_copy(update={"list": ({"seed": 3},)}))[0].folder == runs[2].folder


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grid": {"optimiser.rl": (1,)}}, "did you mean 'optimiser.lr'"),
        ({"grid": {"output_dir": ("x",)}}, "output_dir: a sweep gives"),
        ({"grid": {"steps": (3, 3)}}, "same settings"),
    ],
)
def test_what_cannot_be_swept_is_said(sweep: SweepConfig, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        members(sweep.model_copy(update=changes))


def test_what_is_finished_is_not_done_again(sweep: SweepConfig) -> None:
    failing, counted = Recorded(fails="0.01"), []
    with pytest.raises(So101Error, match="no memory"):
        run_sweep(sweep, failing, counted.append)  # type: ignore[arg-type]
    assert counted == [0, 1]
    pool = Recorded()
    rows = run_sweep(sweep, pool)  # type: ignore[arg-type]
    assert len(pool.asked) == 3 and [row["optimiser.lr"] for row in rows] == [0.01, 0.001, 0.01, 0.001]
    assert [row.get("seed") for row in rows] == [None, None, 3, 3]
    assert json.loads((sweep.work / "table.json").read_text()) == rows
    with (sweep.work / "table.csv").open() as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["", "", "3", "3"]
    table = (sweep.work / "table.md").read_text()
    assert "| optimiser.lr | seed | step | success (95 %) |" in table
    assert "| 0.001 | 3 | 5 | 80.0 % (49.0 % to 94.3 %) |" in table
    again = Recorded()
    run_sweep(sweep.model_copy(update={"episodes": 11}), again)  # type: ignore[arg-type]
    assert len(again.asked) == 4, "other trials are another result"


@pytest.mark.slow
def test_a_run_is_trained_exported_and_tried(sweep: SweepConfig) -> None:
    small = {"grid": {"steps": (2,)}, "list": ({},), "episodes": 1}
    small |= {"task": "reach", "height_px": 32, "width_px": 32}
    one = sweep.model_copy(update=small)
    with processes(1) as pool:
        rows = run_sweep(one, pool)
    assert rows[0]["step"] == 2 and rows[0]["episodes"] == 1
    assert (members(one)[0].folder / "bundle" / "manifest.json").is_file()
