"""Episodes by the scripted expert, with the mistakes that a policy will make and how to mend them.

Each episode draws its own start pose, speed, camera delay, command noise and, in some, a first attempt
that misses. Noise goes into what is executed while the label stays what the expert wants; an attempt
that misses is recorded but marked with ``loss_mask`` 0, so that only the recovery is learned. Episode k
of a seed is the same whatever the number of jobs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot.errors import UnreachableError
from robot.joints import GRIPPER
from robot.kinematics import rad_to_user
from robot.recording.features import Feature
from robot.recording.writer import DatasetWriter
from robot.seams import FloatArray
from robot.twin.render import CAMERAS
from robot.twin.tasks import CubePlace, PickPlace
from training.experts.pick_place import PickPlaceExpert, Plan
from training.stage import Stage

FPS = 30
TASK = "Pick up the red cube at the given point and put it into the bowl."
EXTRA_FEATURES = (Feature("loss_mask", "float32", (1,)), Feature("intervention", "int64", (1,)))
STILL_FRAMES = 6
"""Frames kept at the end, so that the policy learns to stay where it has finished."""
MAX_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class DemonstrationOptions:
    """How untidy the demonstrations are."""

    start_noise_deg: float = 4.0
    command_noise_deg: float = 1.3
    miss_probability: float = 0.3
    miss_m: tuple[float, float] = (0.012, 0.040)
    camera_delay_s: tuple[float, float] = (0.02, 0.10)
    speed: tuple[float, float] = (0.85, 1.2)


@dataclass(slots=True)
class FrameRecord:
    """One frame on its way to the dataset."""

    state: FloatArray
    action: FloatArray
    images: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]
    loss_mask: float
    intervention: int


class Noise:
    """Ornstein-Uhlenbeck noise on the five arm joints, in degrees."""

    def __init__(self, rng: np.random.Generator, deviation_deg: float, time_constant_s: float = 0.4) -> None:
        self._rng, self._deviation, self._tau = rng, deviation_deg, time_constant_s
        self.value = np.zeros(6)

    def step(self, dt_s: float) -> FloatArray:
        """Advance; shape (6,), zero for the gripper."""
        decay = math.exp(-dt_s / self._tau)
        kick = self._deviation * math.sqrt(1.0 - decay * decay)
        self.value = self.value * decay + kick * self._rng.standard_normal(6)
        self.value[GRIPPER] = 0.0
        return self.value


NOISE_GAIN = {"approach": 1.0, "carry": 0.8, "retreat": 0.5, "settle": 0.25, "close": 0.2, "release": 0.3}
"""How much of the noise is let through in each segment: little near the grasp."""
TAPER_S = 0.5
"""Before the end of the approach the noise falls to a quarter over this time."""


class Demonstrator:
    """Records episodes on one stage."""

    def __init__(self, stage: Stage, options: DemonstrationOptions | None = None) -> None:
        self.stage = stage
        self.options = options or DemonstrationOptions()
        self.expert = PickPlaceExpert(stage.world)
        self.ready = stage.robot.ready_pose.array()

    def draw_start(self, rng: np.random.Generator) -> FloatArray:
        """The ready pose, not quite."""
        start = self.ready + rng.normal(0.0, self.options.start_noise_deg, 6)
        start[GRIPPER] = rng.uniform(10.0, 45.0)
        gate = self.stage.robot.gate
        return np.clip(start, gate.min_position.array() + 0.5, gate.max_position.array() - 0.5)

    def record(self, place: CubePlace, rng: np.random.Generator) -> list[FrameRecord] | None:
        """One episode, or ``None`` when the cube did not end in the bowl."""
        options = self.options
        self.stage.camera_delay_s = float(rng.uniform(*options.camera_delay_s))
        command = self.stage.reset(place, self.draw_start(rng))
        speed = float(rng.uniform(*options.speed))
        frames: list[FrameRecord] = []
        if rng.random() < options.miss_probability:
            command = self._miss(place, command, rng, speed, frames)
        return self.finish(command, rng, speed, frames)

    def finish(
        self,
        command: FloatArray,
        rng: np.random.Generator,
        speed: float,
        frames: list[FrameRecord],
        intervention: int = 0,
    ) -> list[FrameRecord] | None:
        """Let the expert do the task from here, trying again after a failure."""
        noise = Noise(rng, self.options.command_noise_deg)
        for _ in range(MAX_ATTEMPTS):
            try:
                plan = self.expert.plan(command, speed=speed)
            except UnreachableError:
                return None
            command = self._follow(plan, noise, frames, 1.0, intervention, stop=self._dropped)
            self._hold(command, STILL_FRAMES, frames, intervention)
            if self.stage.world.cube_in_bowl:
                return frames
        return None

    def _miss(
        self,
        place: CubePlace,
        command: FloatArray,
        rng: np.random.Generator,
        speed: float,
        frames: list[FrameRecord],
    ) -> FloatArray:
        """Go for a place where the cube is not; nothing of this is to be learned."""
        distance, angle = rng.uniform(*self.options.miss_m), rng.uniform(-math.pi, math.pi)
        aim = np.array([place.x_m + distance * math.cos(angle), place.y_m + distance * math.sin(angle)])
        try:
            plan = self.expert.plan(command, aim_xy_m=aim, speed=speed)
        except UnreachableError:
            return command
        if rng.random() < 0.6:
            # Notice before closing, somewhere on the way down.
            plan = Plan(plan.segments[:1])
            until = float(rng.uniform(0.65, 1.0)) * plan.duration_s
        else:
            until = plan.duration_s
        noise = Noise(rng, self.options.command_noise_deg)
        return self._follow(plan, noise, frames, 0.0, 0, until_s=until)

    def _dropped(self, segment: str) -> bool:
        world = self.stage.world
        return (
            segment == "carry"
            and world.cube_xyz_m[2] < 0.022
            and not self.expert.holding()
            and not world.cube_in_bowl
        )

    def _follow(
        self,
        plan: Plan,
        noise: Noise,
        frames: list[FrameRecord],
        loss_mask: float,
        intervention: int,
        *,
        until_s: float = math.inf,
        stop: Callable[[str], bool] | None = None,
    ) -> FloatArray:
        """Execute a plan tick by tick, recording at FPS. Returns the last command."""
        dt = self.stage.robot.dt_s
        every = self.stage.robot.control_hz // FPS
        approach_s = plan.segments[0].curve.duration_s if plan.segments[0].name == "approach" else 0.0
        end_s = min(plan.duration_s, until_s)
        command, _ = plan.at(0.0)
        late_drop = 0
        for tick in range(int(end_s / dt)):
            time_s = tick * dt
            command, segment = plan.at(time_s)
            gain = NOISE_GAIN[segment]
            if segment == "approach":
                gain *= float(np.clip((approach_s - time_s) / TAPER_S, 0.25, 1.0))
            if tick % every == 0:
                self._frame(command, frames, loss_mask, intervention)
                late_drop = late_drop + 1 if stop is not None and stop(segment) else 0
                if late_drop > 6:
                    break
            self.stage.arm.write(self._clip(command + gain * noise.step(dt)))
            self.stage.advance()
        return command

    def _hold(self, command: FloatArray, count: int, frames: list[FrameRecord], intervention: int) -> None:
        for _ in range(count):
            self._frame(command, frames, 1.0, intervention)
            for _ in range(self.stage.robot.control_hz // FPS):
                self.stage.arm.write(command)
                self.stage.advance()

    def _clip(self, command: FloatArray) -> FloatArray:
        gate = self.stage.robot.gate
        return np.clip(command, gate.min_position.array(), gate.max_position.array())

    def _frame(
        self, command: FloatArray, frames: list[FrameRecord], loss_mask: float, intervention: int
    ) -> None:
        frames.append(
            FrameRecord(
                self.stage.arm.read().position,
                self._clip(command),
                self.stage.images(CAMERAS),
                loss_mask,
                intervention,
            )
        )


def episode_rng(seed: int, episode: int) -> np.random.Generator:
    """Randomness of one episode: a function of seed and number alone."""
    return np.random.default_rng([seed, episode])


def write_episode(writer: DatasetWriter, frames: list[FrameRecord], place: CubePlace) -> None:
    """Append one episode to a dataset."""
    writer.begin_episode(TASK)
    pickup = np.array([place.x_m, place.y_m], dtype=np.float32)
    for frame in frames:
        writer.add_frame(
            frame.state.astype(np.float32),
            frame.action.astype(np.float32),
            frame.images,
            pickup,
            {
                "loss_mask": np.array([frame.loss_mask], np.float32),
                "intervention": np.array([frame.intervention], np.int64),
            },
        )
    writer.save_episode()


def create_dataset(root: Path, stage: Stage, provenance: dict[str, object]) -> DatasetWriter:
    """A new dataset for this stage's pictures."""
    return DatasetWriter.create(
        root,
        fps=FPS,
        cameras=dict.fromkeys(CAMERAS, (stage.height_px, stage.width_px)),
        calibration_sha256=stage.arm.calibration.hash,
        extra_features=EXTRA_FEATURES,
        extra_info=provenance,
    )


def demonstrate(
    root: Path,
    episodes: range,
    seed: int,
    *,
    width_px: int = 256,
    height_px: int = 192,
    on_episode: Callable[[int], None] | None = None,
) -> int:
    """Record episodes by the expert into a new dataset; returns how many succeeded and were kept.

    Args:
        root: folder of the dataset.
        episodes: numbers of the episodes, each with its own randomness.
        seed: seed of the whole set.
        width_px: picture width.
        height_px: picture height.
        on_episode: called with the number of each finished episode.
    """
    stage = Stage(width_px, height_px)
    task = PickPlace()
    kept = 0
    demonstrator = Demonstrator(stage)
    writer = create_dataset(root, stage, {"source": "expert", "seed": seed, "task": task.name})
    try:
        for episode in episodes:
            rng = episode_rng(seed, episode)
            place = task.sample(rng)
            frames = demonstrator.record(place, rng)
            if frames is not None:
                write_episode(writer, frames, place)
                kept += 1
            if on_episode is not None:
                on_episode(episode)
    finally:
        writer.close()
        stage.close()
    return kept


def truth_user(stage: Stage) -> FloatArray:
    """True joint positions in user units, for tests."""
    return rad_to_user(stage.world.data.qpos[:6])
