"""ACT with a pickup coordinate: a conditional VAE that turns one observation into a chunk of actions.

Encoder tokens: latent, state, pickup coordinate, then each camera's image tokens. The decoder's learned
queries, one per step of the chunk, attend to them. In training a second encoder reads [cls, state,
actions] and gives the latent's distribution; at inference the latent is zero. Formulation: Zhao et al.,
"Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware" (2304.13705).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from robot.config import StrictModel
from robot.joints import N_JOINTS
from robot.seams import Float32Array
from training.policies.backbones import ResNet18Backbone, SmallBackbone, sine_positions
from training.policies.images import ImageInput
from training.policies.transformer import DecoderLayer, EncoderLayer

COORDINATES = 2
"""The pickup point is (x_m, y_m)."""


class ActConfig(StrictModel):
    """Shape of an ACT policy. The defaults are the small one that two CPU cores can train."""

    type: Literal["act"] = "act"
    cameras: tuple[str, ...] = ("wrist", "overhead")
    image_height_px: int = Field(default=96, ge=32, le=1080)
    image_width_px: int = Field(default=128, ge=32, le=1920)
    backbone: Literal["small", "resnet18"] = "small"
    pretrained: bool = False
    """ImageNet weights for resnet18 (downloaded by torchvision on first use)."""
    chunk_size: int = Field(default=40, ge=2, le=400)
    d_model: int = Field(default=128, ge=16, le=2048, multiple_of=4)
    heads: int = Field(default=4, ge=1, le=32)
    d_ff: int = Field(default=256, ge=16)
    encoder_layers: int = Field(default=2, ge=1, le=12)
    decoder_layers: int = Field(default=1, ge=1, le=12)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    use_vae: bool = False
    vae_layers: int = Field(default=2, ge=1, le=12)
    latent_dim: int = Field(default=32, ge=1, le=512)


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
    def identity(cls) -> Stats:
        """Statistics that change nothing."""
        zeros, ones = np.zeros(N_JOINTS, np.float32), np.ones(N_JOINTS, np.float32)
        return cls(zeros, ones, zeros, ones, zeros[:COORDINATES], ones[:COORDINATES])


@dataclass(frozen=True)
class ActOutput:
    """What a forward pass in training gives."""

    actions: Tensor
    """(B, K, 6), normalised."""
    mean: Tensor | None
    """(B, latent) of the latent's distribution; ``None`` without VAE."""
    log_variance: Tensor | None


