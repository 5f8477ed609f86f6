"""The network of LeRobot's ACT, tensor for tensor: its state dict has LeRobot's names and shapes.

What the names mean: ``vae_encoder`` turns the actions of training into a latent, ``encoder`` and ``decoder``
turn latent, state, environment state and pictures into a chunk. Tokens of the encoder, in this order:
latent, state, environment state, then each camera's feature map row by row. Everything here is normalised.
Formulation: Zhao et al., "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware" (2304.13705).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.policies.backbones import sine_positions

Backbone = Literal["resnet18", "resnet34", "resnet50"]
Activation = Literal["relu", "gelu"]

_Part = Callable[[Tensor], Tensor]

STRIDE = 32
"""Pixels between neighbouring cells of a ResNet's last map."""
ACTIVATIONS: Mapping[Activation, _Part] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
}


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of a network, by LeRobot's names."""

    picture_sizes_px: Sequence[tuple[int, int]]
    """(height, width) of each camera's pictures."""
    state_width: int
    """Numbers in the state."""
    environment_width: int
    """Numbers in the environment state; 0: none."""
    action_width: int
    chunk_size: int
    vision_backbone: Backbone
    pre_norm: bool
    dim_model: int
    n_heads: int
    dim_feedforward: int
    feedforward_activation: Activation
    n_encoder_layers: int
    n_decoder_layers: int
    use_vae: bool
    latent_dim: int
    n_vae_encoder_layers: int
    dropout: float


