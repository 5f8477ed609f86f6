"""Planar reach: four small policies on the same episodes, and how often each looks.

Behavioural cloning, a chunk from an MLP, action queries and a vision transformer are trained on the same
demonstrations and tried on the same trials, each chunk executed to its end (open loop), for four steps, for
two, or averaged with its predecessors. Whatever has been done is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from inference.ensembler import ExecutionConfig
from inference.manifest import MANIFEST_FILE, sha256_of
from robot.config import config_root
from robot.errors import So101Error
from robot.recording.reader import Dataset
from robot.twin.tasks import Reach
from training.checkpoint import load_checkpoint
from training.config import TrainConfig, load_train_config
from training.episodes import DemonstrationOrder
from training.evaluation import EvaluationOptions, evaluate
from training.export import export_bundle
from training.loop import train
from training.recorder import record_episodes
from training.studies.reach_report import Row, write_reach_report
from training.tool_demonstrations import blind_trials
from training.train_log import Log
from training.trials import Trial

TASK = Reach().name
PICTURE_PX = (128, 96)
"""(width, height) of the recorded pictures: as wide as the policies see them, in the cameras' proportion."""
POLICIES = {"bc": "BC", "chunk": "Chunk MLP", "act": "ACT (CNN)", "vit": "ViT"}
"""configs/experiments/reach_<name>.yaml -> its name in the report."""
OPEN_LOOP = ExecutionConfig(mode="open_loop")
MODES: dict[str, ExecutionConfig] = {
    "open loop (8)": OPEN_LOOP,
    "receding 4": ExecutionConfig(mode="receding", actions_per_inference=4),
    "receding 2": ExecutionConfig(mode="receding", actions_per_inference=2),
    "ensemble": ExecutionConfig(mode="ensemble", m=0.01),
}
SINGLE = {"every step": OPEN_LOOP}
"""For a policy whose chunk is one step."""

Tell = Callable[[str], None]
"""Takes one line of progress."""


@dataclass(frozen=True, slots=True)
class ReachStudy:
    """How much of it is done."""

    work: Path = Path("outputs/studies/reach")
    """Episodes, checkpoints, bundles and results; one that is started again goes on with what lies here."""
    report: Path = Path("docs/studies/reach.md")
    episodes: int = 600
    trials: int = 100
    steps_share: float = 1.0
    """Share of the training steps that the configurations say."""
    seed: int = 0
    """Of the episodes; trials have that of ``so101 eval``."""
    jobs: int = 2
    shortened: bool = False

    def quick(self) -> ReachStudy:
        """Minutes of it, to see that it runs; in folders of its own."""
        return replace(
            self,
            work=self.work.with_name(f"{self.work.name}_quick"),
            report=self.work.with_name(f"{self.work.name}_quick") / self.report.name,
            episodes=12,
            trials=4,
            steps_share=0.005,
            shortened=True,
        )


def run_reach_study(study: ReachStudy, tell: Tell) -> Path:
    """Do what is left of a study and write its report; returns the report's path.

    Raises:
        So101Error: a part failed; what was done before it is kept.
    """
    data = _episodes(study, tell)
    options = EvaluationOptions(task=TASK)
    blind = partial(blind_trials, Reach(), study.trials, options.seed)
    expert = _results(study, "expert", {"trials": study.trials}, blind, tell)
    rows = [Row("Expert", "", None, expert)]
    for name, title in POLICIES.items():
        bundle, parameters, chunk = _trained(study, name, data, tell)
        for mode, execution in (MODES if chunk > 1 else SINGLE).items():
            settings = {
                "bundle": sha256_of(bundle / MANIFEST_FILE),
                "execution": execution.model_dump(mode="json"),
                "trials": study.trials,
            }
            run = partial(
                evaluate, bundle, study.trials, replace(options, execution=execution), jobs=study.jobs
            )
            rows.append(Row(title, mode, parameters, _results(study, f"{name} {mode}", settings, run, tell)))
    frames = Dataset(data).total_frames
    write_reach_report(study.report, rows, episodes=study.episodes, frames=frames, shortened=study.shortened)
    tell(f"written: {study.report}")
    return study.report


def _episodes(study: ReachStudy, tell: Tell) -> Path:
    root = study.work / "episodes"
    if (root / "meta" / "info.json").is_file() and len(Dataset(root).episodes) == study.episodes:
        return root
    tell(f"recording {study.episodes} episodes")
    width, height = PICTURE_PX
    order = DemonstrationOrder(task=TASK, seed=study.seed, width_px=width, height_px=height)
    record_episodes(root, order, study.episodes, jobs=study.jobs)
    return root


def _trained(study: ReachStudy, name: str, data: Path, tell: Tell) -> tuple[Path, int, int]:
    """The bundle of a policy, its parameters and the steps of its chunk."""
    run, bundle = study.work / name, study.work / "bundles" / name
    config = _config(study, name, data, run)
    checkpoints = run / "checkpoints"
    done = checkpoints.is_dir() and load_checkpoint(run).step >= config.steps
    if not done:
        tell(f"training {POLICIES[name]}: {config.steps} steps of {config.batch_size}")

        def report(entry: Log) -> None:
            if entry["event"] == "validation":
                tell(f"  step {entry['step']}: off by {1000 * float(entry['val_l1_m']):.2f} mm a step")

        if not train(config, report).finished:
            raise So101Error("the study was stopped; start it again to go on with what has been done")
    if not done or not (bundle / MANIFEST_FILE).is_file():
        width, height = PICTURE_PX
        export_bundle(run, bundle, name=f"reach_{name}", camera_size_px=(height, width), task=TASK)
    source = load_checkpoint(run)
    parameters = sum(parameter.numel() for parameter in source.build().parameters())
    return bundle, parameters, source.policy.chunk_size


def _config(study: ReachStudy, name: str, data: Path, run: Path) -> TrainConfig:
    shipped = load_train_config(config_root() / "experiments" / f"reach_{name}.yaml")
    return shipped.model_copy(
        update={
            "datasets": (str(data),),
            "output_dir": str(run),
            "cache_dir": str(study.work / "cache"),
            "steps": max(1, round(shipped.steps * study.steps_share)),
        }
    )


def _results(
    study: ReachStudy, name: str, settings: dict[str, object], run: Callable[[], list[Trial]], tell: Tell
) -> list[Trial]:
    """Trials from the file of an earlier start with the same settings, or run now and kept."""
    path = study.work / "results" / f"{name.replace(' ', '_').replace('(', '').replace(')', '')}.json"
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["settings"] == settings:
            return [Trial(**trial) for trial in content["trials"]]
    tell(f"trials: {name}")
    trials = run()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    content = {"settings": settings, "trials": [asdict(trial) for trial in trials]}
    unfinished.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    unfinished.replace(path)
    return trials
