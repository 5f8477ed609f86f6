"""A camera's picture cut to the surroundings of the pickup coordinates, inside the network.

The crop is a square of the table, not of the picture: each of its pixels is a point of the table, and the
camera's table map says where that is seen. So it has the same scale and direction everywhere, whichever
way the camera looks, and coordinates that are augmented move it along.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from robot.config import Positive, Row, StrictModel


class CropConfig(StrictModel):
    """Which part of which picture. Saved with the policy: the camera must stand where it stood."""

    camera: str = "overhead"
    pixel_to_table: tuple[Row, Row, Row]
    """Homography of the camera from pixel (u, v, 1) to table (x_m, y_m, 1): ``table_map`` in the robot's YAML
    or ``table.pixel_to_table`` in the camera's calibration file. What a lens bends is not undone."""
    width_px: int = Field(default=640, ge=16)
    """Width of the pictures that the homography was measured with."""
    height_px: int = Field(default=480, ge=16)
    side_m: Positive = 0.17
    """Side of the square of table that is shown, the coordinates in its middle."""
    side_px: int = Field(default=48, ge=32, le=512)
    """Side of the crop that the backbone sees."""
    source_scale: int = Field(default=1, ge=1, le=8)
    """The crop is cut from a picture this many times as large as the policy's pictures."""
    whole_side_m: Positive = 0.6
    """Side of the square around the mean of all pickups that is shown where no coordinates are given."""
    keep_overview: bool = False
    """Whether the backbone sees the whole picture as well."""


class TableCrop(nn.Module):
    """Cuts squares of table out of pictures; nothing in here is learned."""

    table_to_picture: Tensor
    square: Tensor

    def __init__(self, config: CropConfig) -> None:
        super().__init__()
        self.side_m, self.whole_side_m, self.side_px = config.side_m, config.whole_side_m, config.side_px
        # grid_sample counts from -1 to 1 between the outer edges; pixel 0 has its centre half a pixel in.
        width, height = config.width_px, config.height_px
        to_share = np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])
        matrix = to_share @ np.linalg.inv(np.array(config.pixel_to_table, dtype=np.float64))
        # Only ratios count: of a size near 1, float32 is exact enough.
        matrix /= np.linalg.norm(matrix)
        self.register_buffer("table_to_picture", torch.tensor(matrix, dtype=torch.float32), persistent=False)
        # Up in the crop is +x, right is -y, as a camera that looks down over the arm's shoulder has it.
        steps = 0.5 - (torch.arange(self.side_px) + 0.5) / self.side_px
        x, y = torch.meshgrid(steps, steps, indexing="ij")
        self.register_buffer("square", torch.stack([x.flatten(), y.flatten()], -1), persistent=False)

    def forward(self, pictures: Tensor, xy_m: Tensor, present: Tensor | None, mean_xy_m: Tensor) -> Tensor:
        """Crops (B, 3, side_px, side_px).

        Args:
            pictures: (B, 3, H, W), of any size: the whole picture.
            xy_m: (B, 2), the middles of the squares.
            present: (B,) bool; where False, a large square around ``mean_xy_m`` is shown instead.
            mean_xy_m: (2,).
        """
        side_m = xy_m.new_full((1, 1, 1), self.side_m)
        if present is not None:
            xy_m = torch.where(present[:, None], xy_m, mean_xy_m)
            side_m = torch.where(present[:, None, None], side_m, self.whole_side_m)
        x, y = (xy_m[:, None] + self.square * side_m).unbind(-1)
        # Elementwise: a matrix product may run in a shorter float on a GPU, and a millimetre would be lost.
        u, v, w = (row[0] * x + row[1] * y + row[2] for row in self.table_to_picture)
        grid = torch.stack([u / w, v / w], dim=-1).unflatten(1, (self.side_px, self.side_px))
        return functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