class LeRobotActNetwork(nn.Module):
    """Pictures and numbers to a chunk, all normalised.

    Args:
        shape: the sizes.
        pretrained: ImageNet weights for the backbone (downloaded by torchvision on first use).
    """

    vae_encoder_pos_enc: Tensor

    def __init__(self, shape: NetworkShape, *, pretrained: bool = False) -> None:
        super().__init__()
        self.shape = shape
        d = shape.dim_model
        if shape.use_vae:
            self.vae_encoder = _Encoder(shape, shape.n_vae_encoder_layers)
            self.vae_encoder_cls_embed = nn.Embedding(1, d)
            self.vae_encoder_robot_state_input_proj = nn.Linear(shape.state_width, d)
            self.vae_encoder_action_input_proj = nn.Linear(shape.action_width, d)
            self.vae_encoder_latent_output_proj = nn.Linear(d, 2 * shape.latent_dim)
            self.register_buffer("vae_encoder_pos_enc", _sequence_positions(2 + shape.chunk_size, d)[None])
        self.backbone, channels = _backbone(shape.vision_backbone, pretrained=pretrained)
        self.encoder = _Encoder(shape, shape.n_encoder_layers)
        self.decoder = _Decoder(shape)
        self.encoder_robot_state_input_proj = nn.Linear(shape.state_width, d)
        if shape.environment_width:
            self.encoder_env_state_input_proj = nn.Linear(shape.environment_width, d)
        self.encoder_latent_input_proj = nn.Linear(shape.latent_dim, d)
        self.encoder_img_feat_input_proj = nn.Conv2d(channels, d, kernel_size=1)
        vectors = 2 + bool(shape.environment_width)
        self.encoder_1d_feature_pos_embed = nn.Embedding(vectors, d)
        self.decoder_pos_embed = nn.Embedding(shape.chunk_size, d)
        self.action_head = nn.Linear(d, shape.action_width)
        maps = [
            sine_positions(-(-height // STRIDE), -(-width // STRIDE), d)
            for height, width in shape.picture_sizes_px
        ]
        # LeRobot computes these in every pass and does not save them.
        self.register_buffer("picture_positions", torch.cat(maps), persistent=False)
        for weight in (*self.encoder.parameters(), *self.decoder.parameters()):
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)

    def latent(self, state: Tensor, actions: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (B, latent) each, that the VAE's encoder gives for actions (B, K, A).

        ``valid``, (B, K) bool, is False for steps that do not exist.
        """
        batch = actions.shape[0]
        tokens = torch.cat(
            [
                self.vae_encoder_cls_embed.weight.expand(batch, 1, -1),
                self.vae_encoder_robot_state_input_proj(state)[:, None],
                self.vae_encoder_action_input_proj(actions),
            ],
            dim=1,
        )
        hidden = functional.pad(~valid, (2, 0), value=False)
        seen = self.vae_encoder(tokens, self.vae_encoder_pos_enc, hidden)[:, 0]
        mean, log_variance = self.vae_encoder_latent_output_proj(seen).chunk(2, dim=-1)
        return mean, log_variance

    def forward(
        self,
        pictures: Sequence[Tensor],
        state: Tensor,
        environment: Tensor | None,
        latent: Tensor | None = None,
    ) -> Tensor:
        """The chunk (B, K, A).

        Args:
            pictures: one (B, 3, H, W) of each camera, in the order of ``picture_sizes_px``.
            state: (B, state_width).
            environment: (B, environment_width), or ``None`` where the network has none.
            latent: (B, latent_dim); ``None``: zeros, as at inference.
        """
        batch = pictures[0].shape[0]
        if latent is None:
            latent = pictures[0].new_zeros(batch, self.shape.latent_dim)
        vectors = [self.encoder_latent_input_proj(latent), self.encoder_robot_state_input_proj(state)]
        if environment is not None:
            vectors.append(self.encoder_env_state_input_proj(environment))
        maps = [self.encoder_img_feat_input_proj(self.backbone(picture)) for picture in pictures]
        tokens = torch.cat(
            [torch.stack(vectors, dim=1), *(m.flatten(2).transpose(1, 2) for m in maps)], dim=1
        )
        picture_positions: Tensor = self.picture_positions
        positions = torch.cat([self.encoder_1d_feature_pos_embed.weight, picture_positions])
        memory = self.encoder(tokens, positions)
        queries = torch.zeros_like(self.decoder_pos_embed.weight).expand(batch, -1, -1)
        answers = self.decoder(queries, self.decoder_pos_embed.weight, memory, positions)
        actions: Tensor = self.action_head(answers)
        return actions


def _backbone(name: Backbone, *, pretrained: bool) -> tuple[nn.Module, int]:
    """A ResNet up to its last map, and that map's channels."""
    from torchvision.models import get_model  # training only
    from torchvision.ops import FrozenBatchNorm2d

    weights = "IMAGENET1K_V1" if pretrained else None
    net = get_model(name, weights=weights, norm_layer=FrozenBatchNorm2d)
    kept = OrderedDict((key, part) for key, part in net.named_children() if key not in ("avgpool", "fc"))
    return nn.Sequential(kept), net.fc.in_features


def _sequence_positions(count: int, d_model: int) -> Tensor:
    """The sinusoid of "Attention Is All You Need", (count, d_model): sine and cosine interleaved."""
    index = torch.arange(d_model, dtype=torch.float64)
    frequency = 10000.0 ** (-2.0 * torch.div(index, 2, rounding_mode="floor") / d_model)
    angle = torch.arange(count, dtype=torch.float64)[:, None] * frequency
    return torch.where(index % 2 == 0, angle.sin(), angle.cos()).float()


class _Layer(nn.Module):
    """What both kinds of layer have: residuals with their norm before or after, and a feed-forward."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.pre_norm = shape.pre_norm
        self.activation = ACTIVATIONS[shape.feedforward_activation]
        self.self_attn = _attention(shape)
        self.linear1 = nn.Linear(shape.dim_model, shape.dim_feedforward)
        self.dropout = nn.Dropout(shape.dropout)
        self.linear2 = nn.Linear(shape.dim_feedforward, shape.dim_model)

    def _feed_forward(self, x: Tensor) -> Tensor:
        widened = self.dropout(self.activation(self.linear1(x)))
        result: Tensor = self.linear2(widened)
        return result

    def _add(
        self, x: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module, dropout: nn.Module
    ) -> Tensor:
        result: Tensor = x + dropout(part(norm(x))) if self.pre_norm else norm(x + dropout(part(x)))
        return result


class _EncoderLayer(_Layer):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        self.norm1, self.norm2 = (nn.LayerNorm(shape.dim_model) for _ in range(2))
        self.dropout1, self.dropout2 = (nn.Dropout(shape.dropout) for _ in range(2))

    def forward(self, tokens: Tensor, positions: Tensor, hidden: Tensor | None) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            return _attended(self.self_attn, x + positions, x + positions, x, hidden)

        tokens = self._add(tokens, attend, self.norm1, self.dropout1)
        return self._add(tokens, self._feed_forward, self.norm2, self.dropout2)


class _DecoderLayer(_Layer):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        self.multihead_attn = _attention(shape)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(shape.dim_model) for _ in range(3))
        self.dropout1, self.dropout2, self.dropout3 = (nn.Dropout(shape.dropout) for _ in range(3))

    def forward(self, x: Tensor, query_positions: Tensor, memory: Tensor, positions: Tensor) -> Tensor:
        def among_themselves(x: Tensor) -> Tensor:
            placed = x + query_positions
            return _attended(self.self_attn, placed, placed, x)

        def to_memory(x: Tensor) -> Tensor:
            return _attended(self.multihead_attn, x + query_positions, memory + positions, memory)

        x = self._add(x, among_themselves, self.norm1, self.dropout1)
        x = self._add(x, to_memory, self.norm2, self.dropout2)
        return self._add(x, self._feed_forward, self.norm3, self.dropout3)


class _Encoder(nn.Module):
    def __init__(self, shape: NetworkShape, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_EncoderLayer(shape) for _ in range(layers))
        self.norm = nn.LayerNorm(shape.dim_model) if shape.pre_norm else nn.Identity()

    def forward(self, tokens: Tensor, positions: Tensor, hidden: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens, positions, hidden)
        result: Tensor = self.norm(tokens)
        return result


class _Decoder(nn.Module):
    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_DecoderLayer(shape) for _ in range(shape.n_decoder_layers))
        self.norm = nn.LayerNorm(shape.dim_model)

    def forward(self, x: Tensor, query_positions: Tensor, memory: Tensor, positions: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, query_positions, memory, positions)
        result: Tensor = self.norm(x)
        return result


def _attention(shape: NetworkShape) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(shape.dim_model, shape.n_heads, dropout=shape.dropout, batch_first=True)


def _attended(
    attention: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None = None
) -> Tensor:
    result: Tensor = attention(query, key, value, key_padding_mask=hidden, need_weights=False)[0]
    return result
