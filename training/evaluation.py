"""How good a bundle is: trials on the lockstep twin, with the interval that their number allows. No torch.

A trial goes through the controller and gate that the arm has, sees pictures of the size that its cameras
give, late by what the live gait is late, and gets each chunk some ticks after its observation. Trial k of a
seed is the same whatever the number of jobs, and whatever ran before it; its cube lies where it lies and its
arm begins where it begins whatever else is varied.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from inference.bundle import Bundle, load_bundle
from inference.ensembler import ExecutionConfig
from robot.errors import ConfigError
from robot.twin.tasks import Layout, PickPlace, task_named
from training.demonstrations import DemonstrationOptions, Demonstrator
from training.pool import Job, Pool, Tell
from training.rollout import InlinePolicySource, drive
from training.stage import Stage
from training.trials import GRASPED, Trial, Watch
from training.variety import Variety, episode_rng
from training.worker import processes

LIVE_CAMERA_DELAY_S = 0.07
"""Rendering, JPEG, HTTP and decoding in the live gait, measured."""
LATENCY_TICKS = 2
"""From an observation to its chunk in the live gait."""
SHARE = 5
"""Trials that a worker is given at once."""


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What is varied between evaluations."""

    task: str = "pick_place"
    seed: int = 1000
    execution: ExecutionConfig | None = None
    """``None`` takes what the bundle recommends."""
    coordinate_error_m: float = 0.0
    """Standard deviation of the error of each pickup coordinate."""
    tell_other: bool = False
    """Whether the other cube's coordinates are told: it is then the one that is to be in the bowl."""
    variety: Variety = field(default_factory=Variety)
    """Looks and stiffness of the trials, and confusers beyond those of the task."""
    blackout: tuple[str, ...] = ()
    """Cameras that give black pictures."""
    camera_delay_s: float = LIVE_CAMERA_DELAY_S
    camera_px: tuple[int, int] | None = None
    """(width, height) at which pictures are rendered; ``None``: what the bundle takes."""
    threads: int = 1


