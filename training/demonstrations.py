"""Episodes by the scripted expert, with the mistakes that a policy will make and how to mend them.

Each episode draws its own start pose, speed, camera delay, command noise and, in some, a first attempt
that misses. Noise goes into what is executed while the label stays what the expert wants; an attempt
that misses is recorded but marked with ``loss_mask`` 0, so that only the recovery is learned. Episode k
of a seed is the same whatever the number of jobs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from robot.errors import UnreachableError
from robot.joints import GRIPPER, N_JOINTS
from robot.seams import FloatArray
from robot.trajectory import Motion
from robot.twin.looks import Look
from robot.twin.render import CAMERAS
from robot.twin.tasks import Layout, PickPlace
from training.episodes import FPS, Episode, Frame
from training.experts.pick_place import PickPlaceExpert, Plan
from training.stage import Stage
from training.variety import Variety, episode_rng

STILL_FRAMES = 6
"""Frames kept at the end, so that the policy learns to stay where it has finished."""
MAX_ATTEMPTS = 4
DISTURBED_M = 0.010
"""An episode that moves the confuser further than this is not kept: a policy would learn to push it about."""
MISS_DRAWS = 20
LOST_M = 0.030
"""A cube this far from the grasp point is not in the jaws; a held one's middle is within 15 mm."""


@dataclass(frozen=True, slots=True)
class DemonstrationOptions:
    """How untidy the demonstrations are."""

    start_noise_deg: float = 4.0
    command_noise_deg: float = 1.8
    miss_probability: float = 0.3
    miss_m: tuple[float, float] = (0.012, 0.040)
    camera_delay_s: tuple[float, float] = (0.02, 0.10)
    speed: tuple[float, float] = (0.85, 1.2)


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
        shared: FloatArray = self.value * _SHARES
        return shared


NOISE_GAIN = {"approach": 1.0, "carry": 0.8, "retreat": 0.5, "settle": 0.25, "close": 0.2, "release": 0.3}
"""How much of the noise is let through in each segment: little near the grasp."""
NEAR_GAIN = 0.35
_SHARES = np.array([1.0, 1.0, 1.0, 1.0, 3.0, 0.0])
"""The wrist's roll, which moves nothing else, gets more."""
TAPER_S = 0.5
"""Before the end of the approach the noise falls to ``NEAR_GAIN`` over this time."""


