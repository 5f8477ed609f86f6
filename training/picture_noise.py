"""Noise on pictures, on whatever device they are: how they lie, how sharp and how coloured they are.

Numbers are drawn once per sample, so a history is seen in one light and moves as one, and any part of a batch
can be changed alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from robot.seams import Float32Array
from training.config import AugmentConfig
from training.frames import IntArray

FULL_SCALE = 255.0
GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Share of red, green and blue in a picture's luma, ITU-R BT.601."""


@dataclass(frozen=True)
class PictureNoise:
    """What is done to the pictures of one camera, a row for each sample; ``None``: nothing of the kind."""

    shift_px: IntArray | None = None
    """(B, 2) down and to the right."""
    affine: Float32Array | None = None
    """(B, 2, 3) from places in the result to places in the picture, both -1..1 from edge to edge."""
    sharpness: Float32Array | None = None
    """(B,) share of the details that stay: 0 blurred, 1 as it is, 2 twice as sharp."""
    saturation: Float32Array | None = None
    """(B,) share of the colours that stays."""
    tone: Float32Array | None = None
    """(B, 2, 3) factor and summand of red, green and blue."""
    erased: Float32Array | None = None
    """(B, 7) top, left, bottom and right as shares of the picture, then the colour; an empty box: none."""

    def rows(self, part: slice) -> PictureNoise:
        """That of some samples."""
        cut = {name: None if values is None else values[part] for name, values in vars(self).items()}
        return PictureNoise(**cut)


def draw(
    config: AugmentConfig, camera: str, batch: int, size_px: tuple[int, int], rng: np.random.Generator
) -> PictureNoise:
    """Numbers for one camera's pictures.

    Args:
        config: how much of what.
        camera: its name.
        batch: number of samples.
        size_px: (height, width).
        rng: where all numbers come from.
    """

    def about_one(change: float, *shape: int) -> Float32Array:
        return rng.uniform(1.0 - change, 1.0 + change, (batch, *shape)).astype(np.float32)

    found: dict[str, Float32Array | IntArray] = {}
    if config.moved_cameras is None or camera in config.moved_cameras:
        shift_px = rng.integers(-config.shift_px, config.shift_px + 1, (batch, 2))
        if config.rotate_deg or config.zoom:
            turn_rad = np.radians(rng.uniform(-config.rotate_deg, config.rotate_deg, batch))
            found["affine"] = _affine(turn_rad, about_one(config.zoom), shift_px, size_px)
        elif config.shift_px:
            found["shift_px"] = shift_px
    if config.sharpness:
        found["sharpness"] = about_one(config.sharpness)
    if config.saturation:
        found["saturation"] = about_one(config.saturation)
    if config.brightness or config.contrast or config.channel_gain:
        contrast = about_one(config.contrast, 1)
        summand = FULL_SCALE * (0.5 * (1.0 - contrast) + about_one(config.brightness, 1) - 1.0)
        gain = about_one(config.channel_gain, 3)
        found["tone"] = np.stack([contrast * gain, np.broadcast_to(summand, gain.shape)], axis=1)
    if config.erase_share:
        found["erased"] = _boxes(config, batch, rng)
    return PictureNoise(**found)  # type: ignore[arg-type]


def _affine(
    turn_rad: np.ndarray, zoom: Float32Array, shift_px: IntArray, size_px: tuple[int, int]
) -> Float32Array:
    height, width = size_px
    cos, sin = np.cos(turn_rad) / zoom, np.sin(turn_rad) / zoom
    down, right = -2.0 * shift_px[:, 0] / height, -2.0 * shift_px[:, 1] / width
    rows = [[cos, -sin * height / width, right], [sin * width / height, cos, down]]
    return np.moveaxis(np.array(rows, np.float32), 2, 0)


def _boxes(config: AugmentConfig, batch: int, rng: np.random.Generator) -> Float32Array:
    sides = rng.uniform(0.0, config.erase_side, (batch, 2)) * (rng.random((batch, 1)) < config.erase_share)
    corner = rng.uniform(0.0, 1.0 - sides)
    return np.hstack([corner, corner + sides, rng.uniform(0.0, FULL_SCALE, (batch, 3))]).astype(np.float32)


