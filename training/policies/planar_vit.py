"""A vision transformer over patches of 16x16 pixels, and action queries that look at what it gives.

Without a convolution's prior it needs more data than the CNN and a small learning rate (1e-4).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from training.policies.base import Stats
from training.policies.planar import PlanarPolicy, PlanarShape
from training.policies.query_decoder import QueryDecoder, token_encoder

PATCH_PX = 16


class PlanarVitConfig(PlanarShape):
    """Shape of the policy."""

    type: Literal["planar_vit"] = "planar_vit"
    d_model: int = Field(default=64, ge=8, le=512, multiple_of=8)
    encoder_heads: Literal[1, 2, 4, 8] = 4
    decoder_heads: Literal[1, 2, 4, 8] = 2
    d_ff: int = Field(default=256, ge=16)
    encoder_layers: int = Field(default=2, ge=1, le=12)
    decoder_layers: int = Field(default=2, ge=1, le=12)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1


class PlanarVit(PlanarPolicy):
    """The policy."""

    config: PlanarVitConfig

    def __init__(self, config: PlanarVitConfig, stats: Stats) -> None:
        super().__init__(config, stats)
        d = config.d_model
        self.patches = nn.Sequential(nn.Conv2d(3, d, PATCH_PX, stride=PATCH_PX), nn.ReLU())
        count = (config.image_height_px // PATCH_PX) * (config.image_width_px // PATCH_PX)
        self.positions = nn.Parameter(torch.randn(1, count, d))
        self.encoder = token_encoder(
            d,
            heads=config.encoder_heads,
            d_ff=config.d_ff,
            layers=config.encoder_layers,
            dropout=config.dropout,
        )
        self.decoder = QueryDecoder(
            config.chunk_size,
            d,
            heads=config.decoder_heads,
            d_ff=config.d_ff,
            layers=config.decoder_layers,
            dropout=config.dropout,
        )
        self.action_head = nn.Linear(d, config.action_width)

    def steps(self, pictures: Tensor) -> Tensor:
        """Normalised steps (B, K, 2) of normalised pictures (B, 3, H, W)."""
        patches = self.patches(pictures).flatten(2).transpose(1, 2)
        chunk: Tensor = self.action_head(self.decoder(self.encoder(patches + self.positions)))
        return chunk
