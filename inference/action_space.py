"""What the numbers of an action mean. A policy gives one of these, the controller gets joint goals."""

from __future__ import annotations

from typing import Literal

from robot.joints import N_JOINTS

ActionSpace = Literal["joint_position", "tool_delta_xyz", "tool_delta_xy"]
"""``joint_position``: goals of the six joints, degrees and gripper percent. ``tool_delta_xyz`` and
``tool_delta_xy``: metres that the tool moves in one step of the chunk, base frame."""

ACTION_WIDTHS: dict[ActionSpace, int] = {"joint_position": N_JOINTS, "tool_delta_xyz": 3, "tool_delta_xy": 2}
"""Numbers in an action of each space."""
