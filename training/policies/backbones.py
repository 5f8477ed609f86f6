"""From one camera's picture to tokens of the policy's width.

Two backbones: ``resnet18`` (torchvision, frozen batch norm, one shared by all cameras, a token per cell
of its last map) for a GPU, and ``small`` (three convolutions per camera, spatial-softmax keypoints as one
token and a coarse grid of tokens), which two CPU cores can train in minutes.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.policies.film import Film

KEYPOINT_POSITION_CHANNELS = 32
"""Width of the position code with which the coordinates steer keypoints."""


def sine_positions(height: int, width: int, channels: int) -> Tensor:
    """The 2-D sinusoid of DETR and ACT for a map of tokens.

    Rows and columns count from 1 and are scaled to a whole turn; the first half of the channels codes the
    row, the second the column, sine and cosine interleaved, frequencies 10000^(-2i/channels).

    Returns:
        (height * width, channels), row-major.
    """
    half = channels // 2
    index = torch.arange(half, dtype=torch.float32)
    frequency = 10000.0 ** (-2.0 * torch.div(index, 2, rounding_mode="floor") / half)

    def code(count: int) -> Tensor:
        turn = 2.0 * math.pi * torch.arange(1, count + 1, dtype=torch.float32) / (count + 1e-6)
        angle = turn[:, None] * frequency
        even = torch.arange(half) % 2 == 0
        return torch.where(even, angle.sin(), angle.cos())

    rows = code(height)[:, None, :].expand(height, width, half)
    columns = code(width)[None, :, :].expand(height, width, half)
    return torch.cat([rows, columns], dim=-1).reshape(height * width, channels)


class ResNet18Backbone(nn.Module):
    """ResNet-18 up to its last map, projected to one token per cell (stride 32)."""

    stride = 32

    def __init__(
        self, sizes_px: Collection[tuple[int, int]], d_model: int, *, pretrained: bool, film: bool = False
    ) -> None:
        """For pictures of some sizes (height, width), each of which has positions of its own."""
        super().__init__()
        from torchvision.models import ResNet18_Weights, resnet18  # training only
        from torchvision.ops import FrozenBatchNorm2d

        weights = ResNet18_Weights.IMAGENET1K_V1 if pretrained else None
        net = resnet18(weights=weights, norm_layer=FrozenBatchNorm2d)
        self.body = nn.Sequential(
            net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4
        )
        self.films = None
        if film:
            widths = [block.bn2.weight.shape[0] for block in _residual_blocks(self.body)]
            self.films = nn.ModuleList(Film(d_model, width) for width in widths)
        self.project = nn.Conv2d(512, d_model, 1)
        for rows, columns in {self._cells(*size) for size in sizes_px}:
            positions = sine_positions(rows, columns, d_model)
            self.register_buffer(f"positions_{rows}x{columns}", positions, persistent=False)

    def _cells(self, height_px: int, width_px: int) -> tuple[int, int]:
        return math.ceil(height_px / self.stride), math.ceil(width_px / self.stride)

    def tokens(self, height_px: int, width_px: int) -> int:
        """Tokens of one picture of this size."""
        return math.prod(self._cells(height_px, width_px))

    def forward(self, pictures: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of one camera.

        Args:
            pictures: (B, 3, H, W), normalised.
            condition: (B, d_model), what scales and shifts channels.

        Returns:
            Tokens (B, N, d_model) and their positions (N, d_model).
        """
        features = self._conditioned(pictures, condition, self.films) if self.films else self.body(pictures)
        rows, columns = features.shape[2:]
        tokens: Tensor = self.project(features).flatten(2).transpose(1, 2)
        positions: Tensor = getattr(self, f"positions_{rows}x{columns}")
        return tokens, positions

    def _conditioned(self, features: Tensor, condition: Tensor, films: nn.ModuleList) -> Tensor:
        remaining = iter(films)
        for stage in self.body:
            for block in stage if isinstance(stage, nn.Sequential) else [stage]:
                features = block(features)
                if isinstance(stage, nn.Sequential):
                    features = next(remaining)(features, condition)
        return features