def wilson_95(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a success rate (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    z = 1.959963984540054
    rate = successes / trials
    middle = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def summary(trials: list[Trial]) -> dict[str, object]:
    """What ``so101 eval --json`` prints."""
    successes = sum(trial.success for trial in trials)
    low, high = wilson_95(successes, len(trials))
    durations = [trial.duration_s for trial in trials if trial.success]
    return {
        "episodes": len(trials),
        "successes": successes,
        "success_rate": successes / len(trials) if trials else 0.0,
        "wilson_95": [low, high],
        "grasped": {place: sum(trial.grasped == place for trial in trials) for place in GRASPED},
        "median_duration_s": float(np.median(durations)) if durations else None,
        "failures": [asdict(trial) for trial in trials if not trial.success],
    }


class Evaluator:
    """Runs trials of one bundle on one stage.

    Raises:
        TwinError: there is no such task.
        ConfigError: the task has no second cube that could be told or added.
    """

    def __init__(self, bundle: Bundle, options: EvaluationOptions) -> None:
        self.bundle, self.options = bundle, options
        sizes = [(camera.width_px, camera.height_px) for camera in bundle.manifest.cameras]
        width, height = options.camera_px or max(sizes, default=(128, 96))
        self.stage = Stage(width, height, camera_delay_s=options.camera_delay_s)
        self.task = task_named(options.task)
        cubes = isinstance(self.task, PickPlace)
        if (options.tell_other or options.variety.confuser_share) and not cubes:
            raise ConfigError(f"the task {self.task.name} has no second cube")
        self.stage.blackout = frozenset(options.blackout)
        self._start = Demonstrator(self.stage, DemonstrationOptions(start_noise_deg=1.0))

    def run(self, number: int) -> Trial:
        """One trial."""
        options, stage, manifest = self.options, self.stage, self.bundle.manifest
        seed, layout = options.seed, self._layout(number)
        look, stiffness = options.variety.look(seed, number), options.variety.stiffness(seed, number)
        if layout.start is None:
            start = self._start.draw_start(episode_rng(seed, number, "start"))
        else:
            # The trial says where the policy begins, not its bundle's start pose.
            start = np.array(layout.start)
            manifest = manifest.model_copy(update={"start_pose": None})
        stage.reset(layout, start, look=look, stiffness=stiffness)
        error = options.coordinate_error_m * episode_rng(seed, number, "coordinates").standard_normal(2)
        pickup = (np.array(layout.told_xy_m) + error).astype(np.float32)
        source = InlinePolicySource.of_bundle(
            stage,
            self.bundle.policy,
            manifest,
            pickup,
            execution=options.execution,
            latency_ticks=LATENCY_TICKS,
        )
        watch = Watch(stage.world, self.task)
        drive(
            stage,
            source,
            limit_s=self.task.time_limit_s,
            stop=watch.settled,
            on_tick=lambda tick, state, command: watch.commanded(command),
        )
        return watch.trial(
            number, layout, told_xy_m=pickup.tolist(), look=look.table.family, stiffness=stiffness
        )

    def _layout(self, number: int) -> Layout:
        options, task = self.options, self.task
        layout = task.sample(episode_rng(options.seed, number))
        if isinstance(task, PickPlace):
            layout = options.variety.confuse(task, layout, options.seed, number)
        return layout.asked_for_the_other() if options.tell_other else layout

    def close(self) -> None:
        """Free the renderer."""
        self.stage.close()


@functools.lru_cache(maxsize=1)
def _evaluator(folder: Path, options: str) -> Evaluator:
    given = _OPTIONS.validate_json(options)
    return Evaluator(load_bundle(folder, threads=given.threads), given)


def run_share(job: Job, tell: Tell) -> Any:
    """The trials of a job, as JSON; this process keeps the bundle loaded for the next share."""
    evaluator = _evaluator(job.folders["bundle"], job.given["options"])
    return [asdict(evaluator.run(number)) for number in job.given["numbers"]]


def evaluate(
    folder: Path,
    episodes: int,
    options: EvaluationOptions,
    *,
    jobs: int = 1,
    pool: Pool | None = None,
    on_trials: Callable[[list[Trial]], None] | None = None,
) -> list[Trial]:
    """Run trials 0 to ``episodes`` - 1; they and their order do not depend on who runs them.

    Args:
        folder: of the bundle.
        episodes: number of trials.
        options: what is varied.
        jobs: processes of this machine.
        pool: workers that run them instead.
        on_trials: is given trials as they are done, in any order.

    Raises:
        BundleError: the bundle does not load.
        TwinError, ConfigError: as :class:`Evaluator`.
        So101Error: workers were lost.
    """
    trials: list[Trial] = []

    def collect(done: list[Trial]) -> None:
        trials.extend(done)
        if on_trials is not None:
            on_trials(done)

    if pool is None and jobs <= 1:
        evaluator = Evaluator(load_bundle(folder, threads=options.threads), options)
        try:
            for number in range(episodes):
                collect([evaluator.run(number)])
        finally:
            evaluator.close()
    else:
        given = _OPTIONS.dump_json(options).decode()
        groups = [list(range(i, min(i + SHARE, episodes))) for i in range(0, episodes, SHARE)]
        shares = [
            Job(
                name=f"trials {group[0]}..{group[-1]}",
                entry=f"{__name__}:{run_share.__name__}",
                given={"options": given, "numbers": group},
                folders={"bundle": folder},
            )
            for group in groups
        ]
        with nullcontext(pool) if pool is not None else processes(jobs) as workers:
            for _, done in workers.map(shares):
                collect(_TRIALS.validate_python(done))
    return sorted(trials, key=lambda trial: trial.number)


_OPTIONS = TypeAdapter(EvaluationOptions)
_TRIALS = TypeAdapter(list[Trial])
