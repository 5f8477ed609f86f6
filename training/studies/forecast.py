"""How long a study will take, from a minute of it, in processor time: other work does not matter."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from inference.bundle import load_bundle
from training.evaluation import EvaluationOptions, Evaluator
from training.recorder import record_episodes
from training.studies.coordinates import ALONE, CoordinatesStudy, train_variants
from training.studies.execution import CONDITIONS, ExecutionStudy, executions
from training.studies.show import Show, minutes

EPISODES = 3
STEPS = 12
"""Of each variant."""
CONTROLS = 3
TRIALS = 2


def forecast_coordinates(study: CoordinatesStudy, show: Show, jobs: int) -> str:
    """A line that says how long what is left of a study takes on so many free cores.

    Trials are counted as of policies that have learned nothing, which all last to the end: an upper bound.
    """
    folder = Path(tempfile.mkdtemp(prefix="so101_forecast_"))
    models = [model for model in study.models if not study.findings_file(*model).is_file()]
    # One variant is needed for the trials, whatever is left.
    variants = tuple(dict.fromkeys(variant for variant, _ in models or study.models[:1]))
    changes = {"work": folder, "steps": STEPS, "variants": variants, "seeds": study.seeds[:1]}
    pilot = study.model_copy(update=changes)
    try:
        began_s = time.process_time()
        record_episodes(pilot.data, study.episodes, EPISODES)
        episode_s = (time.process_time() - began_s) / EPISODES
        # In processes of their own, as in the study: the first of their steps also load libraries.
        found = train_variants(pilot, show, jobs=jobs)
        step_s = {variant: each.cpu_s / STEPS for (variant, _), each in found.items()}
        bundle = pilot.bundle(*pilot.models[0])
        trial_s = [_tried_s(bundle, options) for options in (pilot.options(), pilot.options(task=ALONE))]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    done = len(list((study.work / "results").glob("*.json")))
    left = max(0, 2 * len(study.models) + CONTROLS - done)
    parts = {
        "episodes": 0.0 if study.data.is_dir() else episode_s * study.episode_count,
        "training": sum(step_s[variant] for variant, _ in models) * study.steps,
        "trials": left * study.trials.count * sum(trial_s) / len(trial_s),
    }
    return _line(parts, jobs)


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