def _residual_blocks(body: nn.Sequential) -> list[nn.Module]:
    return [block for stage in body if isinstance(stage, nn.Sequential) for block in stage]


class SmallBackbone(nn.Module):
    """Three convolutions; keypoints that the coordinates can steer, and a coarse grid of tokens.

    A keypoint is the mean position under a softmax over the map of its channel. With two equal cubes in
    view that mean lies between them, so a bias over the map, linear in the condition (state and pickup
    coordinates) and starting at zero, lets the coordinates say which of them is meant.

    Args:
        height_px: of the pictures.
        width_px: of the pictures.
        d_model: width of tokens and of the condition.
        width: channels of the first convolution, the others have twice as many.
        keypoints: how many.
        first_stride: of the first convolution; a cell of the map is twice as many pixels wide.
        steer: whether the condition shifts keypoints.
        film: whether the condition scales and shifts channels, after both norms.
    """

    def __init__(
        self,
        height_px: int,
        width_px: int,
        d_model: int,
        *,
        width: int = 32,
        keypoints: int = 32,
        first_stride: int = 4,
        steer: bool = True,
        film: bool = False,
    ) -> None:
        super().__init__()
        # The first convolution takes most of the time on a CPU: stride 4 at once and no norm there costs half
        # of two strides of 2, and the keypoints' means are finer than a cell anyway.
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, first_stride + 2, stride=first_stride, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GroupNorm(8, 2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.GroupNorm(8, 2 * width),
            nn.ReLU(),
        )
        rows, columns = (height_px // first_stride + 1) // 2, (width_px // first_stride + 1) // 2
        self.heat = nn.Conv2d(2 * width, keypoints, 1)
        self.steer = nn.Linear(d_model, keypoints * KEYPOINT_POSITION_CHANNELS) if steer else None
        if self.steer is not None:
            nn.init.zeros_(self.steer.weight)
            nn.init.zeros_(self.steer.bias)
        self.films = nn.ModuleList(Film(d_model, 2 * width) for _ in range(2)) if film else None
        self.keypoints = keypoints
        self.point_token = nn.Linear(keypoints * 2, d_model)
        self.point_position = nn.Parameter(torch.zeros(1, d_model))
        self.grid = nn.Conv2d(2 * width, d_model, 4, stride=4)
        y, x = torch.meshgrid(torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij")
        self.register_buffer("cells", torch.stack([x.flatten(), y.flatten()], -1), persistent=False)
        self.register_buffer(
            "cell_codes", sine_positions(rows, columns, KEYPOINT_POSITION_CHANNELS), persistent=False
        )
        self.register_buffer("positions", sine_positions(rows // 4, columns // 4, d_model), persistent=False)

    def tokens(self, height_px: int, width_px: int) -> int:
        """Tokens of one picture, which has the size that this was made for."""
        del height_px, width_px
        return 1 + len(self.positions)

    def forward(self, pictures: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of one camera; arguments and result as for ``ResNet18Backbone``."""
        features = self._conditioned(pictures, condition, self.films) if self.films else self.stem(pictures)
        heat = self.heat(features).flatten(2)
        if self.steer is not None:
            bias = self.steer(condition).view(-1, self.keypoints, KEYPOINT_POSITION_CHANNELS)
            heat = heat + bias @ self.cell_codes.t()
        points = functional.softmax(heat, dim=-1) @ self.cells
        point_token = self.point_token(points.flatten(1))[:, None]
        grid = self.grid(features).flatten(2).transpose(1, 2)
        tokens = torch.cat([point_token, grid], dim=1)
        return tokens, torch.cat([self.point_position, self.positions])

    def _conditioned(self, features: Tensor, condition: Tensor, films: nn.ModuleList) -> Tensor:
        remaining = iter(films)
        for layer in self.stem:
            features = layer(features)
            if isinstance(layer, nn.GroupNorm):
                features = next(remaining)(features, condition)
        return features
