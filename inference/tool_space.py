"""From tool deltas to joints: a path through the room, and the arm's pose for each tick of it.

A chunk says how far the tool moves in each of its steps. It goes on from where the tool was commanded to be
at the chunk's observation, as the gate let it through; so what was held back does not wind up. What comes of
it, absolute places, is averaged by the executor like joint goals. Each tick's place becomes joints by one
closed-form solution with pitch, roll and gripper of the pose where the run begins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.action_space import ACTION_WIDTHS, ActionSpace
from inference.ensembler import resample_chunk
from robot.errors import ConfigError, SourceError, UnreachableError
from robot.hand_ik import HandIk
from robot.kinematics import Kinematics
from robot.seams import FloatArray
from robot.trajectory import Motion

MEMORY_S = 2.0
"""A chunk whose observation is older than this has no place to go on from."""
FASTEST_MPS = 1.0
"""The tool's target is never farther ahead of the command than this takes it in a tick. No demonstration is
so fast: it only bounds what happens where a path comes back into reach elsewhere."""
WILD_MPS = 3.0
"""What wants the tool to go faster is no policy of this arm: its joints' limits allow about half of it."""
TOOL_WIDTH = 3


@dataclass(frozen=True)
class DrivenArm:
    """What the source of a policy knows of the arm that it drives.

    Attributes:
        kinematics: of the arm, for this source's thread alone.
        motion: the gate's last command, and how it moves.
        low: joint limits, user units, shape (6,).
        high: the same.
        ramp_velocity: speed on the way to a start pose, user units per second.
        control_hz: control ticks per second.
    """

    kinematics: Kinematics
    motion: Callable[[], Motion]
    low: FloatArray
    high: FloatArray
    ramp_velocity: float
    control_hz: float


class ToolSpace:
    """Where the tool was told to be, and how it gets to where it shall be.

    Args:
        space: which tool deltas.
        arm: the arm.
        pose: whose hand is kept, and in ``tool_delta_xy`` whose height; user units, shape (6,).

    Attributes:
        unreached: ticks in which the tool could not be where it should.

    Raises:
        ConfigError: the tool cannot be led from this pose.
    """

    def __init__(self, space: ActionSpace, arm: DrivenArm, pose: FloatArray) -> None:
        self._axes, self._arm, self._pose = ACTION_WIDTHS[space], arm, pose.copy()
        self._height_m = float(arm.kinematics.tool_position_m(pose)[2])
        try:
            self._ik = HandIk(arm.kinematics, pose, arm.low, arm.high)
        except UnreachableError as error:
            raise ConfigError(f"start pose of the policy: {error}") from error
        self._told: deque[tuple[int, FloatArray]] = deque(maxlen=max(2, round(MEMORY_S * arm.control_hz)))
        self.unreached = 0

    def note(self, tick: int) -> None:
        """Keep where the tool is told to be; at the beginning of a tick, so it is the last one's command."""
        self._told.append((tick - 1, self._arm.kinematics.tool_position_m(self._arm.motion().position)))

    def taken_over(self, pose: FloatArray) -> FloatArray:
        """The pose in which the run goes on from another: the tool where it is, the hand as the run holds it.

        In ``tool_delta_xy`` the tool is at the run's height. It is the run's own pose where that is not
        possible there.
        """
        place_m = self._arm.kinematics.tool_position_m(pose)
        if self._axes < TOOL_WIDTH:
            place_m[2] = self._height_m
        try:
            return self._ik.solve(place_m)[0]
        except UnreachableError:
            return self._pose.copy()

    def path(self, observed: int, deltas: NDArray[Any], fps: float) -> FloatArray | None:
        """The places of a chunk on control ticks.

        Args:
            observed: tick of its observation.
            deltas: (K, 2) or (K, 3), metres.
            fps: steps per second.

        Returns:
            (M, 3), metres, base frame, the first for ``observed``; ``None`` where that is forgotten.

        Raises:
            SourceError: the tool would go faster than ``WILD_MPS``.
        """
        fastest_mps = fps * float(np.linalg.norm(deltas.astype(np.float64), axis=1).max())
        if fastest_mps > WILD_MPS:
            raise SourceError(
                f"the policy wants the tool to go {fastest_mps:.3g} m/s",
                code="target_out_of_range",
                remedy="check the policy's inputs, and that its actions are metres in a step",
            )
        # Of a tick that was missed the command is that of the one before; of the present one it is not known.
        begin_m = next((place for tick, place in reversed(self._told) if tick <= observed), None)
        if begin_m is None:
            return None
        path = np.repeat(begin_m[None], len(deltas) + 1, axis=0)
        if self._axes < TOOL_WIDTH:
            path[:, 2] = self._height_m
        path[1:, : self._axes] += np.cumsum(deltas, axis=0, dtype=np.float64)
        return resample_chunk(path, fps, self._arm.control_hz)

    def joints(self, place_m: FloatArray) -> FloatArray:
        """The pose that brings the tool there, shape (6,); else the nearest or the present one."""
        _, here_m = self._told[-1]
        way_m = place_m - here_m
        far, most = float(np.linalg.norm(way_m)), FASTEST_MPS / self._arm.control_hz
        try:
            pose, reached = self._ik.solve(place_m if far <= most else here_m + way_m * (most / far))
        except UnreachableError:
            pose, reached = self._arm.motion().position.copy(), False
        self.unreached += not reached
        return pose
