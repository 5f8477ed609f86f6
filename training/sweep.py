"""Many training runs that differ in some settings: each trained, exported and tried, and a table of them.

The runs are jobs of a pool. What is finished is not done again, what was interrupted goes on.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from inference.ensembler import ExecutionConfig
from robot.config import StrictModel, checked, read_yaml
from robot.errors import ConfigError, So101Error
from training.config import REPORTED_SEED, TrainConfig, load_train_config
from training.pool import Job, Pool, Tell

OWN = ("output_dir",)
"""Settings that a sweep gives its runs itself."""
TRIED = ("episodes", "successes", "success_rate", "wilson_low", "wilson_high")
RESULT_FILE = "result.json"


class SweepConfig(StrictModel):
    """A sweep: a run, and what of it is varied."""

    base: Path
    """YAML of the training run."""
    work: Path
    """Folder of runs, bundles and results; a sweep that lies there is gone on with."""
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Values by key, all combinations of them: ``optimiser.lr: [1e-3, 3e-4]``."""
    list: tuple[dict[str, Any], ...] = ({},)
    """Settings that go together; each with every combination of the grid."""
    task: str = "pick_place"
    """Task on the twin that the policies are tried at."""
    episodes: int = Field(default=100, ge=1)
    """Trials of each."""
    seed: int = Field(default=REPORTED_SEED, ge=0)
    """Seed of the trials."""
    height_px: int = Field(default=480, ge=16)
    """Height of the robot's pictures."""
    width_px: int = Field(default=640, ge=16)
    """Width of the robot's pictures."""
    execution: ExecutionConfig = ExecutionConfig()
    """How chunks are executed."""


@dataclass(frozen=True, slots=True)
class Member:
    """One run of a sweep."""

    settings: dict[str, Any]
    folder: Path
    config: TrainConfig


def load_sweep(path: Path) -> SweepConfig:
    """Read a sweep's YAML. Raises ConfigError that names what is wrong."""
    sweep: SweepConfig = checked(read_yaml(path), SweepConfig, str(path))
    return sweep


def members(sweep: SweepConfig) -> list[Member]:
    """The runs of a sweep, in the order of the file.

    Raises:
        ConfigError: a key or value that a run does not have, a key that the sweep sets, or two equal runs.
    """
    found: list[Member] = []
    for together in sweep.list:
        for values in itertools.product(*sweep.grid.values()):
            settings = {**together, **dict(zip(sweep.grid, values, strict=True))}
            for key in OWN:
                if key in settings:
                    raise ConfigError(f"{key}: a sweep gives each of its runs one of its own, leave it out")
            text = json.dumps(settings, sort_keys=True)
            folder = sweep.work / hashlib.sha256(text.encode()).hexdigest()[:10]
            given = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
            config = load_train_config(sweep.base, [*given, f"output_dir={json.dumps(str(folder / 'run'))}"])
            found.append(Member(settings, folder, config))
    if len({member.folder for member in found}) < len(found):
        raise ConfigError("two runs of the sweep have the same settings")
    return found


def run_sweep(
    sweep: SweepConfig, pool: Pool, done: Callable[[int], None] = lambda runs: None
) -> list[dict[str, Any]]:
    """Do what is left of a sweep and write its table as ``table.json``, ``.csv`` and ``.md``.

    Args:
        sweep: what to do; its paths are relative to the folder where the workers work.
        pool: who does it.
        done: is given how many runs are finished, after each.

    Returns:
        A row for each run: its settings, ``step``, and of its trials ``TRIED``.

    Raises:
        ConfigError: see ``members``.
        So101Error: a run failed; what is finished is kept.
    """
    runs = members(sweep)
    sweep.work.mkdir(parents=True, exist_ok=True)
    tried = sweep.model_dump(mode="json", exclude={"base", "work", "grid", "list"})
    jobs = [
        Job(
            name=f"run {k} ({_said(run.settings)})",
            entry=f"{__name__}:{do_run.__name__}",
            given={"config": run.config.model_dump(mode="json"), "folder": str(run.folder), "trials": tried},
        )
        for k, run in enumerate(runs)
    ]
    results = {k: result for k, job in enumerate(jobs) if (result := _finished(job.given)) is not None}
    done(len(results))
    left = [k for k in range(len(jobs)) if k not in results]
    for number, result in pool.map([jobs[k] for k in left]):
        results[left[number]] = result
        done(len(results))
    rows = [{**run.settings, **results[k]} for k, run in enumerate(runs)]
    write_tables(sweep.work, rows)
    return rows


def do_run(job: Job, tell: Tell) -> Any:
    """Train, export and try one run, with the functions of ``so101 train``, ``export`` and ``eval``."""
    from training.evaluation import EvaluationOptions, evaluate, summary
    from training.export import export_bundle
    from training.loop import train
    from training.rollouts import best_checkpoint

    config = TrainConfig.model_validate(job.given["config"])
    trials = SweepConfig.model_validate({"base": "", "work": "", **job.given["trials"]})
    folder, output = Path(job.given["folder"]), Path(config.output_dir)
    trained = train(config)
    if not trained.finished:
        raise So101Error(f"{job.name}: stopped at step {trained.step}; it goes on when the sweep does")
    checkpoint = best_checkpoint(output) if config.rollouts is not None else trained.checkpoint
    export_bundle(
        checkpoint,
        folder / "bundle",
        name=folder.name,
        camera_size_px=(trials.height_px, trials.width_px),
        execution=trials.execution,
        task=trials.task,
    )
    options = EvaluationOptions(task=trials.task, seed=trials.seed)
    found = summary(evaluate(folder / "bundle", trials.episodes, options))
    interval: Any = found["wilson_95"]
    found |= dict(zip(TRIED[3:], interval, strict=True))
    result = {"step": trained.step} | {key: found[key] for key in TRIED}
    partial = folder / f".{RESULT_FILE}"
    partial.write_text(json.dumps({"given": job.given, "result": result}), encoding="utf-8")
    partial.replace(folder / RESULT_FILE)
    return result


def _finished(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of a run that was finished with the same settings before."""
    path = Path(given["folder"]) / RESULT_FILE
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    result: dict[str, Any] = content["result"]
    return result if content["given"] == given else None


def write_tables(work: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The same table three times: for programs, for spreadsheets and for people."""
    from training.studies.report import markdown_table, rate

    keys = [key for key in dict.fromkeys(k for row in rows for k in row) if key not in ("step", *TRIED)]
    (work / "table.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    text = io.StringIO()
    table = csv.DictWriter(text, [*keys, "step", *TRIED], lineterminator="\n")
    table.writeheader()
    plain = (int, float, str)
    for row in rows:
        table.writerow({k: v if isinstance(v, plain) else json.dumps(v) for k, v in row.items()})
    (work / "table.csv").write_text(text.getvalue(), encoding="utf-8")
    cells = [
        [*(str(row.get(key, "")) for key in keys), str(row["step"]), rate(row["successes"], row["episodes"])]
        for row in rows
    ]
    heads = [*keys, "step", "success (95 %)"]
    (work / "table.md").write_text(markdown_table(heads, cells) + "\n", encoding="utf-8")


def _said(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items()) or "as it is"
