"""Scale and shift of feature maps by a condition (Perez et al., "FiLM", 1709.07871)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Film(nn.Module):
    """Feature-wise scale and shift by a condition; an untrained one changes nothing."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.generate = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.generate.weight)
        nn.init.zeros_(self.generate.bias)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """(B, C, H, W) and (B, condition) to (B, C, H, W)."""
        scale, shift = self.generate(condition)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(features + shift, features, scale)
