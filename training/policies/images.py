"""What happens to a picture before the backbone sees it; the same in training and in an exported graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STANDARD_FLOOR = 12.0
"""Of a picture's standard deviation, of 255 levels."""


def resize(images: Tensor, height_px: int, width_px: int) -> Tensor:
    """Pictures of any size to one size: area average by the integer factor, then bilinear to the exact size.

    Averaging first keeps thin things visible; 480x640 to 96x128 is exactly the mean of 5x5 pixels.

    Args:
        images: (B, H, W, 3), uint8 or float, 0..255.
        height_px: height of the result.
        width_px: width of the result.

    Returns:
        (B, 3, height_px, width_px) float32, 0..255.
    """
    pictures = images.permute(0, 3, 1, 2).float()
    factor = min(pictures.shape[2] // height_px, pictures.shape[3] // width_px)
    if factor > 1:
        pictures = functional.avg_pool2d(pictures, factor)
    if (pictures.shape[2], pictures.shape[3]) != (height_px, width_px):
        pictures = functional.interpolate(
            pictures, size=(height_px, width_px), mode="bilinear", align_corners=False
        )
    return pictures


class ImageInput(nn.Module):
    """Resize and normalise: with the ImageNet mean and standard deviation, or each picture with its own.

    Its own: the mean of each colour becomes 0 and the standard deviation of all pixels 1, which takes out
    a lamp's strength and colour. The standard deviation is one for all colours, so that red stays red, and
    it has a floor, so that a bare table's noise is not blown up.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, height_px: int, width_px: int, *, standardise: bool = False) -> None:
        super().__init__()
        self.height_px = height_px
        self.width_px = width_px
        self.standardise = standardise
        mean, std = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
        self.register_buffer("scale", 1.0 / (255.0 * std), persistent=False)
        self.register_buffer("offset", -mean / std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) in 0..255 to (B, 3, height_px, width_px), normalised."""
        return self.normalise(resize(images, self.height_px, self.width_px))

    def normalise(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..255 to the same size, normalised."""
        if not self.standardise:
            return torch.addcmul(self.offset, pictures, self.scale)
        centred = pictures - pictures.mean((2, 3), keepdim=True)
        variance = centred.square().mean((1, 2, 3), keepdim=True)
        return centred / (variance + STANDARD_FLOOR**2).sqrt()
