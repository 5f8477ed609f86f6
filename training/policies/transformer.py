"""Transformer layers with positions added to queries and keys only, as in DETR and ACT (post-norm)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention on (batch, tokens, d_model)."""

    def __init__(self, d_model: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
        """Attend from ``query`` (B, N, d) to ``key`` and ``value`` (B, M, d).

        ``visible``, (B, M) bool, is False for tokens that nobody may attend to.
        """

        def split(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            split(self.query(query)),
            split(self.key(key)),
            split(self.value(value)),
            attn_mask=None if visible is None else visible[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result


class FeedForward(nn.Sequential):
    """Two linear layers with a ReLU."""

    def __init__(self, d_model: int, d_ff: int, dropout: float) -> None:
        super().__init__(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d_ff, d_model))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(d_model, heads, dropout)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor, visible: Tensor | None = None) -> Tensor:
        """(B, N, d) to (B, N, d)."""
        placed = tokens + positions
        tokens = self.norm1(tokens + self.dropout(self.attention(placed, placed, tokens, visible)))
        result: Tensor = self.norm2(tokens + self.dropout(self.feed_forward(tokens)))
        return result


class DecoderLayer(nn.Module):
    """Self-attention among the action queries, attention to the encoder's tokens, feed-forward."""

    def __init__(self, d_model: int, heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(d_model, heads, dropout)
        self.cross_attention = Attention(d_model, heads, dropout)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.norm3 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, queries: Tensor, query_positions: Tensor, memory: Tensor, memory_positions: Tensor
    ) -> Tensor:
        """Queries (B, K, d) that have seen ``memory`` (B, N, d)."""
        placed = queries + query_positions
        queries = self.norm1(queries + self.dropout(self.self_attention(placed, placed, queries)))
        seen = self.cross_attention(queries + query_positions, memory + memory_positions, memory)
        queries = self.norm2(queries + self.dropout(seen))
        result: Tensor = self.norm3(queries + self.dropout(self.feed_forward(queries)))
        return result
