"""Joints for a place of the tool point, the hand held as it is: closed form, for one solution per tick.

Shoulder lift, elbow and wrist turn about parallel axes in one plane that the pan turns about the vertical.
With pitch and roll fixed the tool point keeps its place relative to the wrist in that plane, and its
distance from it. So the pan follows from the direction, and lift and elbow from a triangle.
"""

from __future__ import annotations

import math

import numpy as np

from robot.errors import UnreachableError
from robot.joints import GRIPPER
from robot.kinematics import LEROBOT_DEGREE_RAD, Kinematics
from robot.seams import FloatArray

STRAIGHT_M = 0.0005
"""The arm is stretched, and folded, to this short of its end: there the elbow would turn by degrees for
nothing."""
LIMIT_SLACK_DEG = 0.1
"""So far beyond a limit a joint is put on it: about a servo's tick."""
EXACT_M = 5e-4
"""The closed form and the model agree to rounding; a pose at a limit is put on it."""


class HandIk:
    """Inverse kinematics with pitch, roll and gripper of one pose.

    Args:
        kinematics: of the arm; its scratch space is used here only.
        pose: whose hand is kept, user units, shape (6,).
        low: joint limits, user units, shape (6,).
        high: the same.

    Raises:
        UnreachableError: the tool cannot be led from this pose: it stands behind the pan axis or at the end
            of the reach, or a joint is beyond its limit.
    """

    def __init__(self, kinematics: Kinematics, pose: FloatArray, low: FloatArray, high: FloatArray) -> None:
        self._low, self._high = low - LIMIT_SLACK_DEG, high + LIMIT_SLACK_DEG
        self._clip = low, high
        self._pose = np.array(pose, dtype=np.float64)
        tool = kinematics.tool_position_m(self._pose)
        data = kinematics.data
        pan, lift, elbow, wrist = (
            np.array(data.joint(name).xanchor)
            for name in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex")
        )
        left = np.array(data.joint("shoulder_lift").xaxis)
        ahead = np.array([left[1], -left[0], 0.0])

        def in_plane(point: FloatArray) -> tuple[float, float]:
            return float((point - pan) @ ahead), float(point[2])

        self._pan_x_m, self._pan_y_m = float(pan[0]), float(pan[1])
        self._left_m = float((tool - pan) @ left)
        self._lift_m, elbow_m, wrist_m, tool_m = (in_plane(point) for point in (lift, elbow, wrist, tool))
        self._hand_m = tool_m[0] - wrist_m[0], tool_m[1] - wrist_m[1]
        self._upper_m, upper_rad = _link(self._lift_m, elbow_m)
        self._fore_m, fore_rad = _link(elbow_m, wrist_m)
        bend = _turn(fore_rad - upper_rad)
        self._side = math.copysign(1.0, bend)
        unit = LEROBOT_DEGREE_RAD
        self._pan_deg = float(pose[0]) + math.atan2(ahead[1], ahead[0]) / unit
        self._lift_deg = float(pose[1]) - upper_rad / unit
        self._elbow_deg = float(pose[2]) - bend / unit
        self._pitch_deg = float(pose[1:4].sum())
        try:
            found, known = self.solve(tool)
            known = known and float(np.abs(kinematics.tool_position_m(found) - tool).max()) <= EXACT_M
        except UnreachableError:
            known = False
        if not known:
            raise UnreachableError(
                "the tool cannot be led from this pose: it stands behind the arm's own axis, at the end of "
                "the reach, or a joint is beyond its limit; begin from one in front of the arm"
            )

    def solve(self, tool_m: FloatArray) -> tuple[FloatArray, bool]:
        """Joints for a tool point, base frame, shape (3,).

        Returns:
            The pose in user units, shape (6,), and whether its tool point is that one. Beyond the reach the
            arm is stretched, or folded, towards it.

        Raises:
            UnreachableError: a joint would be beyond its limit.
        """
        x, y, z = tool_m[0] - self._pan_x_m, tool_m[1] - self._pan_y_m, tool_m[2]
        square = x * x + y * y - self._left_m * self._left_m
        radial = math.sqrt(max(0.0, square))
        pan_rad = math.atan2(y, x) - math.atan2(self._left_m, radial)
        ahead = radial - self._hand_m[0] - self._lift_m[0]
        up = z - self._hand_m[1] - self._lift_m[1]
        upper, fore = self._upper_m, self._fore_m
        wanted = math.hypot(ahead, up)
        span = min(max(wanted, abs(upper - fore) + STRAIGHT_M), upper + fore - STRAIGHT_M)
        bend = math.acos((span * span - upper * upper - fore * fore) / (2.0 * upper * fore)) * self._side
        # Positive angles turn the links down.
        lift = math.atan2(-up, ahead) - math.atan2(fore * math.sin(bend), upper + fore * math.cos(bend))
        unit = LEROBOT_DEGREE_RAD
        pose = self._pose.copy()
        pose[0] = _turn_deg(self._pan_deg - pan_rad / unit)
        pose[1] = _turn_deg(self._lift_deg + lift / unit)
        pose[2] = self._elbow_deg + bend / unit
        pose[3] = self._pitch_deg - pose[1] - pose[2]
        arm = slice(0, GRIPPER)
        if (pose[arm] < self._low[arm]).any() or (pose[arm] > self._high[arm]).any():
            place = ", ".join(f"{value:.3f}" for value in tool_m)
            raise UnreachableError(f"the tool cannot be at ({place}) m with this hand: a limit")
        np.clip(pose, *self._clip, out=pose)
        return pose, square >= 0.0 and wanted == span


def _link(start_m: tuple[float, float], end_m: tuple[float, float]) -> tuple[float, float]:
    """Length of a link in the arm's plane, and its angle downwards."""
    ahead, up = end_m[0] - start_m[0], end_m[1] - start_m[1]
    return math.hypot(ahead, up), math.atan2(-up, ahead)


def _turn(angle_rad: float) -> float:
    """The same angle, -pi..pi."""
    return math.remainder(angle_rad, 2.0 * math.pi)


def _turn_deg(angle_deg: float) -> float:
    """The same angle, of LeRobot's degrees, half a turn to either side."""
    return math.remainder(angle_deg, 2.0 * math.pi / LEROBOT_DEGREE_RAD)
