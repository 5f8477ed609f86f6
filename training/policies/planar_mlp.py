"""Behavioural cloning from one picture: two convolutions, flattened, and an MLP that gives the whole chunk.

With a chunk of one step it is plain behavioural cloning, with more it is action chunking. Nearly all of its
parameters are in the first linear layer, which grows with the picture.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from training.policies.base import Stats
from training.policies.planar import PlanarPolicy, PlanarShape


class PlanarMlpConfig(PlanarShape):
    """Shape of the policy; only the picture's size and the chunk's length vary."""

    type: Literal["planar_mlp"] = "planar_mlp"


class PlanarMlp(PlanarPolicy):
    """The policy."""

    config: PlanarMlpConfig

    def __init__(self, config: PlanarMlpConfig, stats: Stats) -> None:
        super().__init__(config, stats)
        cells = (config.image_height_px // 4) * (config.image_width_px // 4)
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * cells, 128),
            nn.ReLU(),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.Linear(64, config.chunk_size * config.action_width),
            nn.Unflatten(1, (config.chunk_size, config.action_width)),
        )

    def steps(self, pictures: Tensor) -> Tensor:
        """Normalised steps (B, K, 2) of normalised pictures (B, 3, H, W)."""
        chunk: Tensor = self.net(pictures)
        return chunk
