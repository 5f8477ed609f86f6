"""How much an ACT attends to its coordinate tokens: read off a trained policy, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from robot.errors import ConfigError
from training.policies.act import Act
from training.policies.base import Inputs
from training.policies.transformer import Attention, DecoderLayer, EncoderLayer


@dataclass(frozen=True)
class CoordinateAttention:
    """Share of the attention that goes to the coordinate tokens, mean over samples and heads, by layer."""

    queries: tuple[float, ...]
    """Of the decoder's action queries, one number for each decoder layer."""
    image_tokens: tuple[float, ...]
    """Of the encoder's image tokens, one number for each encoder layer."""
    even: float
    """What it would be if everything were attended to alike: coordinate tokens over all tokens."""


def attention_to_coordinates(policy: Act, inputs: Inputs) -> CoordinateAttention:
    """Run a policy once and tell how much its coordinate tokens are attended to.

    Raises:
        ConfigError: the policy has no coordinate tokens.
    """
    told = policy.coordinate_slice
    if told.start == told.stop:
        raise ConfigError("this policy has no coordinate token: coordinates.token is false, or reads_pickup")
    looked_at = [layer.attention for layer in policy.encoder if isinstance(layer, EncoderLayer)]
    looked_at += [layer.cross_attention for layer in policy.decoder if isinstance(layer, DecoderLayer)]
    with torch.no_grad(), _recorded(looked_at) as weights:
        policy.predict(inputs)
    shares = [layer[..., told].sum(-1) for layer in weights]
    encoder, decoder = shares[: len(policy.encoder)], shares[len(policy.encoder) :]
    return CoordinateAttention(
        tuple(float(share.mean()) for share in decoder),
        tuple(float(share[..., told.stop :].mean()) for share in encoder),
        (told.stop - told.start) / policy.tokens(),
    )


@contextmanager
def _recorded(layers: list[Attention]) -> Iterator[list[Tensor]]:
    """Weights (B, heads, N, M) of some attention layers, in the order in which they run."""
    weights: list[Tensor] = []

    def note(layer: Attention, inputs: tuple[Tensor, ...]) -> None:
        query, key = (
            project(tokens).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
            for project, tokens in zip((layer.query, layer.key), inputs[:2], strict=True)
        )
        weights.append((query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1))

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        yield weights
    finally:
        for hook in hooks:
            hook.remove()
