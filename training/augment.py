"""Noise on the inputs of a training batch; labels stay clean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from robot.seams import ByteArray
from training.config import AugmentConfig
from training.data import Batch, IntArray
from training.policies.base import Inputs, Labels


def camera_delays(config: AugmentConfig, batch: int, cameras: int, rng: np.random.Generator) -> IntArray:
    """(batch, cameras) frames by which each picture is older than the state, uniform."""
    return rng.integers(0, config.max_camera_delay_frames + 1, (batch, cameras))


def to_device(batch: Batch, device: torch.device) -> tuple[Inputs, Labels]:
    """A batch as it is."""

    def put(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    images = {camera: put(pictures) for camera, pictures in batch.images.items()}
    inputs = Inputs(images, put(batch.state), put(batch.pickup_xy_m), put(batch.pickup_given))
    return inputs, Labels(put(batch.actions), put(batch.valid))


def augmented(
    batch: Batch, config: AugmentConfig, rng: np.random.Generator, device: torch.device
) -> tuple[Inputs, Labels]:
    """A batch with noise; all random numbers come from ``rng``, so a step can be repeated."""
    size = len(batch.state)
    noisy = rng.random(size) < config.pickup_noisy_share
    pickup_noise = rng.normal(0.0, config.pickup_noise_m, (size, 2)) * noisy[:, None]
    state_noise = rng.normal(0.0, config.state_noise, batch.state.shape)
    present = (rng.random(size) >= config.pickup_dropout) & batch.pickup_given
    reach = config.shift_px
    if reach:
        shifts = {camera: rng.integers(-reach, reach + 1, (2, size)) for camera in batch.images}
        images = {camera: shifted(pictures, *shifts[camera]) for camera, pictures in batch.images.items()}
        batch = replace(batch, images=images)
    clean, labels = to_device(batch, device)
    noisy_inputs = Inputs(
        {camera: _toned(images, config, rng) for camera, images in clean.images.items()},
        clean.state + torch.from_numpy(state_noise.astype(np.float32)).to(device),
        clean.pickup_xy_m + torch.from_numpy(pickup_noise.astype(np.float32)).to(device),
        torch.from_numpy(present).to(device),
    )
    return noisy_inputs, labels


def _toned(images: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Contrast and brightness, each drawn once per sample: a history is seen in one light."""
    if not config.brightness and not config.contrast:
        return images
    each = (len(images), *(1,) * (images.ndim - 1))
    contrast = 1.0 + rng.uniform(-config.contrast, config.contrast, each)
    brightness = 255.0 * rng.uniform(-config.brightness, config.brightness, each)
    offset = 127.5 * (1.0 - contrast) + brightness
    scale = torch.from_numpy(contrast.astype(np.float32)).to(images.device)
    bias = torch.from_numpy(offset.astype(np.float32)).to(images.device)
    return torch.addcmul(bias, images.float(), scale).clamp_(0.0, 255.0)


def shifted(images: ByteArray, rows: IntArray, columns: IntArray) -> ByteArray:
    """Move each sample's pictures down and to the right by whole pixels, repeating the edges.

    Args:
        images: (B, H, W, C) or (B, S, H, W, C); the pictures of one history move together.
        rows: (B,) pixels down, negative for up, smaller than H.
        columns: (B,) pixels to the right.

    Returns:
        A new array of the same shape.
    """
    height, width = images.shape[-3:-1]
    result = np.empty_like(images)
    for target, source, dy, dx in zip(result, images, rows.tolist(), columns.tolist(), strict=True):
        top, bottom, left, right = max(dy, 0), height + min(dy, 0), max(dx, 0), width + min(dx, 0)
        target[..., top:bottom, left:right, :] = source[
            ..., top - dy : bottom - dy, left - dx : right - dx, :
        ]
        target[..., top:bottom, :left, :] = target[..., top:bottom, left : left + 1, :]
        target[..., top:bottom, right:, :] = target[..., top:bottom, right - 1 : right, :]
        target[..., :top, :, :] = target[..., top : top + 1, :, :]
        target[..., bottom:, :, :] = target[..., bottom - 1 : bottom, :, :]
    return result
