"""LeRobot's ACT: its checkpoints can be taken over, and what is trained here can be given back.

The network has LeRobot's tensors under LeRobot's names (prefix ``model.``). Around it is what LeRobot keeps
in its processors: normalisation of state, actions and pictures; and, other than there, a resize to a size
of one's own, because ResNet tokens of 480x640 pictures cost six times those of 224x224.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from robot.joints import N_JOINTS
from training.losses import act_loss
from training.policies.base import COORDINATES, Inputs, Labels, PolicyShape, Stats, TrainablePolicy
from training.policies.images import IMAGENET_MEAN, IMAGENET_STD, resize
from training.policies.lerobot_act_network import Activation, Backbone, LeRobotActNetwork, NetworkShape


class LeRobotActConfig(PolicyShape):
    """Shape of an ACT as LeRobot builds it. The defaults are LeRobot's, and so are the names."""

    type: Literal["lerobot_act"] = "lerobot_act"
    image_height_px: int = Field(default=480, ge=32, le=1080)
    image_width_px: int = Field(default=640, ge=32, le=1920)
    camera_sizes_px: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """(height, width) of the cameras whose pictures the network takes at a size of their own."""
    chunk_size: int = Field(default=100, ge=1, le=400)
    reads_pickup: bool = False
    """The pickup coordinates are LeRobot's ``observation.environment_state``."""
    vision_backbone: Backbone = "resnet18"
    pretrained: bool = False
    """ImageNet weights for the backbone (downloaded by torchvision on first use)."""
    pre_norm: bool = False
    dim_model: int = Field(default=512, ge=16, le=2048, multiple_of=4)
    n_heads: int = Field(default=8, ge=1, le=32)
    dim_feedforward: int = Field(default=3200, ge=16)
    feedforward_activation: Activation = "relu"
    n_encoder_layers: int = Field(default=4, ge=1, le=12)
    n_decoder_layers: int = Field(default=1, ge=1, le=12)
    use_vae: bool = True
    latent_dim: int = Field(default=32, ge=1, le=512)
    n_vae_encoder_layers: int = Field(default=4, ge=1, le=12)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    kl_weight: float = Field(default=10.0, ge=0.0)

    @model_validator(mode="after")
    def _check(self) -> LeRobotActConfig:
        if self.observation_steps != 1:
            raise ValueError("observation_steps must be 1: LeRobot's ACT sees one observation")
        if self.dim_model % self.n_heads:
            raise ValueError(f"dim_model {self.dim_model} must be a multiple of n_heads {self.n_heads}")
        if not self.cameras or not self.reads_state:
            raise ValueError("LeRobot's ACT cannot do without a camera, nor without the state")
        if strange := self.camera_sizes_px.keys() - set(self.cameras):
            raise ValueError(f"camera_sizes_px names {', '.join(sorted(strange))}, not among cameras")
        return self

    def picture_size_px(self, camera: str) -> tuple[int, int]:
        """(height, width) at which the network takes a camera's pictures."""
        return self.camera_sizes_px.get(camera, (self.image_height_px, self.image_width_px))

    def network(self) -> NetworkShape:
        """What the network needs to know."""
        shared = NetworkShape.__dataclass_fields__.keys() & type(self).model_fields.keys()
        return NetworkShape(
            picture_sizes_px=tuple(self.picture_size_px(camera) for camera in self.cameras),
            state_width=N_JOINTS,
            environment_width=COORDINATES if self.reads_pickup else 0,
            action_width=self.action_width,
            **{name: getattr(self, name) for name in shared},
        )


class LeRobotAct(TrainablePolicy):
    """The policy: normalisation is inside, at inference the latent is zero."""

    config: LeRobotActConfig
    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: LeRobotActConfig, stats: Stats) -> None:
        super().__init__(config, stats)
        self.model = LeRobotActNetwork(config.network(), pretrained=config.pretrained)
        # Of each camera and colour, in shares of full scale. ImageNet's, as LeRobot trains by default; a
        # checkpoint of LeRobot may bring its dataset's.
        for name, values in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).repeat(len(config.cameras), 1))

    def backbone_parameters(self) -> list[nn.Parameter]:
        """The parameters that get the backbone's own learning rate."""
        return list(self.model.backbone.parameters())

    def loss(self, inputs: Inputs, labels: Labels) -> dict[str, Tensor]:
        """L1 over the steps that exist and, with the VAE, ``kl_weight`` times the latent's KL divergence.

        As in LeRobot from 0.6.0 on; before, steps after an episode's end counted too, as zeros.
        """
        target = self.normalise_actions(labels.actions)
        state, mean, log_variance, latent = self._state(inputs), None, None, None
        if self.config.use_vae:
            mean, log_variance = self.model.latent(state, target, labels.valid)
            latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        predicted = self.model(self._pictures(inputs), state, self._environment(inputs), latent)
        return act_loss(predicted.float(), target, labels.valid, mean, log_variance, self.config.kl_weight)

    def predict(self, inputs: Inputs) -> Tensor:
        """Chunks in user units, (B, K, A)."""
        return self.restore_actions(
            self.model(self._pictures(inputs), self._state(inputs), self._environment(inputs))
        )

    def _state(self, inputs: Inputs) -> Tensor:
        return (inputs.state - self.state_mean) / self.state_std

    def _environment(self, inputs: Inputs) -> Tensor | None:
        """The coordinates; those that are not given are the mean."""
        if not self.config.reads_pickup:
            return None
        pickup = (inputs.pickup_xy_m - self.pickup_mean) / self.pickup_std
        given = inputs.pickup_present
        return pickup if given is None else torch.where(given[:, None], pickup, torch.zeros_like(pickup))

    def _pictures(self, inputs: Inputs) -> list[Tensor]:
        return [
            (resize(inputs.images[camera], *self.config.picture_size_px(camera)) / 255.0 - mean) / std
            for camera, mean, std in zip(
                self.config.cameras,
                self.image_mean[:, :, None, None],
                self.image_std[:, :, None, None],
                strict=True,
            )
        ]
