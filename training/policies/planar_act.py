"""Action queries over a small CNN's cells: each step of the chunk looks at the places it needs.

Its size does not depend on the picture's, but for a position per cell.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from training.policies.base import Stats
from training.policies.planar import PlanarPolicy, PlanarShape
from training.policies.query_decoder import QueryDecoder


class PlanarActConfig(PlanarShape):
    """Shape of the policy."""

    type: Literal["planar_act"] = "planar_act"
    d_model: int = Field(default=32, ge=8, le=512, multiple_of=8)
    heads: Literal[1, 2, 4, 8] = 2
    d_ff: int = Field(default=256, ge=16)
    decoder_layers: int = Field(default=2, ge=1, le=12)
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1


class PlanarAct(PlanarPolicy):
    """The policy."""

    config: PlanarActConfig

    def __init__(self, config: PlanarActConfig, stats: Stats) -> None:
        super().__init__(config, stats)
        d = config.d_model
        self.cnn = nn.Sequential(
            nn.Conv2d(3, d, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(4),
            nn.Conv2d(d, d, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        cells = (config.image_height_px // 8) * (config.image_width_px // 8)
        self.positions = nn.Parameter(torch.randn(1, cells, d))
        self.decoder = QueryDecoder(
            config.chunk_size,
            d,
            heads=config.heads,
            d_ff=config.d_ff,
            layers=config.decoder_layers,
            dropout=config.dropout,
        )
        self.action_head = nn.Linear(d, config.action_width)

    def steps(self, pictures: Tensor) -> Tensor:
        """Normalised steps (B, K, 2) of normalised pictures (B, 3, H, W)."""
        cells = self.cnn(pictures).flatten(2).transpose(1, 2)
        chunk: Tensor = self.action_head(self.decoder(cells + self.positions))
        return chunk