def apply(images: Tensor, noise: PictureNoise, blur_px: float) -> Tensor:
    """Pictures with noise.

    Args:
        images: (B, H, W, 3) or (B, S, H, W, 3), 0..255.
        noise: for B samples.
        blur_px: standard deviation of the blur that ``sharpness`` refers to.

    Returns:
        The same shape: float32 in 0..255, or as it came where all is switched off.
    """
    given = {name: values for name, values in vars(noise).items() if values is not None}
    if not given:
        return images
    shape = images.shape
    each = shape[1] if images.ndim == 5 else 1
    numbers = {
        name: torch.from_numpy(np.ascontiguousarray(values)).to(images.device).repeat_interleave(each, 0)
        for name, values in given.items()
    }
    pictures = images.reshape(-1, *shape[-3:])
    if "shift_px" in numbers:
        pictures = shifted(pictures, numbers["shift_px"])
    pictures = pictures.float()
    if "affine" in numbers:
        grid = functional.affine_grid(numbers["affine"], list(pictures.permute(0, 3, 1, 2).shape), False)
        flat = pictures.permute(0, 3, 1, 2)
        pictures = functional.grid_sample(
            flat, grid, mode="bilinear", padding_mode="border", align_corners=False
        ).permute(0, 2, 3, 1)
    if "sharpness" in numbers:
        pictures = torch.lerp(blurred(pictures, blur_px), pictures, _per_picture(numbers["sharpness"]))
    if "saturation" in numbers:
        grey = (pictures * pictures.new_tensor(GREY_WEIGHTS)).sum(-1, keepdim=True)
        pictures = torch.lerp(grey, pictures, _per_picture(numbers["saturation"]))
    if "tone" in numbers:
        factor, summand = (row[:, None, None, :] for row in numbers["tone"].unbind(1))
        pictures = torch.addcmul(summand, pictures, factor)
    if "erased" in numbers:
        pictures = torch.where(
            _inside(numbers["erased"], shape[-3:-1]), numbers["erased"][:, None, None, 4:], pictures
        )
    return pictures.clamp_(0.0, FULL_SCALE).reshape(shape)


def _per_picture(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def shifted(pictures: Tensor, shift_px: Tensor) -> Tensor:
    """Move each of (B, H, W, 3) down and to the right by (B, 2) whole pixels, repeating the edges."""
    height, width = pictures.shape[1:3]
    device = pictures.device
    rows = (torch.arange(height, device=device) - shift_px[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) - shift_px[:, 1:]).clamp(0, width - 1)
    every = torch.arange(len(pictures), device=device)
    return pictures[every[:, None, None], rows[:, :, None], columns[:, None, :]]


def blurred(pictures: Tensor, blur_px: float) -> Tensor:
    """(B, H, W, 3) float through a Gaussian of a standard deviation in pixels, edges repeated."""
    reach = math.ceil(3.0 * blur_px)
    offset = torch.arange(-reach, reach + 1, device=pictures.device, dtype=pictures.dtype)
    weights = torch.exp(-0.5 * (offset / blur_px).square())
    kernel = (weights / weights.sum()).expand(3, 1, -1)
    flat = functional.pad(pictures.permute(0, 3, 1, 2), (reach,) * 4, mode="replicate")
    flat = functional.conv2d(
        functional.conv2d(flat, kernel[:, :, :, None], groups=3), kernel[:, :, None], groups=3
    )
    return flat.permute(0, 2, 3, 1)


def _inside(boxes: Tensor, size_px: torch.Size) -> Tensor:
    """(B, H, W, 1) bool, whether a pixel's middle lies in its picture's box."""
    rows, columns = ((torch.arange(n, device=boxes.device) + 0.5) / n for n in size_px)
    top, left, bottom, right = (boxes[:, i : i + 1] for i in range(4))
    down = (rows >= top) & (rows < bottom)
    across = (columns >= left) & (columns < right)
    return (down[:, :, None] & across[:, None, :])[..., None]