class Act(nn.Module):
    """The policy. Inputs are in user units and metres: normalisation is inside."""

    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    pickup_mean: Tensor
    pickup_std: Tensor

    def __init__(self, config: ActConfig, stats: Stats) -> None:
        super().__init__()
        self.config = config
        d = config.d_model
        for name, values in vars(stats).items():
            self.register_buffer(name, torch.tensor(np.asarray(values, np.float32)))
        self.image_input = ImageInput(config.image_height_px, config.image_width_px)
        self.backbones = nn.ModuleDict(self._backbones(config))
        self.camera_embedding = nn.Parameter(torch.zeros(len(config.cameras), d))
        self.latent_token = nn.Linear(config.latent_dim, d)
        self.state_token = nn.Linear(N_JOINTS, d)
        self.pickup_token = nn.Linear(COORDINATES, d)
        self.pickup_absent = nn.Parameter(torch.zeros(d))
        self.token_positions = nn.Parameter(torch.randn(3, d))
        layer = (d, config.heads, config.d_ff, config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(d)
        self.queries = nn.Parameter(torch.randn(config.chunk_size, d))
        self.action_head = nn.Linear(d, N_JOINTS)
        self.vae = LatentEncoder(config) if config.use_vae else None

    @staticmethod
    def _backbones(config: ActConfig) -> dict[str, nn.Module]:
        size = (config.image_height_px, config.image_width_px, config.d_model)
        if config.backbone == "resnet18":
            return {"shared": ResNet18Backbone(*size, pretrained=config.pretrained)}
        return {camera: SmallBackbone(*size) for camera in config.cameras}

    def backbone_parameters(self) -> list[nn.Parameter]:
        """The parameters that get the backbone's own learning rate."""
        return list(self.backbones.parameters())

    def forward(
        self,
        images: dict[str, Tensor],
        state: Tensor,
        pickup_xy_m: Tensor,
        *,
        pickup_present: Tensor | None = None,
        actions: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> ActOutput:
        """One pass; with ``actions`` the latent comes from them, without it is zero.

        Args:
            images: camera name -> (B, H, W, 3), uint8 or float, 0..255.
            state: (B, 6), user units.
            pickup_xy_m: (B, 2), metres, base frame.
            pickup_present: (B,) bool; False replaces the coordinate's token by a learned "not given".
            actions: (B, K, 6), user units; only used with the VAE.
            valid: (B, K) bool, False for steps after the episode's end.
        """
        state = (state - self.state_mean) / self.state_std
        pickup = self.pickup_token((pickup_xy_m - self.pickup_mean) / self.pickup_std)
        if pickup_present is not None:
            pickup = torch.where(pickup_present[:, None], pickup, self.pickup_absent)
        state_token = self.state_token(state)

        mean = log_variance = None
        latent = state.new_zeros(state.shape[0], self.config.latent_dim)
        if self.vae is not None and actions is not None:
            mean, log_variance = self.vae(state, self.normalise_actions(actions), valid)
            latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)

        tokens = [torch.stack([self.latent_token(latent), state_token, pickup], dim=1)]
        positions = [self.token_positions]
        condition = state_token + pickup
        for index, camera in enumerate(self.config.cameras):
            backbone = self.backbones["shared" if self.config.backbone == "resnet18" else camera]
            image_tokens, image_positions = backbone(self.image_input(images[camera]), condition)
            tokens.append(image_tokens)
            positions.append(image_positions + self.camera_embedding[index])
        memory, memory_positions = torch.cat(tokens, dim=1), torch.cat(positions)
        for encoder_layer in self.encoder:
            memory = encoder_layer(memory, memory_positions)
        queries = torch.zeros_like(self.queries).expand(state.shape[0], -1, -1)
        for decoder_layer in self.decoder:
            queries = decoder_layer(queries, self.queries, memory, memory_positions)
        return ActOutput(self.action_head(self.decoder_norm(queries)), mean, log_variance)

    def normalise_actions(self, actions: Tensor) -> Tensor:
        """User units to what the action head is trained on."""
        return (actions - self.action_mean) / self.action_std

    def predict(self, images: dict[str, Tensor], state: Tensor, pickup_xy_m: Tensor) -> Tensor:
        """Chunks in user units, (B, K, 6), with the latent at zero."""
        normalised = self.forward(images, state, pickup_xy_m).actions
        return normalised * self.action_std + self.action_mean


class LatentEncoder(nn.Module):
    """Distribution of the latent from [cls, state, actions]; only used in training."""

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        d = config.d_model
        self.cls = nn.Parameter(torch.randn(1, d))
        self.state = nn.Linear(N_JOINTS, d)
        self.action = nn.Linear(N_JOINTS, d)
        layer = (d, config.heads, config.d_ff, config.dropout)
        self.layers = nn.ModuleList(EncoderLayer(*layer) for _ in range(config.vae_layers))
        self.out = nn.Linear(d, 2 * config.latent_dim)
        self.register_buffer(
            "positions", sine_positions(1, config.chunk_size + 2, 2 * d)[:, d:], persistent=False
        )

    def forward(self, state: Tensor, actions: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (B, latent) each, of normalised state (B, 6) and actions (B, K, 6)."""
        batch = state.shape[0]
        tokens = torch.cat(
            [self.cls.expand(batch, 1, -1), self.state(state)[:, None], self.action(actions)], dim=1
        )
        visible = None
        if valid is not None:
            visible = torch.cat([valid.new_ones(batch, 2), valid], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, self.positions, visible)
        mean, log_variance = self.out(tokens[:, 0]).chunk(2, dim=-1)
        return mean, log_variance
