"""Ways in which the pickup coordinates reach ACT, each to be switched on by itself or with others.

As one token among hundreds of image tokens the coordinates are easily ignored, all the more where two
identical cubes are in view. Each option here gives them more weight: in how they are coded, in what the
pictures show, in the network between, or in the loss.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from robot.config import Positive, StrictModel
from robot.kinematics import LEROBOT_DEGREE_RAD
from training.policies.crop import CropConfig
from training.policies.tool_position import FIELD_SCALE_M, ToolPosition


class CoordinatesConfig(StrictModel):
    """How an ACT is told where to pick up. The defaults: one normalised token, steered keypoints."""

    encoding: Literal["raw", "normalised", "fourier"] = "normalised"
    """``raw`` is metres as they are, ``normalised`` has mean 0 and standard deviation 1, ``fourier`` adds
    sines and cosines to that, so that a near place looks unlike a far one to a linear layer."""
    fourier_bands: int = Field(default=4, ge=1, le=10)
    """Sines and cosines of each number, with periods of 8, 4, 2, ... standard deviations."""
    tool_frame: bool = False
    """Also tell where the point lies as seen from the gripper, by the forward kinematics of the state: then
    the wrist camera's picture and the coordinates are about the same thing wherever the arm stands."""
    token: bool = True
    """Whether the coordinates are among the encoder's tokens."""
    repeat: int = Field(default=1, ge=1, le=64)
    """Tokens that the coordinates get, each with a projection of its own."""
    every_layer: bool = False
    """Join the coordinates to every token again after each encoder layer: concatenated, projected, added."""
    film: bool = False
    """Scale and shift the backbone's channels by the coordinates and the state (Perez et al., "FiLM",
    1709.07871): after every block of resnet18, after each norm of the small backbone. Begins as nothing."""
    steer: bool = True
    """Let the coordinates and the state shift the small backbone's keypoints; resnet18 has none."""
    crop: CropConfig | None = None
    """Show a camera's surroundings of the coordinates instead of, or beside, its whole picture."""
    auxiliary_weight: float = Field(default=0.0, ge=0.0)
    """Weight of the squared error with which the mean of the encoder's image tokens tells the (normalised)
    coordinates. Image tokens only: the coordinates' own token would know them without any effect."""
    contrastive_weight: float = Field(default=0.0, ge=0.0)
    """Weight of the penalty for chunks that are alike although the coordinates are far apart."""
    contrastive_margin: float = Field(default=0.1, gt=0.0)
    """Mean absolute difference of two normalised chunks below which they count as alike."""
    contrastive_distance_m: Positive = 0.05
    """Coordinates further apart than this ought to give different chunks."""
    contrastive_pairs: Literal["batch", "swapped"] = "batch"
    """``batch`` compares samples of a batch: their states differ as well, so most pairs differ anyway and
    the penalty says little. ``swapped`` compares a sample with itself under the coordinates of another, so
    that nothing but the coordinates can make the difference; it costs a second pass through the transformer,
    and through the backbones where the coordinates enter those. Either is wrong once the cube is in the
    jaws, when where it came from no longer matters: keep margin and weight small."""


class CoordinateFeatures(nn.Module):
    """What is told of the coordinates, as one vector; nothing in here is learned."""

    frequencies: Tensor

    def __init__(self, config: CoordinatesConfig) -> None:
        super().__init__()
        self.raw = config.encoding == "raw"
        bands = config.fourier_bands if config.encoding == "fourier" else 0
        frequencies = torch.pi / 4.0 * 2.0 ** torch.arange(bands)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.seen_from_tool = SeenFromTool() if config.tool_frame else None
        self.width = (2 + 3 * config.tool_frame) * (1 + 2 * bands)

    def forward(self, xy_m: Tensor, normalised: Tensor, state: Tensor) -> Tensor:
        """(B, 2) metres, the same normalised and (B, 6) degrees and percent to (B, width)."""
        values = xy_m if self.raw else normalised
        if self.seen_from_tool is not None:
            values = torch.cat([values, self.seen_from_tool(state, xy_m) / FIELD_SCALE_M], dim=-1)
        if len(self.frequencies):
            angles = (values[..., None] * self.frequencies).flatten(1)
            values = torch.cat([values, angles.sin(), angles.cos()], dim=-1)
        return values


class SeenFromTool(nn.Module):
    """A point of the table in the gripper's frame, from the grasp point: the arm's chain walked outwards."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = ToolPosition()

    def forward(self, state: Tensor, xy_m: Tensor) -> Tensor:
        """Joints (B, 6), degrees and gripper percent, and points (B, 2), metres, to (B, 3), metres."""
        chain = self.chain
        point = torch.cat([xy_m, torch.zeros_like(xy_m[:, :1])], dim=-1)
        for index in reversed(range(len(chain.joints))):
            angle = (state[:, chain.joints[index]] * LEROBOT_DEGREE_RAD)[:, None, None]
            turn = chain.still[index] + angle.sin() * chain.sine[index] + angle.cos() * chain.cosine[index]
            # The rotation's inverse is its transpose: the sum is over the rows.
            point = (turn * (point - chain.offset[index])[:, :, None]).sum(1)
        return point - chain.grasp_m


class EveryLayer(nn.Module):
    """Tokens, and what a linear layer makes of them and the coordinates; an untrained one changes nothing."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.join = nn.Linear(2 * d_model, d_model)
        nn.init.zeros_(self.join.weight)
        nn.init.zeros_(self.join.bias)

    def forward(self, tokens: Tensor, coordinates: Tensor) -> Tensor:
        """(B, N, d) and (B, d) to (B, N, d)."""
        joined: Tensor = self.join(torch.cat([tokens, coordinates[:, None].expand_as(tokens)], dim=-1))
        return tokens + joined


def contrastive_loss(chunks: Tensor, others: Tensor, valid: Tensor, far: Tensor, margin: float) -> Tensor:
    """How much closer than ``margin`` two chunks are, averaged over pairs whose coordinates are far apart.

    Args:
        chunks: (B, K, A), normalised.
        others: (B, K, A), the chunk that each is compared with.
        valid: (B, K) bool, steps that exist in both.
        far: (B,) bool, pairs whose coordinates are both given and far apart.
        margin: mean absolute difference from which on two chunks are different.
    """
    steps = valid.sum(1).clamp(min=1) * chunks.shape[2]
    difference = ((chunks - others).abs() * valid[:, :, None]).sum((1, 2)) / steps
    counted = far & valid.any(1)
    return ((margin - difference).clamp(min=0.0) * counted).sum() / counted.sum().clamp(min=1)
