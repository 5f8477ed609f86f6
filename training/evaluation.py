"""How good a bundle is: trials on the lockstep twin, with the interval that their number allows. No torch.

A trial goes through the controller and gate that the arm has, sees pictures of the size that its cameras
give, late by what the live gait is late, and gets each chunk some ticks after its observation. Trial k of a
seed is the same whatever the number of jobs, and whatever ran before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from inference.bundle import Bundle, load_bundle
from inference.ensembler import ExecutionConfig
from robot.twin.tasks import TASKS, Layout, Task
from robot.twin.world import World
from training.demonstrations import DemonstrationOptions, Demonstrator
from training.rollout import InlinePolicySource, drive
from training.stage import Stage
from training.variety import episode_rng

LIVE_CAMERA_DELAY_S = 0.07
"""Rendering, JPEG, HTTP and decoding in the live gait, measured."""
LATENCY_TICKS = 2
"""From an observation to its chunk in the live gait."""


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What is varied between evaluations."""

    task: str = "pick_place"
    seed: int = 1000
    execution: ExecutionConfig | None = None
    """``None`` takes what the bundle recommends."""
    coordinate_error_m: float = 0.0
    """Standard deviation of the error of each pickup coordinate."""
    camera_delay_s: float = LIVE_CAMERA_DELAY_S
    camera_px: tuple[int, int] | None = None
    """(width, height) at which pictures are rendered; ``None``: what the bundle takes."""
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Trial:
    """How one trial ended."""

    number: int
    success: bool
    duration_s: float
    x_m: float
    y_m: float
    yaw_rad: float
    end_x_m: float
    """Of the cube, or of the tool in a task without one."""
    end_y_m: float
    end_z_m: float
    done_s: float | None = None
    """When it was done for good; ``None`` where it was not."""
    path_m: float = 0.0
    """Way of the tool over the table until then."""
    straight_m: float = 0.0
    """Distance between the ends of that way."""


class Watch:
    """Follows a trial, asked every tick: since when it is done, and how the tool has moved until then.

    Args:
        world: at its beginning.
        task: what is to be done.
    """

    def __init__(self, world: World, task: Task) -> None:
        self._world, self._task = world, task
        self._begin_m = self._last_m = world.tool_m[:2]
        self._path_m = 0.0
        self._done: tuple[float, float, float] | None = None

    def settled(self) -> bool:
        """Look; whether it has stayed done for as long as the task wants."""
        world, tool_m = self._world, self._world.tool_m[:2]
        self._path_m += math.dist(tool_m, self._last_m)
        self._last_m = tool_m
        if not self._task.success(world):
            self._done = None
        elif self._done is None:
            self._done = world.time_s, self._path_m, math.dist(tool_m, self._begin_m)
        return self._done is not None and world.time_s - self._done[0] > self._task.settle_s

    def trial(self, number: int, layout: Layout) -> Trial:
        """How it ended."""
        world, cube = self._world, layout.cube
        success = self._task.success(world)
        x_m, y_m = layout.told_xy_m if cube is None else cube.xy_m
        end_m = [float(v) for v in (world.tool_m if cube is None else world.cube_xyz_m)]
        yaw_rad = 0.0 if cube is None else cube.yaw_rad
        done = self._done if success and self._done is not None else (None, self._path_m, 0.0)
        return Trial(number, success, world.time_s, x_m, y_m, yaw_rad, end_m[0], end_m[1], end_m[2], *done)


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
        "median_duration_s": float(np.median(durations)) if durations else None,
        "failures": [asdict(trial) for trial in trials if not trial.success],
    }


class Evaluator:
    """Runs trials of one bundle on one stage."""

    def __init__(self, bundle: Bundle, options: EvaluationOptions) -> None:
        self.bundle, self.options = bundle, options
        sizes = [(camera.width_px, camera.height_px) for camera in bundle.manifest.cameras]
        width, height = options.camera_px or max(sizes, default=(128, 96))
        self.stage = Stage(width, height, camera_delay_s=options.camera_delay_s)
        self.task = TASKS[options.task]
        self._start = Demonstrator(self.stage, DemonstrationOptions(start_noise_deg=1.0))

    def run(self, number: int) -> Trial:
        """One trial."""
        options, stage, manifest = self.options, self.stage, self.bundle.manifest
        rng = episode_rng(options.seed, number)
        layout = self.task.sample(rng)
        if layout.start is None:
            stage.reset(layout, self._start.draw_start(rng))
        else:
            # The trial says where the policy begins, not its bundle's start pose.
            stage.reset(layout, np.array(layout.start))
            manifest = manifest.model_copy(update={"start_pose": None})
        error = rng.normal(0.0, options.coordinate_error_m, 2) if options.coordinate_error_m else np.zeros(2)
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
        drive(stage, source, limit_s=self.task.time_limit_s, stop=watch.settled)
        return watch.trial(number, layout)

    def close(self) -> None:
        """Free the renderer."""
        self.stage.close()


def _run_share(folder: str, options: EvaluationOptions, numbers: list[int]) -> list[Trial]:
    bundle = load_bundle(Path(folder), threads=options.threads)
    evaluator = Evaluator(bundle, options)
    try:
        return [evaluator.run(number) for number in numbers]
    finally:
        evaluator.close()


def evaluate(
    folder: Path,
    episodes: int,
    options: EvaluationOptions,
    *,
    jobs: int = 1,
    on_trials: Callable[[list[Trial]], None] | None = None,
) -> list[Trial]:
    """Run trials 0 to ``episodes`` - 1, in their order in the result whatever the number of jobs.

    Raises:
        BundleError: the bundle does not load.
    """
    share = 5
    groups = [list(range(i, min(i + share, episodes))) for i in range(0, episodes, share)]
    trials: list[Trial] = []

    def collect(done: list[Trial]) -> None:
        trials.extend(done)
        if on_trials is not None:
            on_trials(done)

    if jobs <= 1:
        evaluator = Evaluator(load_bundle(folder, threads=options.threads), options)
        try:
            for number in range(episodes):
                collect([evaluator.run(number)])
        finally:
            evaluator.close()
    else:
        # Spawned, not forked: a forked child would share the parent's GL context.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            for future in as_completed(
                pool.submit(_run_share, str(folder), options, group) for group in groups
            ):
                collect(future.result())
    return sorted(trials, key=lambda trial: trial.number)
