"""Noise on the inputs of a training batch; labels stay clean.

What is drawn is drawn for the whole batch, before anything of it is read, and a row stands for each sample.
So a step can be repeated, and several processes can each do their part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot.joints import N_JOINTS
from robot.seams import Float32Array
from training.config import AugmentConfig
from training.data import Batch
from training.frames import IntArray
from training.picture_noise import PictureNoise, apply
from training.picture_noise import draw as draw_picture_noise
from training.policies.base import COORDINATES, Inputs, Labels, PolicyShape


@dataclass(frozen=True)
class Noise:
    """What is done to a batch, a row for each sample."""

    delay_frames: IntArray
    """(B, cameras) frames by which each picture is older than the state."""
    state: Float32Array
    """(B, 6) or (B, S, 6), user units."""
    pickup_m: Float32Array
    """(B, 2)."""
    pickup_kept: NDArray[np.bool_]
    """(B,); False where the coordinate is taken for not given."""
    pictures: dict[str, PictureNoise]

    def rows(self, part: slice) -> Noise:
        """That of some samples."""
        return Noise(
            self.delay_frames[part],
            self.state[part],
            self.pickup_m[part],
            self.pickup_kept[part],
            {camera: noise.rows(part) for camera, noise in self.pictures.items()},
        )


def draw(config: AugmentConfig, policy: PolicyShape, batch: int, rng: np.random.Generator) -> Noise:
    """Noise for a batch of so many samples; all random numbers come from ``rng``."""
    steps = (policy.observation_steps,) if policy.observation_steps > 1 else ()
    noisy = rng.random((batch, 1)) < config.pickup_noisy_share
    return Noise(
        rng.integers(0, config.max_camera_delay_frames + 1, (batch, len(policy.cameras))),
        rng.normal(0.0, config.state_noise, (batch, *steps, N_JOINTS)).astype(np.float32),
        (rng.normal(0.0, config.pickup_noise_m, (batch, COORDINATES)) * noisy).astype(np.float32),
        rng.random(batch) >= config.pickup_dropout,
        {
            camera: draw_picture_noise(config, camera, batch, policy.picture_size_px(camera), rng)
            for camera in policy.cameras
        },
    )


def to_device(batch: Batch, device: torch.device) -> tuple[Inputs, Labels]:
    """A batch as it is."""
    images = {camera: _put(pictures, device) for camera, pictures in batch.images.items()}
    inputs = Inputs(
        images, _put(batch.state, device), _put(batch.pickup_xy_m, device), _put(batch.pickup_given, device)
    )
    return inputs, Labels(_put(batch.actions, device), _put(batch.valid, device))


def augmented(batch: Batch, noise: Noise, blur_px: float, device: torch.device) -> tuple[Inputs, Labels]:
    """A batch with noise, on a device; pictures are changed there.

    Args:
        batch: gathered with the noise's ``delay_frames``.
        noise: for as many samples.
        blur_px: see ``AugmentConfig``.
        device: where the result goes.
    """
    clean, labels = to_device(batch, device)
    noisy_inputs = Inputs(
        {camera: apply(images, noise.pictures[camera], blur_px) for camera, images in clean.images.items()},
        clean.state + _put(noise.state, device),
        clean.pickup_xy_m + _put(noise.pickup_m, device),
        _put(noise.pickup_kept & batch.pickup_given, device),
    )
    return noisy_inputs, labels


def _put(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], device: torch.device) -> Tensor:
    """On the device; towards a GPU by way of pinned memory, so that nothing waits for it."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
