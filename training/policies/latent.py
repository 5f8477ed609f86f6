"""The second encoder of an ACT with a VAE: from what was done to the latent's distribution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robot.joints import N_JOINTS
from training.policies.act_config import ActConfig
from training.policies.backbones import sine_positions
from training.policies.transformer import EncoderLayer


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
