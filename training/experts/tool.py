"""What experts that lead the tool have in common: a velocity now, from how things lie now.

They plan nothing ahead and remember nothing, so what they do is a function of what a picture shows: of where
the tool is, not of where it is told to be. The servos are a tenth of a second behind and, under the arm's
weight, up to a centimetre low; an expert that looks at the arm itself makes up for both.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from robot.config import GateConfig
from robot.hand_ik import HandIk
from robot.kinematics import Kinematics
from robot.seams import FloatArray

SPEED_MPS = 0.10
"""Fastest way of the tool: 10 mm in a step of a policy with 10 steps a second."""
ACCELERATION_MPS2 = 2.0
AHEAD_M = 0.04
"""The command is no farther from the tool than this: what is in the way is not pressed ever harder."""
GAIN_PER_S = 4.0
"""Speed per distance that is left. With servos that are 0.12 s behind, overshoot is 5 %."""


class ToolExpert(Protocol):
    """Says where the tool should go."""

    def velocity_mps(self) -> FloatArray:
        """Of the tool point now, base frame, shape (3,), at most ``SPEED_MPS`` long."""


class Lead:
    """Where the tool is told to be, moved by velocities, as commands for the joints.

    Args:
        kinematics: of the arm.
        pose: where it begins, and whose pitch, roll and gripper are kept; user units, shape (6,).
        gate: of the robot, for its joint limits.

    Raises:
        UnreachableError: the tool cannot be led from this pose.
    """

    def __init__(self, kinematics: Kinematics, pose: FloatArray, gate: GateConfig) -> None:
        low, high = gate.min_position.array(), gate.max_position.array()
        self._ik = HandIk(kinematics, pose, low, high)
        self.tool_m = kinematics.tool_position_m(pose)
        self._velocity = np.zeros(3)

    def step(self, velocity_mps: FloatArray, tool_m: FloatArray, dt_s: float) -> FloatArray:
        """The command after one tick, user units, shape (6,).

        Args:
            velocity_mps: of the tool, shape (3,).
            tool_m: where the tool is, shape (3,).
            dt_s: length of the tick.

        Raises:
            UnreachableError: a joint would be beyond its limit.
        """
        change = limited(velocity_mps - self._velocity, ACCELERATION_MPS2 * dt_s)
        self._velocity = self._velocity + change
        self.tool_m = tool_m + limited(self.tool_m + self._velocity * dt_s - tool_m, AHEAD_M)
        return self._ik.solve(self.tool_m)[0]


def limited(vector: FloatArray, length: float) -> FloatArray:
    """The same direction, not longer than ``length``."""
    own = float(np.linalg.norm(vector))
    return vector if own <= length else vector * (length / own)
