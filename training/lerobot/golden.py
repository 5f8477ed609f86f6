"""Golden samples of an imported policy: frames of its dataset, or seeded noise where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robot.errors import ConfigError
from robot.joints import N_JOINTS
from robot.recording.features import ENVIRONMENT_STATE, IMAGE_PREFIX, STATE
from robot.recording.reader import Dataset
from robot.seams import ByteArray
from training.golden import GOLDEN_SAMPLES, enlarged
from training.lerobot.convert import Imported
from training.onnx_graph import example_inputs
from training.policies.base import COORDINATES, Inputs

BLOCK_PX = 16
"""Side of the fields of one colour in a made-up picture."""
NOISE_LEVELS = 24
FIELD_M = ((0.16, 0.32), (-0.18, 0.18))
"""Smallest and largest x and y of made-up pickup points."""


def golden_samples(imported: Imported) -> dict[str, NDArray[Any]]:
    """Inputs that the policy reads and its actions for them, by array name.

    Raises:
        ConfigError: the dataset's pictures are not those that the policy takes.
        DatasetError: the dataset cannot be read.
    """
    inputs = _made_up(imported) if imported.dataset is None else _recorded(imported, imported.dataset)
    images = {
        camera: torch.from_numpy(inputs[f"image_{camera}"]) for camera in imported.policy.config.cameras
    }
    with torch.no_grad():
        actions = imported.policy.predict(
            Inputs(images, torch.from_numpy(inputs["state"]), torch.from_numpy(inputs["pickup_xy_m"]))
        )
    sizes = {camera: imported.config.picture_size_px(camera) for camera in images}
    read = example_inputs(imported.config, sizes)
    return {**{name: inputs[name] for name in read}, "actions": actions.numpy()}


def _recorded(imported: Imported, dataset: Dataset) -> dict[str, NDArray[Any]]:
    """Frames from the middle of episodes all over the dataset, in user units."""
    count = min(GOLDEN_SAMPLES, len(dataset.episodes))
    numbers = np.linspace(0, len(dataset.episodes) - 1, count).astype(int)
    middles = {int(number): dataset.episode(int(number)).length // 2 for number in numbers}
    result: dict[str, NDArray[Any]] = {}
    for camera, feature in imported.cameras.items():
        named = feature.removeprefix(IMAGE_PREFIX)
        pictures = np.concatenate([dataset.frames(n, named, m, m + 1) for n, m in middles.items()])
        height, width = imported.config.picture_size_px(camera)
        if pictures.shape[1:3] != (height, width):
            raise ConfigError(
                f"{dataset.root}: pictures of {feature} are {pictures.shape[2]}x{pictures.shape[1]}, the "
                f"checkpoint was trained on {width}x{height}: give the dataset that it was trained on"
            )
        result[f"image_{camera}"] = pictures
    state = np.stack([dataset.load(n)[STATE][m] for n, m in middles.items()])
    if imported.unit_map is not None:
        state = imported.unit_map.to_user(state)
    result["state"] = state.astype(np.float32)
    result["pickup_xy_m"] = np.zeros((count, COORDINATES), np.float32)
    if imported.config.reads_pickup:
        if ENVIRONMENT_STATE not in dataset.info["features"]:
            raise ConfigError(
                f"{dataset.root} has no {ENVIRONMENT_STATE}, which the checkpoint reads: give the dataset "
                "that it was trained on"
            )
        told = [dataset.load(n)[ENVIRONMENT_STATE][m] for n, m in middles.items()]
        result["pickup_xy_m"] = np.stack(told).astype(np.float32)
    return result


def _made_up(imported: Imported) -> dict[str, NDArray[Any]]:
    """Coloured fields with noise, and states as far from the mean as those of the training data were."""
    rng = np.random.default_rng(0)
    result: dict[str, NDArray[Any]] = {
        f"image_{camera}": _pictures(rng, imported.config.picture_size_px(camera))
        for camera in imported.policy.config.cameras
    }
    stats = imported.stats
    spread = rng.standard_normal((GOLDEN_SAMPLES, N_JOINTS)).clip(-2.0, 2.0)
    result["state"] = (stats.state_mean + stats.state_std * spread).astype(np.float32)
    low, high = np.transpose(FIELD_M)
    result["pickup_xy_m"] = rng.uniform(low, high, (GOLDEN_SAMPLES, COORDINATES)).astype(np.float32)
    return result


def _pictures(rng: np.random.Generator, size_px: tuple[int, int]) -> ByteArray:
    blocks = tuple(-(-side // BLOCK_PX) for side in size_px)
    fields = rng.integers(NOISE_LEVELS, 256 - NOISE_LEVELS, (GOLDEN_SAMPLES, *blocks, 3), dtype=np.uint8)
    # Two values, alike in all colours, so that the file stays small.
    noise = rng.choice(np.array([-NOISE_LEVELS, NOISE_LEVELS], np.int16), (GOLDEN_SAMPLES, *size_px, 1))
    pictures: ByteArray = (enlarged(fields, size_px) + noise).astype(np.uint8)
    return pictures
