"""ACT over a sequence of observations: each becomes a token, queries for the chunk's steps attend to them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from training.policies.backbones import sine_positions
from training.policies.base import Inputs, Stats
from training.policies.query_decoder import QueryDecoder, token_encoder
from training.policies.tool_steps import TOOL_COORDINATES, ToolStepPolicy, ToolStepShape

HEAD_WIDTHS = (2048, 1024)


class SequenceActConfig(ToolStepShape):
    """Shape of the policy."""

    type: Literal["sequence_act"] = "sequence_act"
    chunk_size: int = Field(default=8, ge=1, le=400)
    observation_steps: int = Field(default=4, ge=1, le=32)
    d_model: int = Field(default=512, ge=16, le=2048, multiple_of=16)
    heads: Literal[1, 2, 4, 8, 16] = 8
    d_ff: int = Field(default=256, ge=16)
    """With 256 the transformer has the 15 million parameters of the published description."""
    encoder_layers: int = Field(default=4, ge=1, le=12)
    decoder_layers: int = Field(default=4, ge=1, le=12)
    transformer_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1


class SequenceAct(ToolStepPolicy):
    """The policy."""

    config: SequenceActConfig
    positions: Tensor

    def __init__(self, config: SequenceActConfig, stats: Stats) -> None:
        super().__init__(config, stats)
        d = config.d_model
        self.visual_token = nn.Linear(self.visual_width, d)
        self.state_token = nn.Linear(TOOL_COORDINATES, d) if config.reads_state else None
        # The column's half of the map's code for a map of one row.
        positions = sine_positions(1, config.observation_steps, 2 * d)[:, d:]
        self.register_buffer("positions", positions, persistent=False)
        self.transformer_encoder = token_encoder(
            d,
            heads=config.heads,
            d_ff=config.d_ff,
            layers=config.encoder_layers,
            dropout=config.transformer_dropout,
        )
        self.decoder = QueryDecoder(
            config.chunk_size,
            d,
            heads=config.heads,
            d_ff=config.d_ff,
            layers=config.decoder_layers,
            dropout=config.transformer_dropout,
        )
        wide, narrow = HEAD_WIDTHS
        self.head = nn.Sequential(
            nn.Linear(d, wide),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(wide, narrow),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(narrow, config.action_width),
            nn.Tanh(),
        )

    def forward(self, inputs: Inputs) -> Tensor:
        """Tanh outputs, (B, K, 3)."""
        tokens = self.visual_token(self.see(inputs))
        position = self.feel(inputs)
        if self.state_token is not None and position is not None:
            tokens = tokens + self.state_token(position)
        outputs: Tensor = self.head(self.decoder(self.transformer_encoder(tokens + self.positions)))
        return outputs
