"""ACT with a pickup coordinate: a conditional VAE that turns one observation into a chunk of actions.

Encoder tokens: latent, state, pickup coordinate, then each camera's image tokens. The decoder's learned
queries, one per step of the chunk, attend to them. In training a second encoder reads [cls, state,
actions] and gives the latent's distribution; at inference the latent is zero. Formulation: Zhao et al.,
"Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware" (2304.13705).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from robot.joints import N_JOINTS
from training.losses import act_loss
from training.policies.backbones import ResNet18Backbone, SmallBackbone, sine_positions
from training.policies.base import COORDINATES, Inputs, Labels, PolicyShape, Stats, TrainablePolicy
from training.policies.images import ImageInput
from training.policies.transformer import DecoderLayer, EncoderLayer


class ActConfig(PolicyShape):
    """Shape of an ACT policy. The defaults are the small one that two CPU cores can train."""

    type: Literal["act"] = "act"
    backbone: Literal["small", "resnet18"] = "small"
    pretrained: bool = False
    """ImageNet weights for resnet18 (downloaded by torchvision on first use)."""
    d_model: int = Field(default=128, ge=16, le=2048, multiple_of=4)
    heads: int = Field(default=4, ge=1, le=32)
    d_ff: int = Field(default=256, ge=16)
    encoder_layers: int = Field(default=2, ge=1, le=12)
    decoder_layers: int = Field(default=1, ge=1, le=12)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    use_vae: bool = False
    vae_layers: int = Field(default=2, ge=1, le=12)
    latent_dim: int = Field(default=32, ge=1, le=512)
    kl_weight: float = Field(default=10.0, ge=0.0)
    """Weight of the latent's KL divergence beside the L1; only with the VAE."""


@dataclass(frozen=True)
class ActOutput:
    """What a forward pass in training gives."""

    actions: Tensor
    """(B, K, 6), normalised."""
    mean: Tensor | None
    """(B, latent) of the latent's distribution; ``None`` without VAE."""
    log_variance: Tensor | None


class Act(TrainablePolicy):
    """The policy. Inputs are in user units and metres: normalisation is inside."""

    config: ActConfig

    def __init__(self, config: ActConfig, stats: Stats) -> None:
        super().__init__(config, stats)
        d = config.d_model
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
        self.action_head = nn.Linear(d, config.action_width)
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

    def forward(self, inputs: Inputs, labels: Labels | None = None) -> ActOutput:
        """One pass; with ``labels`` (and a VAE) the latent comes from the actions, without it is zero."""
        state = (inputs.state - self.state_mean) / self.state_std
        pickup = self.pickup_token((inputs.pickup_xy_m - self.pickup_mean) / self.pickup_std)
        if inputs.pickup_present is not None:
            pickup = torch.where(inputs.pickup_present[:, None], pickup, self.pickup_absent)
        state_token = self.state_token(state)

        mean = log_variance = None
        latent = state.new_zeros(state.shape[0], self.config.latent_dim)
        if self.vae is not None and labels is not None:
            mean, log_variance = self.vae(state, self.normalise_actions(labels.actions), labels.valid)
            latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)

        tokens = [torch.stack([self.latent_token(latent), state_token, pickup], dim=1)]
        positions = [self.token_positions]
        condition = state_token + pickup
        for index, camera in enumerate(self.config.cameras):
            backbone = self.backbones["shared" if self.config.backbone == "resnet18" else camera]
            image_tokens, image_positions = backbone(self.image_input(inputs.images[camera]), condition)
            tokens.append(image_tokens)
            positions.append(image_positions + self.camera_embedding[index])
        memory, memory_positions = torch.cat(tokens, dim=1), torch.cat(positions)
        for encoder_layer in self.encoder:
            memory = encoder_layer(memory, memory_positions)
        queries = torch.zeros_like(self.queries).expand(state.shape[0], -1, -1)
        for decoder_layer in self.decoder:
            queries = decoder_layer(queries, self.queries, memory, memory_positions)
        return ActOutput(self.action_head(self.decoder_norm(queries)), mean, log_variance)

    def loss(self, inputs: Inputs, labels: Labels) -> dict[str, Tensor]:
        """L1 and, with the VAE, ``kl_weight`` times the latent's KL divergence."""
        output = self(inputs, labels)
        target = self.normalise_actions(labels.actions)
        return act_loss(
            output.actions.float(),
            target,
            labels.valid,
            output.mean,
            output.log_variance,
            self.config.kl_weight,
        )

    def predict(self, inputs: Inputs) -> Tensor:
        """Chunks in user units, (B, K, 6), with the latent at zero."""
        return self.restore_actions(self(inputs).actions)


class LatentEncoder(nn.Module):
    """Distribution of the latent from [cls, state, actions]; only used in training."""

    def __init__(self, config: ActConfig) -> None:
        super().__init__()
        d = config.d_model
        self.cls = nn.Parameter(torch.randn(1, d))
        self.state = nn.Linear(N_JOINTS, d)
        self.action = nn.Linear(config.action_width, d)
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
