"""From chunks to targets, whoever brings the chunks: a worker by datagrams, or a rollout by itself.

A run may have a start pose. The arm first goes there on a ramp and comes to rest; only chunks that were
observed since are executed. What drives then is the executor, in joint goals or in places of the tool.
A run that a person hands back goes on where it is; where the policy moves the tool, the hand first comes to
how the run holds it, and in the plane to its height, on such a ramp too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.action_space import ACTION_WIDTHS, ActionSpace
from inference.ensembler import Executor, resample_chunk
from inference.tool_space import TOOL_WIDTH, DrivenArm, ToolSpace
from robot.config import RobotConfig
from robot.errors import SourceError
from robot.joints import JOINTS
from robot.seams import ArmState, FloatArray
from robot.sources import MIN_JERK_PEAK, RampSource

AT_POSE = 0.1
"""User units within which the command is at the start pose: about a servo's tick."""
SETTLE_S = 0.2
"""The arm comes to rest at the start pose for so long: servos are a tenth of a second behind."""
BLOCKED_S = 2.0
"""A command that is not there so long after it could be is kept from it."""


def executor_width(space: ActionSpace) -> int:
    """Numbers in a target of the executor: joint goals, or a place of the tool."""
    return ACTION_WIDTHS[space] if space == "joint_position" else TOOL_WIDTH


def longest_approach_s(config: RobotConfig) -> float:
    """Longest time until chunks count, in which the arm may come from anywhere, or be kept from it."""
    way = float((config.gate.max_position.array() - config.gate.min_position.array()).max())
    return (MIN_JERK_PEAK + 1.0) * way / config.ramp_velocity_dps + BLOCKED_S + SETTLE_S


class ChunkFollower:
    """One run's chunks and targets. Each tick: ``begin_tick``, any ``take``, then ``target``.

    Args:
        arm: what is driven.
        space: what the chunks' numbers mean.
        make_executor: an executor of ``executor_width`` for chunks of so many steps per second.
        start_pose: where the run begins, user units, shape (6,); ``None``: where the arm is.
        resume: the arm is in the midst of the run: it does not go to the start pose, which only says how
            the hand is held; only from where the hand cannot be held so it goes there.
    """

    def __init__(
        self,
        arm: DrivenArm,
        space: ActionSpace,
        make_executor: Callable[[float], Executor],
        *,
        start_pose: FloatArray | None = None,
        resume: bool = False,
    ) -> None:
        self._arm, self._space, self._make = arm, space, make_executor
        self._pose = start_pose
        self._approach: _Approach | None = None
        self._begun, self._resume = False, resume
        self._since: int | None = None
        """First tick whose observations count."""
        self._tool: ToolSpace | None = None
        self._executor: Executor | None = None
        self.fps: float | None = None
        """Of the chunks that are being followed."""

    @property
    def following(self) -> bool:
        """Whether chunks are executed: the start pose, where there is one, has been reached."""
        return self._begun and self._approach is None

    @property
    def newest(self) -> int | None:
        """Tick of the observation of the newest chunk that is executed."""
        return None if self._executor is None else self._executor.newest

    @property
    def unreached(self) -> int:
        """Ticks in which the tool could not be where the policy wanted it."""
        return 0 if self._tool is None else self._tool.unreached

    def begin_tick(self, tick: int) -> None:
        """Look at where the arm is told to be.

        Raises:
            ConfigError: the tool cannot be led from the pose where the run begins.
            SourceError: the arm is kept from its start pose.
        """
        if not self._begun:
            self._begin(tick)
        if self._approach is not None and self._approach.there():
            self._approach, self._since = None, tick
        if self._tool is not None:
            self._tool.note(tick)

    def take(self, observed: int, now: int, actions: NDArray[Any], fps: float) -> bool:
        """Take a chunk, after ``begin_tick``.

        Args:
            observed: tick of its observation.
            now: this tick.
            actions: (K, width of the space).
            fps: its steps per second.

        Returns:
            Whether it is executed. Not one that is broken, over, observed in the future, or seen before the
            arm was at its start pose.

        Raises:
            SourceError: the tool is to move as no arm can.
        """
        # Nobody has seen the future: such a stamp comes from another clock and would stand in the way.
        if observed > now or self._since is None or observed < self._since:
            return False
        if not np.isfinite(actions).all():
            return False
        path = (
            resample_chunk(actions, fps, self._arm.control_hz)
            if self._tool is None
            else self._tool.path(observed, actions, fps)
        )
        if path is None:
            return False
        executor = self._executor or self._make(fps)
        taken = executor.add(observed, now, path)
        if taken:
            self._executor, self.fps = executor, fps
        return taken

    def pause(self) -> None:
        """Forget what came: the arm holds until the next chunk."""
        self._executor = self.fps = None

    def target(self, tick: int, state: ArmState) -> FloatArray | None:
        """Of this tick, user units, shape (6,); ``None`` where no chunk covers it."""
        if self._approach is not None:
            return self._approach.target(tick, state)
        target = None if self._executor is None else self._executor.target(tick)
        return target if target is None or self._tool is None else self._tool.joints(target)

    def _begin(self, tick: int) -> None:
        here = self._arm.motion().position
        pose = here if self._pose is None else np.clip(self._pose, self._arm.low, self._arm.high)
        if self._space != "joint_position":
            self._tool = ToolSpace(self._space, self._arm, pose)
        if self._resume:
            pose = here if self._tool is None else self._tool.taken_over(here)
        if (self._pose is None or self._resume) and float(np.abs(pose - here).max()) <= AT_POSE:
            self._since = 0  # what the worker saw before the first tick is of this run too
        else:
            self._approach = _Approach(self._arm, pose)
        self._begun = True


class _Approach:
    """The way to the start pose."""

    def __init__(self, arm: DrivenArm, pose: FloatArray) -> None:
        self._arm, self._pose = arm, pose
        self._ramp = RampSource([arm.motion().position, pose], arm.ramp_velocity, 1.0 / arm.control_hz)
        self._settled = self._late = 0
        self._patience_s = BLOCKED_S

    def target(self, tick: int, state: ArmState) -> FloatArray:
        """See Source. Never farther ahead than a tick's way: what was held back catches up no faster."""
        here, most = self._arm.motion().position, self._arm.ramp_velocity / self._arm.control_hz
        ahead: FloatArray = np.clip(self._ramp.target(tick, state), here - most, here + most)
        return ahead

    def there(self) -> bool:
        """Whether the arm has come and stood there; once per tick.

        Raises:
            SourceError: something keeps it.
        """
        if not self._ramp.done:
            return False
        off = np.abs(self._arm.motion().position - self._pose)
        if float(off.max()) > AT_POSE:
            self._settled = 0
            if not self._late:
                self._patience_s = BLOCKED_S + float(off.max()) / self._arm.ramp_velocity
            self._late += 1
            if self._late > self._patience_s * self._arm.control_hz:
                joint = JOINTS[int(np.argmax(off))]
                raise SourceError(
                    f"the arm is kept from the policy's start pose: {joint} is {off.max():.1f} off",
                    code="start_pose_blocked",
                    remedy="look what is in the way (table, the arm itself, its box), or export another "
                    "start pose",
                    joint=joint,
                )
            return False
        self._settled += 1
        return self._settled >= SETTLE_S * self._arm.control_hz
