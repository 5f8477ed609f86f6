"""Episodes of the tasks that lead the tool, with what a policy will do wrong and how to mend it.

Noise goes into what is executed and not into the labels. As the expert looks at the arm and not at its
commands, its next label answers that noise. Now and then the tool is led astray on purpose: those frames are
marked with ``loss_mask`` 0, the way back is learned. In half of the episodes of ``push`` the fingers begin
somewhere about the cube, as after a push that failed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from robot.errors import ConfigError, UnreachableError
from robot.kinematics import Kinematics
from robot.seams import FloatArray
from robot.twin.looks import Look
from robot.twin.render import CAMERAS
from robot.twin.tasks import Layout, Push, Reach
from robot.twin.world import World
from training.demonstrations import Noise
from training.episodes import FPS, Episode, Frame
from training.experts.push import PushExpert
from training.experts.reach import ReachExpert
from training.experts.tool import SPEED_MPS, Lead, ToolExpert
from training.stage import Stage
from training.trials import Trial, Watch
from training.variety import Variety, episode_rng

DONE_FRAMES = 12
"""Frames kept after success, so that the policy learns to stay, and from ``push`` to let go."""


@dataclass(frozen=True, slots=True)
class ToolDemonstrationOptions:
    """How untidy the demonstrations are."""

    command_noise_deg: float = 0.7
    astray_per_s: float = 0.35
    """How often the tool is led astray."""
    astray_s: tuple[float, float] = (0.15, 0.45)
    camera_delay_s: tuple[float, float] = (0.02, 0.10)


class ToolDemonstrator:
    """Records episodes of one task on one stage.

    Args:
        stage: the lockstep twin.
        task: what is shown.
        seed: of the set.
        options: how untidy.
        variety: how different the episodes are; nothing of it is a second cube.
    """

    def __init__(
        self,
        stage: Stage,
        task: Reach | Push,
        *,
        seed: int = 0,
        options: ToolDemonstrationOptions | None = None,
        variety: Variety | None = None,
    ) -> None:
        self.stage, self.task, self.seed = stage, task, seed
        self.variety = variety or Variety()
        if self.variety.confuser_share:
            raise ConfigError(f"the task {task.name} knows no second cube: leave --confusers out")
        self.options = options or ToolDemonstrationOptions()
        self.expert = expert_of(task, stage.world)
        self._kinematics = Kinematics()

    def episode(self, number: int) -> Episode | None:
        """See EpisodeMaker; ``None`` when the task was not done in its time."""
        rng = episode_rng(self.seed, number)
        layout = self.task.sample(rng)
        self.stage.camera_delay_s = float(rng.uniform(*self.options.camera_delay_s))
        if isinstance(self.task, Push) and rng.random() < 0.5:
            layout = _about_the_cube(self.task, layout, rng)
        look, stiffness = self.variety.look(self.seed, number), self.variety.stiffness(self.seed, number)
        frames = self.record(layout, rng, look=look, stiffness=stiffness)
        return None if frames is None else Episode(frames, layout, self.task.sentence)

    def record(
        self, layout: Layout, rng: np.random.Generator, *, look: Look | None = None, stiffness: float = 1.0
    ) -> list[Frame] | None:
        """Frames of one attempt, or ``None`` when the task was not done in its time."""
        if layout.start is None:
            raise ConfigError(f"the task {self.task.name} does not say where the tool begins")
        stage, options = self.stage, self.options
        dt_s, every = stage.robot.dt_s, stage.robot.control_hz // FPS
        start = np.array(layout.start)
        stage.reset(layout, start, look=look, stiffness=stiffness)
        lead = Lead(self._kinematics, start, stage.robot.gate)
        noise = Noise(rng, options.command_noise_deg)
        astray, astray_until_s, done = np.zeros(3), -1.0, 0
        command, frames = start, list[Frame]()
        for tick in range(int(self.task.time_limit_s / dt_s)):
            time_s = tick * dt_s
            if time_s >= astray_until_s and rng.random() < options.astray_per_s * dt_s:
                astray, astray_until_s = self._astray(rng), time_s + float(rng.uniform(*options.astray_s))
            led_astray = time_s < astray_until_s
            if tick % every == 0:
                mask = 0.0 if led_astray else 1.0
                state = stage.arm.read().position
                frames.append(Frame(state, command, stage.images(CAMERAS), mask, 0))
                done = done + 1 if self.task.success(stage.world) else 0
                if done > DONE_FRAMES and not led_astray:
                    return frames
            try:
                wish = astray if led_astray else self.expert.velocity_mps()
                command = lead.step(wish, stage.world.tool_m, dt_s)
            except UnreachableError:
                return None
            stage.arm.write(self._clip(command + noise.step(dt_s)))
            stage.advance()
        return None

    def _astray(self, rng: np.random.Generator) -> FloatArray:
        """A velocity in some direction, level for a planar task and not downwards for the other."""
        direction = rng.standard_normal(3)
        direction[2] = abs(direction[2]) if isinstance(self.task, Push) else 0.0
        velocity: FloatArray = direction * (SPEED_MPS / float(np.linalg.norm(direction)))
        return velocity

    def _clip(self, command: FloatArray) -> FloatArray:
        gate = self.stage.robot.gate
        return np.clip(command, gate.min_position.array(), gate.max_position.array())


def expert_of(task: Reach | Push, world: World) -> ToolExpert:
    """Who can do it."""
    return PushExpert(world) if isinstance(task, Push) else ReachExpert(world)


def blind_trials(task: Reach | Push, trials: int, seed: int) -> list[Trial]:
    """Trials of the expert itself, without noise or pictures: those that a policy of the seed gets."""
    stage, kinematics, done = Stage(), Kinematics(), list[Trial]()
    expert = expert_of(task, stage.world)
    for number in range(trials):
        layout = task.sample(episode_rng(seed, number))
        start = np.array(layout.start)
        stage.reset(layout, start)
        lead, watch = Lead(kinematics, start, stage.robot.gate), Watch(stage.world, task)
        while stage.world.time_s < task.time_limit_s and not watch.settled():
            stage.arm.write(lead.step(expert.velocity_mps(), stage.world.tool_m, stage.robot.dt_s))
            stage.advance()
        done.append(watch.trial(number, layout))
    return done


def _about_the_cube(task: Push, layout: Layout, rng: np.random.Generator) -> Layout:
    """The same table, but the tool begins near the cube, high or low; as it was where it cannot."""
    if layout.cube is None:
        return layout
    angle, far_m = rng.uniform(-math.pi, math.pi), rng.uniform(0.06, 0.10)
    x_m, y_m = layout.cube.x_m + far_m * math.cos(angle), layout.cube.y_m + far_m * math.sin(angle)
    try:
        return replace(layout, start=task.start(x_m, y_m, float(rng.uniform(0.045, 0.09))))
    except UnreachableError:
        return layout
