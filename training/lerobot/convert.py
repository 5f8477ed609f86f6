"""From what a checkpoint of LeRobot says to a policy of ours that computes the same.

Whatever LeRobot leaves unsaid (units, frame rate, which camera is which) is asked for. A checkpoint in
-100..100 of the swept range gets its arm's calibration folded into the normalisation, so that the policy
is in degrees like every other here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inference.ensembler import ExecutionConfig
from inference.manifest import Range
from robot.calibration_file import Calibration
from robot.errors import ConfigError, DatasetError
from robot.joints import N_JOINTS
from robot.recording.features import ACTION, ENVIRONMENT_STATE, STATE
from robot.recording.found_units import FoundUnits
from robot.recording.reader import Dataset
from robot.recording.replay import UnitMap
from robot.recording.writer import Units
from training.lerobot.normalisation import normalising
from training.lerobot.pretrained import Pretrained
from training.lerobot.shape import Cameras, name_cameras, policy_shape
from training.lerobot.statistics import COLOURS, control_limits, open_dataset, statistics_of, user_stats
from training.lerobot.units import find_units
from training.policies.base import Stats
from training.policies.lerobot_act import LeRobotAct, LeRobotActConfig


@dataclass(frozen=True)
class Choices:
    """What the user says of a checkpoint."""

    units: Units | None = None
    calibration: Calibration | None = None
    """Of the arm that the checkpoint's data were recorded with; needed for ``m100_100``."""
    fps: float | None = None
    cameras: Mapping[str, str] = field(default_factory=dict)
    """Camera of the robot -> feature of the checkpoint."""
    pickup: bool = False
    """Whether the environment state is the pickup point, x and y in metres in the arm's base frame."""
    dataset: Path | None = None
    """The dataset that it was trained on: for statistics, frame rate and units that are missing."""


@dataclass(frozen=True)
class Imported:
    """A checkpoint of LeRobot as a policy of ours."""

    policy: LeRobotAct
    cameras: Cameras
    """Camera of the robot -> feature of the checkpoint."""
    stats: Stats
    units: FoundUnits
    unit_map: UnitMap | None
    """From the checkpoint's units to degrees; ``None`` where these are degrees."""
    fps: float
    limits: dict[str, Range]
    """Where the arm was sent in the training data, degrees and percent."""
    execution: ExecutionConfig
    dataset: Dataset | None

    @property
    def config(self) -> LeRobotActConfig:
        """The policy's configuration."""
        return self.policy.config


def convert(source: Pretrained, choices: Choices) -> Imported:
    """Build the policy.

    Raises:
        ConfigError: something is missing or cannot be taken over; the message says what to add.
        DatasetError: the dataset cannot be read.
    """
    cameras = name_cameras(source, choices.cameras)
    config = policy_shape(source, cameras, pickup=choices.pickup)
    dataset = None if choices.dataset is None else open_dataset(choices.dataset)
    features = [*cameras.values(), STATE, ACTION]
    features += [ENVIRONMENT_STATE] if config.reads_pickup else []
    known = {feature: statistics_of(source, feature, dataset) for feature in features}
    units = find_units(choices.units, known, dataset)
    unit_map = _unit_map(units, choices.calibration)
    factor = np.ones(N_JOINTS) if unit_map is None else unit_map.to_user(np.ones(N_JOINTS))
    stats = user_stats(source, known, factor)
    fps, limits = _fps(choices.fps, dataset, source), control_limits(known[ACTION], dataset, factor)
    policy = LeRobotAct(config, stats)
    _load(policy, source, turned=factor < 0.0)
    for index, feature in enumerate(cameras.values()):
        affine = normalising(source.modes[feature], known[feature], COLOURS)
        policy.image_mean[index] = torch.from_numpy(affine.mean)
        policy.image_std[index] = torch.from_numpy(affine.scale)
    policy.eval()
    return Imported(policy, cameras, stats, units, unit_map, fps, limits, _execution(source), dataset)


def _unit_map(units: FoundUnits, calibration: Calibration | None) -> UnitMap | None:
    if units.units == "degrees":
        return None
    if calibration is None:
        raise ConfigError(
            f"the checkpoint is in -100..100 of the swept range ({units.why}), and how far that is only the "
            "arm's calibration says: give LeRobot's file with --calibration, such as "
            "~/.cache/huggingface/lerobot/calibration/robots/so101_follower/ID.json"
        )
    return UnitMap(units.units, calibration)


def _load(policy: LeRobotAct, source: Pretrained, turned: NDArray[np.bool_]) -> None:
    """Put the weights in, all of them and no others; joints in ``turned`` count the other way round."""
    ours, theirs = policy.model.state_dict(), dict(source.tensors)
    lacking, strange = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
    if lacking or strange:
        raise ConfigError(
            f"{source.folder}: the weights are not those of its config.json: "
            + "; ".join(
                f"{what} {', '.join(names[:3])}{' and more' if len(names) > 3 else ''}"
                for what, names in (("missing are", lacking), ("not known are", strange))
                if names
            )
        )
    for name, tensor in ours.items():
        if theirs[name].shape != tensor.shape:
            raise ConfigError(
                f"{source.folder}: {name} has shape {tuple(theirs[name].shape)}, its config.json asks for "
                f"{tuple(tensor.shape)}"
            )
        if not torch.isfinite(theirs[name]).all():
            raise ConfigError(f"{source.folder}: {name} has numbers that are not finite")
    sign = torch.from_numpy(np.where(turned, -1.0, 1.0)).float()
    for name in (
        "encoder_robot_state_input_proj.weight",
        "vae_encoder_robot_state_input_proj.weight",
        "vae_encoder_action_input_proj.weight",
        "action_head.bias",
    ):
        if name in theirs:
            theirs[name] = theirs[name] * sign
    theirs["action_head.weight"] = theirs["action_head.weight"] * sign[:, None]
    policy.model.load_state_dict(theirs)


def _fps(asked: float | None, dataset: Dataset | None, source: Pretrained) -> float:
    if asked is not None and not 0.0 < asked < math.inf:
        raise ConfigError(f"--fps {asked:g} is no frame rate: it is above 0, such as 30")
    if dataset is None and source.trained_on is not None:
        try:
            dataset = Dataset(source.trained_on)
        except DatasetError:  # such as one that LeRobot 0.3 wrote, in a version before v3.0
            if asked is None:
                raise
    if dataset is not None and asked is not None and asked != dataset.fps:
        raise ConfigError(f"--fps {asked:g} cannot be: {dataset.root} was recorded at {dataset.fps:g}")
    if dataset is not None:
        return dataset.fps
    if asked is None:
        raise ConfigError(
            "a checkpoint does not say how many actions a second it plans: give the frame rate of its "
            "dataset with --fps (30 where LeRobot was told nothing else), or the dataset with --dataset"
        )
    return asked


def _execution(source: Pretrained) -> ExecutionConfig:
    """How LeRobot would run it: each action queue to its end, or ensembling."""
    config = source.config
    if config.temporal_ensemble_coeff is not None:
        return ExecutionConfig(mode="ensemble", m=config.temporal_ensemble_coeff)
    if config.n_action_steps >= config.chunk_size:
        return ExecutionConfig(mode="open_loop")
    return ExecutionConfig(mode="receding", actions_per_inference=config.n_action_steps)
