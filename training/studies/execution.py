"""How chunks are best executed: one bundle with ensembling of several weights and with several horizons.

Published results disagree; here are the same trials for all, with exact coordinates, with wrong ones, and
with a second cube in view. What has been tried is not tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from inference.ensembler import ExecutionConfig
from inference.manifest import read_manifest
from training.evaluation import EvaluationOptions
from training.studies.execution_report import Cell, write_execution_report
from training.studies.show import Show
from training.studies.trying import Trying, try_all

WEIGHTS = (0.1, 0.01, 0.0, -0.01, -0.1)
HORIZONS = (1, 2, 4, 8, 16, 32)
SEED = 3000
PICTURE_PX = (256, 192)
"""(width, height) of the rendered pictures, which are enlarged to what the bundle takes."""
CONDITIONS = {
    "exact coordinates": EvaluationOptions(task="pick_place", seed=SEED, camera_px=PICTURE_PX),
    "wrong by 10 mm": EvaluationOptions(
        task="pick_place", seed=SEED, camera_px=PICTURE_PX, coordinate_error_m=0.010
    ),
    "with a second cube": EvaluationOptions(task="pick_place_confuser", seed=SEED, camera_px=PICTURE_PX),
}


@dataclass(frozen=True, slots=True)
class ExecutionStudy:
    """How much of it is done."""

    bundle: Path
    work: Path = Path("outputs/studies/execution")
    report: Path = Path("docs/studies/execution.md")
    trials: int = 50
    shortened: bool = False

    def quick(self) -> ExecutionStudy:
        """Minutes of it, to see that it runs; in folders of its own."""
        work = self.work.with_name(f"{self.work.name}_quick")
        return replace(self, work=work, report=work / self.report.name, trials=2, shortened=True)


def executions(chunk_size: int) -> dict[str, ExecutionConfig]:
    """Ways to execute chunks of so many steps, by name."""
    ways = {f"ensemble, m = {m:g}": ExecutionConfig(mode="ensemble", m=m) for m in WEIGHTS}
    ways |= {
        f"receding, {steps}": ExecutionConfig(mode="receding", actions_per_inference=steps)
        for steps in HORIZONS
        if steps < chunk_size
    }
    return ways | {f"open loop, {chunk_size}": ExecutionConfig(mode="open_loop")}


def run_execution_study(study: ExecutionStudy, show: Show, *, jobs: int) -> Path:
    """Do what is left of a study and write its report; returns the report's path.

    Args:
        study: what is done.
        show: who watches.
        jobs: processes.

    Raises:
        So101Error: the bundle does not load.
    """
    manifest = read_manifest(study.bundle)
    ways = executions(manifest.chunk_size)
    wanted = {
        (way, condition): Trying(
            f"{way} {condition}".replace(", ", "_").replace(" ", "_"),
            study.bundle,
            replace(options, execution=execution),
        )
        for way, execution in ways.items()
        for condition, options in CONDITIONS.items()
    }
    tried = try_all(study.work / "results", list(wanted.values()), study.trials, show, jobs=jobs)
    cells = [Cell(way, condition, tried[trying.name]) for (way, condition), trying in wanted.items()]
    write_execution_report(study.report, cells, manifest, trials=study.trials, shortened=study.shortened)
    show.say(f"written: {study.report}")
    return study.report
