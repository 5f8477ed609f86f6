"""Are the coordinates obeyed? ACT with one remedy each, on the same episodes with a second cube in view.

Everything about it is in ``configs/experiments/confuser``: ``study.yaml`` and one run for each variant. Each
part leaves a file in the study's folder, and what lies there from an earlier start is not done again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from inference.ensembler import ExecutionConfig
from inference.manifest import MANIFEST_FILE, read_manifest
from robot.config import StrictModel, config_root, load_yaml
from robot.errors import ConfigError, So101Error
from robot.twin import child
from training.config import REPORTED_SEED, TrainConfig, load_train_config
from training.episodes import DemonstrationOrder
from training.evaluation import EvaluationOptions
from training.recorder import record_episodes
from training.studies.coordinates_report import Control, Row, write_coordinates_report
from training.studies.kept import kept, write_json
from training.studies.show import Advance, Show
from training.studies.trying import Trying, try_all
from training.studies.variant import Findings

FOLDER = Path("experiments") / "confuser"
"""Of the study's configuration, below the shipped configurations."""
CONFUSER, ALONE = "pick_place_confuser", "pick_place"


class TrialsConfig(StrictModel):
    """How each variant is tried."""

    count: int = Field(ge=1)
    seed: int = Field(ge=0)
    """Nothing is chosen by ``so101 eval``'s own seed; the controls are of the variant that is best here."""
    execution: ExecutionConfig


class CoordinatesStudy(StrictModel):
    """The study."""

    work: Path
    """Episodes, runs, bundles and results; one that is started again goes on with what lies here."""
    report: Path
    episodes: DemonstrationOrder
    episode_count: int = Field(ge=2)
    variants: tuple[str, ...] = Field(min_length=1)
    """Names of runs in the configuration's folder; the first is what the others are compared with."""
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    seeds: tuple[int, ...] = Field(min_length=1)
    """Each variant is trained once with each."""
    trials: TrialsConfig
    shortened: bool = False

    @model_validator(mode="after")
    def _seeds_apart(self) -> Self:
        if self.trials.seed == REPORTED_SEED:
            raise ValueError(f"trials.seed {REPORTED_SEED} is what so101 eval reports with: choose another")
        return self

    def quick(self) -> CoordinatesStudy:
        """Minutes of it, to see that it runs; in folders of its own."""
        work = self.work.with_name(f"{self.work.name}_quick")
        return self.model_copy(
            update={
                "work": work,
                "report": work / self.report.name,
                "episode_count": 6,
                "steps": 10,
                "batch_size": 16,
                "trials": self.trials.model_copy(update={"count": 2}),
                "shortened": True,
            }
        )

    @property
    def data(self) -> Path:
        """The episodes."""
        return self.work / "episodes"

    @property
    def models(self) -> list[tuple[str, int]]:
        """What is trained: variant and seed."""
        return [(variant, seed) for variant in self.variants for seed in self.seeds]

    def run_config(self, variant: str, seed: int) -> TrainConfig:
        """The training run of a variant."""
        shipped = load_train_config(config_root() / FOLDER / f"{variant}.yaml")
        return shipped.model_copy(
            update={
                "datasets": (str(self.data),),
                "output_dir": str(self.work / "runs" / f"{variant}_{seed}"),
                "cache_dir": str(self.work / "cache"),
                "steps": self.steps,
                "batch_size": self.batch_size,
                "seed": seed,
                "threads": 1,
            }
        )

    def bundle(self, variant: str, seed: int) -> Path:
        """Folder of a variant's bundle."""
        return self.work / "bundles" / f"{variant}_{seed}"

    def findings_file(self, variant: str, seed: int) -> Path:
        """What was found of a variant."""
        return self.work / "findings" / f"{variant}_{seed}.json"

    def options(self, **changes: Any) -> EvaluationOptions:
        """How a bundle is tried, with the confuser unless changed."""
        trials = self.trials
        given = EvaluationOptions(task=CONFUSER, seed=trials.seed, execution=trials.execution)
        return replace(given, **changes)


def load_coordinates_study(path: Path | None = None) -> CoordinatesStudy:
    """Read a study; the shipped one where no file is given. Raises ConfigError."""
    study: CoordinatesStudy = load_yaml(path or config_root() / FOLDER / "study.yaml", CoordinatesStudy)
    for variant, seed in study.models:
        study.run_config(variant, seed)
    return study


