"""What the planar policies share: one picture in, steps over the table out, mean squared error."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from pydantic import Field
from torch import Tensor

from training.losses import mse_loss
from training.policies.base import Inputs, Labels, PolicyShape, Stats, TrainablePolicy
from training.policies.images import ImageInput


class PlanarShape(PolicyShape):
    """Shape of a policy that sees one picture and nothing else, and moves the tool in x and y."""

    cameras: tuple[str] = ("overhead",)
    image_height_px: int = Field(default=128, ge=16, le=1080, multiple_of=16)
    image_width_px: int = Field(default=128, ge=16, le=1920, multiple_of=16)
    chunk_size: int = Field(default=8, ge=1, le=400)
    action_space: Literal["tool_delta_xy"] = "tool_delta_xy"
    observation_steps: Literal[1] = 1
    frame_stride: int = Field(default=3, ge=1, le=30)
    reads_state: Literal[False] = False
    reads_pickup: Literal[False] = False


class PlanarPolicy(TrainablePolicy):
    """A policy whose network gives normalised steps."""

    config: PlanarShape

    def __init__(self, config: PlanarShape, stats: Stats) -> None:
        super().__init__(config, stats)
        self.image_input = ImageInput(config.image_height_px, config.image_width_px)

    @abstractmethod
    def steps(self, pictures: Tensor) -> Tensor:
        """Normalised steps (B, K, 2) of normalised pictures (B, 3, H, W)."""

    def forward(self, inputs: Inputs) -> Tensor:
        """Normalised steps (B, K, 2)."""
        return self.steps(self.image_input(inputs.images[self.config.cameras[0]])).float()

    def loss(self, inputs: Inputs, labels: Labels) -> dict[str, Tensor]:
        """Mean squared error of the normalised steps."""
        return {"loss": mse_loss(self(inputs), self.normalise_actions(labels.actions), labels.valid)}

    def predict(self, inputs: Inputs) -> Tensor:
        """Steps in metres, (B, K, 2)."""
        return self.restore_actions(self(inputs))