class Demonstrator:
    """Records episodes on one stage.

    Args:
        stage: the lockstep twin.
        options: how untidy the demonstrations are.
        seed: seed of the set.
        task: what is shown.
        variety: how different the episodes are.
    """

    def __init__(
        self,
        stage: Stage,
        options: DemonstrationOptions | None = None,
        *,
        seed: int = 0,
        task: PickPlace | None = None,
        variety: Variety | None = None,
    ) -> None:
        self.stage = stage
        self.seed = seed
        self.task = task or PickPlace()
        self.variety = variety or Variety()
        self.options = options or DemonstrationOptions()
        self.expert = PickPlaceExpert(stage.world)
        self.ready = stage.robot.ready_pose.array()

    def draw_start(self, rng: np.random.Generator) -> FloatArray:
        """The ready pose, not quite."""
        start = self.ready + rng.normal(0.0, self.options.start_noise_deg, 6)
        start[GRIPPER] = rng.uniform(10.0, 45.0)
        gate = self.stage.robot.gate
        return np.clip(start, gate.min_position.array() + 0.5, gate.max_position.array() - 0.5)

    def episode(self, number: int) -> Episode | None:
        """See EpisodeMaker; ``None`` when it did not end well, see :meth:`record`."""
        rng, variety = episode_rng(self.seed, number), self.variety
        layout = variety.confuse(self.task, self.task.sample(rng), self.seed, number)
        look, stiffness = variety.look(self.seed, number), variety.stiffness(self.seed, number)
        frames = self.record(layout, rng, look=look, stiffness=stiffness)
        return None if frames is None else Episode(frames, layout)

    def record(
        self, layout: Layout, rng: np.random.Generator, *, look: Look | None = None, stiffness: float = 1.0
    ) -> list[Frame] | None:
        """Frames of one attempt; ``None``: the cube did not end in the bowl, or the confuser was moved."""
        options = self.options
        self.stage.camera_delay_s = float(rng.uniform(*options.camera_delay_s))
        start = self.stage.reset(layout, self.draw_start(rng), look=look, stiffness=stiffness)
        command = Motion(start, np.zeros(N_JOINTS))
        speed = float(rng.uniform(*options.speed))
        frames: list[Frame] = []
        if rng.random() < options.miss_probability:
            command = self._miss(layout, command, rng, speed, frames)
        finished = self.finish(command, rng, speed, frames)
        return None if self._disturbed(layout) else finished

    def _disturbed(self, layout: Layout) -> bool:
        confuser = self.stage.world.confuser_xyz_m
        if layout.confuser is None or confuser is None:
            return False
        return math.dist(confuser[:2], layout.confuser.xy_m) > DISTURBED_M

    def finish(
        self,
        command: Motion,
        rng: np.random.Generator,
        speed: float,
        frames: list[Frame],
        intervention: int = 0,
    ) -> list[Frame] | None:
        """Let the expert do the task from here, trying again after a failure."""
        noise = Noise(rng, self.options.command_noise_deg)
        for _ in range(MAX_ATTEMPTS):
            try:
                plan = self.expert.plan(command.position, speed=speed, velocity=command.velocity)
            except UnreachableError:
                return None
            began = len(frames)
            command = self._follow(plan, noise, frames, 1.0, intervention, stop=self._dropped)
            if self.task.success(self.stage.world):
                self._hold(command.position, STILL_FRAMES, frames, intervention)
                return frames
            # A grasp that failed is shown, but not to be learned.
            grasp = began + int(plan.begins("close") * FPS)
            frames[grasp:] = [replace(frame, loss_mask=0.0) for frame in frames[grasp:]]
        return None

    def _miss(
        self,
        layout: Layout,
        command: Motion,
        rng: np.random.Generator,
        speed: float,
        frames: list[Frame],
    ) -> Motion:
        """Go for a place where the cube is not; nothing of this is to be learned."""
        aim = self._miss_aim(layout, rng)
        if aim is None:
            return command
        try:
            plan = self.expert.plan(command.position, aim_xy_m=aim, speed=speed)
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

    def _miss_aim(self, layout: Layout, rng: np.random.Generator) -> FloatArray | None:
        """A point beside the cube where nothing else is in the jaws' way, ``None`` where none was found."""
        for _ in range(MISS_DRAWS):
            distance, angle = rng.uniform(*self.options.miss_m), rng.uniform(-math.pi, math.pi)
            aim = np.array(layout.told_xy_m) + distance * np.array([math.cos(angle), math.sin(angle)])
            if self.expert.has_room(*aim.tolist()):
                return aim
        return None

    def _dropped(self, segment: str) -> bool:
        """Whether the cube that should be in the jaws is not; lifting off counts as carrying already."""
        return segment == "carry" and self.expert.distance_to_cube_m() > LOST_M

    def _follow(
        self,
        plan: Plan,
        noise: Noise,
        frames: list[Frame],
        loss_mask: float,
        intervention: int,
        *,
        until_s: float = math.inf,
        stop: Callable[[str], bool] | None = None,
    ) -> Motion:
        """Execute a plan tick by tick, recording at FPS. Returns how the command moved at its end."""
        dt = self.stage.robot.dt_s
        every = self.stage.robot.control_hz // FPS
        approach_s = plan.segments[0].curve.duration_s if plan.segments[0].name == "approach" else 0.0
        end_s = min(plan.duration_s, until_s)
        before = command = plan.at(0.0)[0]
        late_drop = 0
        for tick in range(int(end_s / dt)):
            time_s = tick * dt
            before = command
            command, segment = plan.at(time_s)
            gain = NOISE_GAIN[segment]
            if segment == "approach":
                gain *= float(np.clip((approach_s - time_s) / TAPER_S, NEAR_GAIN, 1.0))
            if tick % every == 0:
                self._frame(command, frames, loss_mask, intervention)
                late_drop = late_drop + 1 if stop is not None and stop(segment) else 0
                if late_drop > 3:
                    break
            self.stage.arm.write(self._clip(command + gain * noise.step(dt)))
            self.stage.advance()
        return Motion(command, (command - before) / dt)

    def _hold(self, command: FloatArray, count: int, frames: list[Frame], intervention: int) -> None:
        for _ in range(count):
            self._frame(command, frames, 1.0, intervention)
            for _ in range(self.stage.robot.control_hz // FPS):
                self.stage.arm.write(command)
                self.stage.advance()

    def _clip(self, command: FloatArray) -> FloatArray:
        gate = self.stage.robot.gate
        return np.clip(command, gate.min_position.array(), gate.max_position.array())

    def _frame(self, command: FloatArray, frames: list[Frame], loss_mask: float, intervention: int) -> None:
        frames.append(
            Frame(
                self.stage.arm.read().position,
                self._clip(command),
                self.stage.images(CAMERAS),
                loss_mask,
                intervention,
            )
        )
