"""Learned queries, one for each step of a chunk, that look at tokens through PyTorch's own layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QueryDecoder(nn.Module):
    """From tokens (B, N, d_model) to one vector for each step, (B, steps, d_model)."""

    def __init__(
        self, steps: int, d_model: int, *, heads: int, d_ff: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        # Begun at zero, as first described, all steps look for the same and the loss stays flat for several
        # times as many batches; likewise for positions of tokens.
        self.queries = nn.Parameter(torch.randn(1, steps, d_model))
        layer = nn.TransformerDecoderLayer(d_model, heads, d_ff, dropout, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, d_model) to (B, steps, d_model)."""
        seen: Tensor = self.decoder(self.queries.expand(tokens.shape[0], -1, -1), tokens)
        return seen


def token_encoder(d_model: int, *, heads: int, d_ff: int, layers: int, dropout: float) -> nn.Module:
    """Self-attention among tokens, (B, N, d_model) to the same."""
    layer = nn.TransformerEncoderLayer(d_model, heads, d_ff, dropout, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
