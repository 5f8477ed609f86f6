"""Golden samples: recorded inputs and what the policy gave for them, by which a machine checks itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robot.seams import ByteArray
from training.data import Batch, Corpus
from training.onnx_graph import example_inputs
from training.policies.base import Inputs, TrainablePolicy

GOLDEN_SAMPLES = 4
NOISE_LEVELS = 48
"""Noise of the noisy golden sample, up and down, of 255: enough that resizing it wrongly shows."""


def golden_samples(
    policy: TrainablePolicy, corpus: Corpus, camera_size_px: tuple[int, int], count: int = GOLDEN_SAMPLES
) -> dict[str, NDArray[Any]]:
    """Recorded inputs, evenly spaced over the data, and the policy's actions for them, by array name.

    The pictures are enlarged from the policy's size, in blocks that look the same however they are made small
    again. So those of the last sample get noise of each pixel, which another way of resizing lets through.
    """
    rows = np.unique(np.linspace(0, len(corpus) - 1, count).astype(np.int64))
    batch: Batch = corpus.gather(rows)
    images = {camera: enlarged(pictures, camera_size_px) for camera, pictures in batch.images.items()}
    rng = np.random.default_rng(0)
    for pictures in images.values():
        # Two values, alike in all colours, so that the file stays small.
        noise = rng.choice([-NOISE_LEVELS, NOISE_LEVELS], (*camera_size_px, 1))
        pictures[-1] = np.clip(pictures[-1] + noise, 0, 255).astype(np.uint8)
    with torch.no_grad():
        actions = policy.predict(
            Inputs(
                {camera: torch.from_numpy(pictures) for camera, pictures in images.items()},
                torch.from_numpy(batch.state),
                torch.from_numpy(batch.pickup_xy_m),
            )
        )
    samples: dict[str, NDArray[Any]] = {f"image_{camera}": pictures for camera, pictures in images.items()}
    samples |= {"state": batch.state, "pickup_xy_m": batch.pickup_xy_m}
    read = example_inputs(policy.config, camera_size_px)
    return {**{name: samples[name] for name in read}, "actions": actions.numpy()}


def enlarged(images: ByteArray, size_px: tuple[int, int]) -> ByteArray:
    """(..., h, w, 3) to (..., height, width, 3) by repeating the nearest pixel."""
    rows = np.arange(size_px[0]) * images.shape[-3] // size_px[0]
    columns = np.arange(size_px[1]) * images.shape[-2] // size_px[1]
    return np.ascontiguousarray(images[..., rows[:, None], columns[None], :])
