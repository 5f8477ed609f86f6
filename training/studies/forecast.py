"""How long a study will take, from a minute of it, in processor time: other work does not matter."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from inference.bundle import load_bundle
from training.evaluation import EvaluationOptions, Evaluator
from training.export import export_bundle
from training.loop import Trainer
from training.recorder import record_episodes
from training.studies.coordinates import ALONE, CoordinatesStudy
from training.studies.execution import CONDITIONS, ExecutionStudy, executions
from training.studies.show import minutes

EPISODES = 3
WARM_UP, STEPS = 2, 6
"""Steps of each variant; the first ones also load libraries."""
CONTROLS = 3
TRIALS = 2


def forecast_coordinates(study: CoordinatesStudy, jobs: int) -> str:
    """A line that says how long what is left of a study takes on so many free cores.

    Trials are counted as of policies that have learned nothing, which all last to the end: an upper bound.
    """
    folder = Path(tempfile.mkdtemp(prefix="so101_forecast_"))
    try:
        pilot = study.model_copy(update={"work": folder, "steps": WARM_UP + STEPS})
        began_s = time.process_time()
        record_episodes(pilot.data, study.episodes, EPISODES)
        episode_s = (time.process_time() - began_s) / EPISODES
        left = [model for model in study.models if not study.findings_file(*model).is_file()]
        train_s = sum(_step_s(pilot, *model) for model in left) * study.steps
        trial_s = _trial_s(pilot)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    episodes_s = 0.0 if study.data.is_dir() else episode_s * study.episode_count
    done = len(list((study.work / "results").glob("*.json")))
    trials_s = max(0, 2 * len(study.models) + CONTROLS - done) * study.trials.count * trial_s
    parts = {"episodes": episodes_s, "training": train_s, "trials": trials_s}
    return _line(parts, jobs)


def _step_s(pilot: CoordinatesStudy, variant: str, seed: int) -> float:
    """Processor time of one step of a variant."""
    ticks = [0.0]

    def stepped(step: int) -> None:
        if step == WARM_UP:
            ticks[0] = time.process_time()

    Trainer(pilot.run_config(variant, seed)).run(stepped=stepped)
    return (time.process_time() - ticks[0]) / STEPS


def _trial_s(pilot: CoordinatesStudy) -> float:
    """Mean processor time of a trial, with the second cube and without."""
    variant, seed = pilot.models[0]
    bundle, size = pilot.bundle(variant, seed), (pilot.episodes.height_px, pilot.episodes.width_px)
    if not bundle.is_dir():
        if not (pilot.work / "runs" / f"{variant}_{seed}").is_dir():
            Trainer(pilot.run_config(variant, seed)).run()
        export_bundle(pilot.work / "runs" / f"{variant}_{seed}", bundle, camera_size_px=size)
    tried = [_tried_s(bundle, options) for options in (pilot.options(), pilot.options(task=ALONE))]
    return sum(tried) / len(tried)


def forecast_execution(study: ExecutionStudy, jobs: int) -> str:
    """A line that says how long a study takes on so many free cores, from two trials of each execution."""
    ways = executions(load_bundle(study.bundle, threads=1).manifest.chunk_size)
    options = next(iter(CONDITIONS.values()))
    once_s = sum(_tried_s(study.bundle, replace(options, execution=way)) for way in ways.values())
    return _line({"trials": once_s * len(CONDITIONS) * study.trials}, jobs)


def _tried_s(bundle: Path, options: EvaluationOptions) -> float:
    """Processor time of a trial, after a first one that loads what it needs."""
    evaluator = Evaluator(load_bundle(bundle, threads=1), options)
    try:
        evaluator.run(0)
        began_s = time.process_time()
        for number in range(1, 1 + TRIALS):
            evaluator.run(number)
        return (time.process_time() - began_s) / TRIALS
    finally:
        evaluator.close()


def _line(parts: dict[str, float], jobs: int) -> str:
    told = ", ".join(f"{name} {minutes(time_s / jobs)}" for name, time_s in parts.items())
    return f"about {minutes(sum(parts.values()) / jobs)} on {jobs} free cores, at most: {told}"
