"""What the training loop knows of a policy, whichever it is: its shape, what it sees, what it must answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from inference.action_space import ACTION_WIDTHS, ActionSpace
from robot.config import StrictModel
from robot.joints import N_JOINTS
from robot.seams import Float32Array

COORDINATES = 2
"""The pickup point is (x_m, y_m)."""


class PolicyShape(StrictModel):
    """What every policy's configuration says."""

    type: str
    """Which policy it is, see ``training.policies.registry``."""
    cameras: tuple[str, ...] = ("wrist", "overhead")
    image_height_px: int = Field(default=96, ge=16, le=1080)
    """Pictures of another size are resized to this, in the exported graph too."""
    image_width_px: int = Field(default=128, ge=16, le=1920)
    chunk_size: int = Field(default=40, ge=1, le=400)
    """Steps in a chunk."""
    action_space: ActionSpace = "joint_position"
    observation_steps: int = Field(default=1, ge=1, le=32)
    """Observations that the policy sees at once, one step apart, the last of them the newest."""
    frame_stride: int = Field(default=1, ge=1, le=30)
    """Frames of the dataset in one step: with 3 and 30 frames a second the policy plans 10 steps a second."""
    reads_state: bool = True
    """Whether the joints' positions are an input."""
    reads_pickup: bool = True
    """Whether the pickup coordinates are an input."""

    def untrained(self) -> PolicyShape:
        """The same without weights that would have to be downloaded, for networks that get their own."""
        return (
            self.model_copy(update={"pretrained": False}) if "pretrained" in type(self).model_fields else self
        )

    @property
    def needs_pickup(self) -> bool:
        """Whether it cannot learn to do without coordinates from data that never say them."""
        return False

    @property
    def action_width(self) -> int:
        """Numbers in one action."""
        return ACTION_WIDTHS[self.action_space]

    def picture_size_px(self, camera: str) -> tuple[int, int]:
        """(height, width) of a camera's pictures as they are kept for training."""
        del camera  # a policy that looks closer at one of them says so
        return self.image_height_px, self.image_width_px


@dataclass(frozen=True)
class Inputs:
    """What a policy sees, on its device. With S > 1 observation steps, pictures and state get an axis S."""

    images: dict[str, Tensor]
    """Camera -> (B, H, W, 3) or (B, S, H, W, 3), uint8 or float, 0..255."""
    state: Tensor
    """(B, 6) or (B, S, 6), degrees and gripper percent."""
    pickup_xy_m: Tensor
    """(B, 2), metres, base frame."""
    pickup_present: Tensor | None = None
    """(B,) bool; False where the coordinates are not given. ``None``: all are."""


@dataclass(frozen=True)
class Labels:
    """What the expert did, on the policy's device."""

    actions: Tensor
    """(B, K, A), degrees and gripper percent, or metres."""
    valid: Tensor
    """(B, K) bool; False after the episode's end and from the first step that is not trained on."""


@dataclass(frozen=True)
class Stats:
    """Mean and standard deviation of each number that the policy reads or writes, user units and metres."""

    state_mean: Float32Array
    state_std: Float32Array
    action_mean: Float32Array
    action_std: Float32Array
    pickup_mean: Float32Array
    pickup_std: Float32Array

    @classmethod
    def identity(cls, action_width: int = N_JOINTS) -> Stats:
        """Statistics that change nothing."""

        def same(width: int) -> tuple[Float32Array, Float32Array]:
            return np.zeros(width, np.float32), np.ones(width, np.float32)

        return cls(*same(N_JOINTS), *same(action_width), *same(COORDINATES))


class TrainablePolicy(nn.Module, ABC):
    """A network between user units: normalisation, resizing and its own loss are inside."""

    config: PolicyShape
    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    pickup_mean: Tensor
    pickup_std: Tensor

    def __init__(self, config: PolicyShape, stats: Stats) -> None:
        super().__init__()
        self.config = config
        for name, values in vars(stats).items():
            self.register_buffer(name, torch.tensor(np.asarray(values, np.float32)))

    @abstractmethod
    def loss(self, inputs: Inputs, labels: Labels) -> dict[str, Tensor]:
        """Scalars by name: ``loss`` is what training minimises, the others are what it is made of."""

    @abstractmethod
    def predict(self, inputs: Inputs) -> Tensor:
        """Chunks, (B, K, A), degrees and gripper percent, or metres."""

    def backbone_parameters(self) -> list[nn.Parameter]:
        """The parameters that get the backbone's own learning rate; none where there is no such part."""
        return []

    def normalise_actions(self, actions: Tensor) -> Tensor:
        """Degrees, percent or metres to mean 0 and standard deviation 1."""
        return (actions - self.action_mean) / self.action_std

    def restore_actions(self, normalised: Tensor) -> Tensor:
        """Inverse of ``normalise_actions``."""
        return normalised * self.action_std + self.action_mean