def run_coordinates_study(study: CoordinatesStudy, show: Show, *, jobs: int) -> Path:
    """Do what is left of a study and write its report; returns the report's path.

    Args:
        study: what is done.
        show: who watches.
        jobs: processes for episodes, training and trials.

    Raises:
        So101Error: a part failed; what was done before it is kept.
    """
    record_once(study.data, study.episodes, study.episode_count, show, jobs=jobs)
    found = train_variants(study, show, jobs=jobs)
    conditions = {"confuser": study.options(), "alone": study.options(task=ALONE)}
    wanted = [
        Trying(f"{variant}_{seed}_{name}", study.bundle(variant, seed), options)
        for variant, seed in study.models
        for name, options in conditions.items()
    ]
    tried = try_all(study.work / "results", wanted, study.trials.count, show, jobs=jobs)
    rows = [
        Row(
            variant,
            [found[variant, seed] for seed in study.seeds],
            [tried[f"{variant}_{seed}_confuser"] for seed in study.seeds],
            [tried[f"{variant}_{seed}_alone"] for seed in study.seeds],
        )
        for variant in study.variants
    ]
    best = max(rows, key=lambda row: row.successes)
    controls = _controls(study, {rows[0].variant, best.variant}, best.variant, show, jobs)
    settings = {"study": study.model_dump(mode="json", exclude={"work", "report"})}
    write_coordinates_report(study.report, rows, best, controls, settings, shortened=study.shortened)
    show.say(f"written: {study.report}")
    return study.report


def record_once(root: Path, order: DemonstrationOrder, count: int, show: Show, *, jobs: int) -> None:
    """Record episodes where they do not lie already.

    Raises:
        ConfigError: other episodes lie there.
    """
    settings = {"order": order.model_dump(mode="json"), "episodes": count}
    note = root.with_name(f"{root.name}.json")
    if root.is_dir():
        if kept(note, settings) is None:
            raise ConfigError(f"{root} holds other episodes: delete it, or give another --work")
        return
    partial_root = root.with_name(f"{root.name}.partial")
    _clear(partial_root)
    with show.counting("episodes", count) as advance:
        record_episodes(partial_root, order, count, jobs=jobs, on_episode=lambda: advance(1))
    write_json(note, {"settings": settings})
    partial_root.replace(root)


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)


def train_variants(study: CoordinatesStudy, show: Show, *, jobs: int) -> dict[tuple[str, int], Findings]:
    """Train what has not been trained, one process each; what was found of all of them."""
    left = [model for model in study.models if _findings(study, *model) is None]
    if left:
        with show.counting("training steps", len(left) * study.steps) as advance:
            _in_processes([partial(_start, study, *model) for model in left], advance, jobs)
    found = {model: _findings(study, *model) for model in study.models}
    return {model: findings for model, findings in found.items() if findings is not None}


def _findings(study: CoordinatesStudy, variant: str, seed: int) -> Findings | None:
    settings = study.run_config(variant, seed).model_dump(mode="json")
    content = kept(study.findings_file(variant, seed), settings)
    bundle = study.bundle(variant, seed) / MANIFEST_FILE
    return Findings(**content["findings"]) if content is not None and bundle.is_file() else None


def _start(study: CoordinatesStudy, variant: str, seed: int) -> subprocess.Popen[bytes]:
    size = [str(study.episodes.height_px), str(study.episodes.width_px)]
    given = ["--config", study.run_config(variant, seed).model_dump_json(), "--size", *size]
    given += ["--bundle", str(study.bundle(variant, seed))]
    given += ["--findings", str(study.findings_file(variant, seed))]
    return child.start_module("training.studies.variant", given)


def _in_processes(
    starts: Sequence[Callable[[], subprocess.Popen[bytes]]], advance: Advance, jobs: int
) -> None:
    """Run processes, so many at a time, that say ``{"step": n}``; none is left when one fails."""
    running: list[subprocess.Popen[bytes]] = []
    lock, ended = threading.Lock(), threading.Event()

    def one(start: Callable[[], subprocess.Popen[bytes]]) -> None:
        with lock:
            if ended.is_set():
                return
            process = start()
            running.append(process)
        done = 0
        for line in process.stdout or ():
            if line.startswith(b'{"step":'):
                step = json.loads(line)["step"]
                advance(step - done)
                done = step
        if process.wait() and not ended.is_set():
            raise So101Error("a variant could not be trained: its process says why")

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, start) for start in starts]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            with lock:
                ended.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                child.stop(process)


def _controls(
    study: CoordinatesStudy, told_other: set[str], best: str, show: Show, jobs: int
) -> list[Control]:
    """The best one without pictures; that one and the baseline told where the other cube lies."""
    seed = study.seeds[0]
    cameras = tuple(camera.name for camera in read_manifest(study.bundle(best, seed)).cameras)
    wanted = [Trying(f"{best}_{seed}_blackout", study.bundle(best, seed), study.options(blackout=cameras))]
    wanted += [
        Trying(f"{variant}_{seed}_other", study.bundle(variant, seed), study.options(tell_other=True))
        for variant in study.variants
        if variant in told_other
    ]
    tried = try_all(study.work / "results", wanted, study.trials.count, show, jobs=jobs)
    kinds = {"blackout": "cameras black", "other": "told the other cube's coordinates"}
    return [
        Control(
            trying.bundle.name.removesuffix(f"_{seed}"),
            kinds[trying.name.rsplit("_", 1)[1]],
            tried[trying.name],
        )
        for trying in wanted
    ]
