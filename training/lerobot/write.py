"""A checkpoint of ours as a ``pretrained_model`` folder that LeRobot loads (written for 0.6.1).

Only ``lerobot_act`` policies have LeRobot's tensors. Units are degrees, as LeRobot records since 0.4.4.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from robot.errors import ConfigError
from robot.joints import N_JOINTS
from robot.recording.features import ACTION, ENVIRONMENT_STATE, IMAGE_PREFIX, STATE
from training.checkpoint import Checkpoint
from training.lerobot.pretrained import (
    CONFIG_FILE,
    EPSILON,
    POSTPROCESSOR_FILE,
    PREFIX,
    PREPROCESSOR_FILE,
    WEIGHTS_FILE,
)
from training.lerobot.shape import SAME_SETTINGS
from training.policies.base import COORDINATES
from training.policies.lerobot_act import LeRobotAct

Features = dict[str, dict[str, Any]]


def write_pretrained(source: Checkpoint, out: Path, *, averaged: bool = True) -> list[str]:
    """Write the folder.

    Args:
        source: the checkpoint.
        out: the folder; one that LeRobot could load is replaced.
        averaged: the running mean of the weights, where there is one.

    Returns:
        What LeRobot's user must know and LeRobot does not check.

    Raises:
        ConfigError: LeRobot has no such policy, or ``out`` holds something else.
    """
    policy = source.build(averaged=averaged)
    if not isinstance(policy, LeRobotAct):
        raise ConfigError(
            f"LeRobot has no policy of type {source.policy.type!r}: only lerobot_act can be written for it. "
            "Train one with policy: lerobot_act"
        )
    if policy.config.action_space != "joint_position":
        raise ConfigError(
            f"the policy's actions are {policy.config.action_space}, LeRobot's arms take joint positions"
        )
    if out.exists() and not (out / CONFIG_FILE).is_file() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and no checkpoint of LeRobot: choose another folder")
    inputs, outputs = _features(policy)
    modes = {"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MEAN_STD", "ENV": "MEAN_STD"}
    if not policy.config.reads_pickup:
        del modes["ENV"]
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_json(partial / CONFIG_FILE, _config(policy, inputs, outputs, modes))
    tensors = {
        name: value.contiguous() for name, value in policy.state_dict().items() if name.startswith(PREFIX)
    }
    save_file(tensors, partial / WEIGHTS_FILE, metadata={"format": "pt"})
    _write_processors(partial, policy, inputs, outputs, modes)
    if out.exists():
        shutil.rmtree(out)
    partial.replace(out)
    return _notes(source, policy)


def _features(policy: LeRobotAct) -> tuple[Features, Features]:
    config = policy.config
    inputs: Features = {STATE: {"type": "STATE", "shape": [N_JOINTS]}}
    for camera in config.cameras:
        shape = [3, *config.picture_size_px(camera)]
        inputs[f"{IMAGE_PREFIX}{camera}"] = {"type": "VISUAL", "shape": shape}
    if config.reads_pickup:
        inputs[ENVIRONMENT_STATE] = {"type": "ENV", "shape": [COORDINATES]}
    return inputs, {ACTION: {"type": "ACTION", "shape": [N_JOINTS]}}


def _config(policy: LeRobotAct, inputs: Features, outputs: Features, modes: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "act",
        "n_obs_steps": 1,
        "input_features": inputs,
        "output_features": outputs,
        "device": None,  # LeRobot takes the best that there is
        "push_to_hub": False,
        "normalization_mapping": modes,
        "n_action_steps": policy.config.chunk_size,
        "pretrained_backbone_weights": None,
        "replace_final_stride_with_dilation": False,
        "temporal_ensemble_coeff": None,
        **{name: getattr(policy.config, name) for name in SAME_SETTINGS},
    }


def _write_processors(
    folder: Path, policy: LeRobotAct, inputs: Features, outputs: Features, modes: dict[str, str]
) -> None:
    """The two pipelines, with the statistics that they normalise by."""
    stats = _statistics(policy)
    before = PREPROCESSOR_FILE.removesuffix(".json")
    after = POSTPROCESSOR_FILE.removesuffix(".json")
    normaliser = {
        "registry_name": "normalizer_processor",
        "config": {"eps": EPSILON, "features": {**inputs, **outputs}, "norm_map": modes},
        "state_file": f"{before}_step_3_normalizer_processor.safetensors",
    }
    restorer = {
        "registry_name": "unnormalizer_processor",
        "config": {"eps": EPSILON, "features": outputs, "norm_map": modes},
        "state_file": f"{after}_step_0_unnormalizer_processor.safetensors",
    }

    def device(name: str) -> dict[str, Any]:
        return {"registry_name": "device_processor", "config": {"device": name, "float_dtype": None}}

    rename = {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}}
    batch: dict[str, Any] = {"registry_name": "to_batch_processor", "config": {}}
    pipelines = {
        before: [rename, batch, device("cpu"), normaliser],
        after: [restorer, device("cpu")],
    }
    for name, steps in pipelines.items():
        _write_json(folder / f"{name}.json", {"name": name, "steps": steps})
    for step in (normaliser, restorer):
        save_file(stats, folder / str(step["state_file"]))


def _statistics(policy: LeRobotAct) -> dict[str, Tensor]:
    """``feature.mean`` and ``feature.std``; LeRobot adds a small number to those that it divides by."""
    stats = {
        f"{ACTION}.mean": policy.action_mean,
        f"{ACTION}.std": policy.action_std,
        f"{STATE}.mean": policy.state_mean,
        f"{STATE}.std": policy.state_std - EPSILON,
    }
    for camera, mean, std in zip(policy.config.cameras, policy.image_mean, policy.image_std, strict=True):
        stats[f"{IMAGE_PREFIX}{camera}.mean"] = mean.reshape(3, 1, 1)
        stats[f"{IMAGE_PREFIX}{camera}.std"] = std.reshape(3, 1, 1) - EPSILON
    if policy.config.reads_pickup:
        stats[f"{ENVIRONMENT_STATE}.mean"] = policy.pickup_mean
        stats[f"{ENVIRONMENT_STATE}.std"] = policy.pickup_std - EPSILON
    return {name: value.detach().clone().float().contiguous() for name, value in stats.items()}


def _notes(source: Checkpoint, policy: LeRobotAct) -> list[str]:
    rate = source.fps
    sizes = ", ".join(
        f"{camera} {width}x{height}"
        for camera in policy.config.cameras
        for height, width in [policy.config.picture_size_px(camera)]
    )
    notes = [
        f"run it at {rate:g} actions a second (--fps={rate:g}) and in degrees (use_degrees): LeRobot's files "
        "cannot say either",
        f"its pictures are {sizes}: LeRobot does not resize, so open the cameras at these sizes",
    ]
    if policy.config.reads_pickup:
        notes.append(
            f"it reads {ENVIRONMENT_STATE}, the pickup point in metres, which LeRobot's robots do not give"
        )
    return notes


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
