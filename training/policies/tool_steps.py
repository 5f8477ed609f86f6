"""What visuomotor cloning and sequence ACT share: how they see, and what their tanh outputs mean.

A step of the tool is a share of ``max_step_m``, in Cartesian coordinates (each axis from -1 to 1) or in
spherical ones (see ``training.policies.spherical``). The loss is Huber's, weighted by the expert's magnitude.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from training.losses import mean_over_valid, weighted_huber_loss
from training.policies.base import Inputs, Labels, PolicyShape, Stats, TrainablePolicy
from training.policies.images import ImageInput
from training.policies.spherical import from_tanh, nearest_turn, to_cartesian, to_spherical
from training.policies.tool_position import ToolPosition
from training.policies.visual_encoders import VisualEncoderName, visual_encoder

TOOL_COORDINATES = 3


class ToolStepShape(PolicyShape):
    """Shape of a policy that sees pictures, knows where the tool is or not, and moves it in x, y and z."""

    cameras: tuple[str, ...] = ("overhead",)
    image_height_px: int = Field(default=84, ge=16, le=1080)
    image_width_px: int = Field(default=84, ge=16, le=1920)
    action_space: Literal["tool_delta_xyz"] = "tool_delta_xyz"
    frame_stride: int = Field(default=3, ge=1, le=30)
    reads_pickup: Literal[False] = False
    encoder: VisualEncoderName = "cnn"
    """One for all cameras; what they give is concatenated."""
    pretrained: bool = False
    """ImageNet weights for resnet18 or vit_b16 (downloaded by torchvision on first use)."""
    norm: Literal["group", "frozen_batch"] = "group"
    """Of resnet18: group norm to train from scratch, frozen batch norm for ImageNet weights."""
    max_step_m: float = Field(default=0.015, gt=0.0, le=0.2)
    """Length of a step that the network calls 1; no longer step can be told. The expert's are 0.010."""
    coordinates: Literal["cartesian", "spherical"] = "cartesian"
    """In which the network answers and the loss compares."""
    full_magnitude: bool = False
    """Spherical: magnitudes from 0 to 1 instead of the 0.27 to 0.73 that a sigmoid of a tanh reaches."""
    wrap_azimuth: bool = False
    """Spherical: compare azimuths the short way round."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.3
    """Of the MLP head; the visual encoder has none."""

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.pretrained and self.encoder == "cnn":
            raise ValueError("the encoder cnn has no pretrained weights: choose resnet18 or vit_b16")
        if self.pretrained and self.encoder == "resnet18" and self.norm != "frozen_batch":
            raise ValueError("pretrained weights of resnet18 need norm: frozen_batch")
        if self.encoder == "vit_b16" and self.image_height_px != self.image_width_px:
            raise ValueError("vit_b16 needs square pictures: image_height_px must be image_width_px")
        return self


class ToolStepPolicy(TrainablePolicy):
    """A policy whose network answers with tanh outputs (B, K, 3)."""

    config: ToolStepShape

    def __init__(self, config: ToolStepShape, stats: Stats) -> None:
        super().__init__(config, stats)
        self.image_input = ImageInput(config.image_height_px, config.image_width_px)
        self.encoder = visual_encoder(
            config.encoder,
            config.image_height_px,
            frozen_norm=config.norm == "frozen_batch",
            pretrained=config.pretrained,
        )
        self.visual_width = self.encoder.width * len(config.cameras)
        self.tool_position = ToolPosition() if config.reads_state else None

    def backbone_parameters(self) -> list[torch.nn.Parameter]:
        """The visual encoder's."""
        return list(self.encoder.parameters())

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tensor:
        """Tanh outputs, (B, K, 3)."""

    def see(self, inputs: Inputs) -> Tensor:
        """What the encoder makes of each observation, (B, S, visual_width)."""
        views = []
        for camera in self.config.cameras:
            images = inputs.images[camera]
            observed = images if images.dim() == 5 else images[:, None]
            features = self.encoder(self.image_input(observed.flatten(0, 1)))
            views.append(features.unflatten(0, observed.shape[:2]))
        return torch.cat(views, dim=-1)

    def feel(self, inputs: Inputs) -> Tensor | None:
        """Where the tool was at each observation, (B, S, 3), about -1..1; ``None`` where it is not read."""
        if self.tool_position is None:
            return None
        position = self.tool_position.normalised(inputs.state)
        return position if position.dim() == 3 else position[:, None]

    def loss(self, inputs: Inputs, labels: Labels) -> dict[str, Tensor]:
        """Weighted Huber loss in the policy's coordinates; ``error_m`` is the mean distance to the label."""
        outputs = self(inputs).float()
        steps = labels.actions / self.config.max_step_m
        magnitude = steps.norm(dim=-1, keepdim=True)
        if self.config.coordinates == "spherical":
            predicted, target = self._spherical(outputs), to_spherical(steps)
            if self.config.wrap_azimuth:
                target = nearest_turn(target, predicted)
        else:
            predicted, target = outputs, steps
        error_m = (self._metres(outputs) - labels.actions).norm(dim=-1, keepdim=True)
        return {
            "loss": weighted_huber_loss(predicted, target, magnitude, labels.valid),
            "error_m": mean_over_valid(error_m, labels.valid),
        }

    def predict(self, inputs: Inputs) -> Tensor:
        """Steps in metres, (B, K, 3)."""
        return self._metres(self(inputs).float())

    def _spherical(self, outputs: Tensor) -> Tensor:
        return from_tanh(outputs, full_magnitude=self.config.full_magnitude)

    def _metres(self, outputs: Tensor) -> Tensor:
        spherical = self.config.coordinates == "spherical"
        steps = to_cartesian(self._spherical(outputs)) if spherical else outputs
        return steps * self.config.max_step_m
