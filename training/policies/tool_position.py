"""Where the tool is, from the joints' positions, as operations that go into an exported graph."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
import torch
from torch import Tensor, nn

from robot.kinematics import LEROBOT_DEGREE_RAD, Kinematics
from robot.seams import FloatArray

FIELD_CENTRE_M = (0.24, 0.0, 0.06)
"""Middle of the room over the table in which the tool works, base frame."""
FIELD_SCALE_M = 0.1
"""About half of that room's width."""


class ToolPosition(nn.Module):
    """``Kinematics.tool_position_m`` for batches.

    The chain is walked from the grasp point to the base. At each hinge a point p becomes
    offset + (still + sin(q) * sine + cos(q) * cosine) p: Rodrigues' formula, then the body's own rotation.
    All is elementwise, for a matrix product may run in a shorter float on a GPU and lose a millimetre.
    """

    offset: Tensor
    still: Tensor
    sine: Tensor
    cosine: Tensor
    grasp_m: Tensor
    centre_m: Tensor

    def __init__(self) -> None:
        super().__init__()
        model = Kinematics().model
        site = model.site("grasp")
        hinges = list(_hinges(model, int(site.bodyid[0])))
        self.joints = [joint for joint, _ in hinges]
        for index, name in enumerate(("offset", "still", "sine", "cosine")):
            values = np.stack([terms[index] for _, terms in hinges])
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)
        self.register_buffer("grasp_m", torch.tensor(site.pos, dtype=torch.float32), persistent=False)
        self.register_buffer("centre_m", torch.tensor(FIELD_CENTRE_M), persistent=False)

    def forward(self, state: Tensor) -> Tensor:
        """Joints (..., 6), degrees and gripper percent, to the tool's position (..., 3), metres."""
        point = self.grasp_m.expand(*state.shape[:-1], 3)
        for index, joint in enumerate(self.joints):
            angle = (state[..., joint] * LEROBOT_DEGREE_RAD)[..., None, None]
            turn = self.still[index] + angle.sin() * self.sine[index] + angle.cos() * self.cosine[index]
            point = self.offset[index] + (turn * point[..., None, :]).sum(-1)
        return point

    def normalised(self, state: Tensor) -> Tensor:
        """The same, about -1..1 over the table: (position - centre of the field) / 0.1 m."""
        normalised: Tensor = (self(state) - self.centre_m) / FIELD_SCALE_M
        return normalised


def _hinges(model: mujoco.MjModel, body: int) -> Iterator[tuple[int, tuple[FloatArray, ...]]]:
    """Joints from a body to the base, each with (offset, still, sine, cosine) of its body's transform."""
    while model.body_jntnum[body]:
        joint = int(model.body_jntadr[body])
        flat = np.zeros(9)
        mujoco.mju_quat2Mat(flat, model.body_quat[body])
        rotation = flat.reshape(3, 3)
        x, y, z = model.jnt_axis[joint]
        cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
        square = cross @ cross
        still = rotation @ (np.eye(3) + square)
        yield joint, (np.array(model.body_pos[body]), still, rotation @ cross, -rotation @ square)
        body = int(model.body_parentid[body])
