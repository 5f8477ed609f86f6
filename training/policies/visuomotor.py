"""Visuomotor behavioural cloning: a visual encoder, where wanted the tool's position and a GRU, an MLP."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from training.policies.base import Inputs, Stats
from training.policies.tool_steps import TOOL_COORDINATES, ToolStepPolicy, ToolStepShape


class VisuomotorConfig(ToolStepShape):
    """Shape of the policy."""

    type: Literal["visuomotor"] = "visuomotor"
    chunk_size: int = Field(default=1, ge=1, le=400)
    """One step is plain behavioural cloning."""
    use_gru: bool = False
    """One GRU layer over the observations; with a single one it is another layer of the network."""
    gru_width: int = Field(default=128, ge=8, le=1024)
    head_width: int = Field(default=512, ge=8, le=4096)

    @model_validator(mode="after")
    def _sequence_needs_gru(self) -> Self:
        if self.observation_steps > 1 and not self.use_gru:
            raise ValueError("several observation_steps are read by the GRU alone: set use_gru, or 1 step")
        return self


class Visuomotor(ToolStepPolicy):
    """The policy."""

    config: VisuomotorConfig

    def __init__(self, config: VisuomotorConfig, stats: Stats) -> None:
        super().__init__(config, stats)
        width = self.visual_width + (TOOL_COORDINATES if config.reads_state else 0)
        self.gru = nn.GRU(width, config.gru_width, batch_first=True) if config.use_gru else None
        self.head = nn.Sequential(
            nn.Linear(config.gru_width if config.use_gru else width, config.head_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.head_width, config.head_width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.head_width, config.chunk_size * config.action_width),
            nn.Tanh(),
            nn.Unflatten(1, (config.chunk_size, config.action_width)),
        )

    def forward(self, inputs: Inputs) -> Tensor:
        """Tanh outputs, (B, K, 3)."""
        observed, position = self.see(inputs), self.feel(inputs)
        if position is not None:
            observed = torch.cat([observed, position], dim=-1)
        if self.gru is not None:
            observed, _ = self.gru(observed)
        outputs: Tensor = self.head(observed[:, -1])
        return outputs
