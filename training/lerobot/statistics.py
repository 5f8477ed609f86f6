"""A checkpoint's statistics, made whole from its dataset where they are not, and in user units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from inference.manifest import Range
from robot.errors import ConfigError
from robot.joints import JOINTS, N_JOINTS
from robot.recording.features import ACTION, ENVIRONMENT_STATE, MOTOR_NAMES, STATE
from robot.recording.reader import Dataset
from robot.seams import Float32Array, FloatArray
from training.lerobot.normalisation import needed, normalising, restoring
from training.lerobot.pretrained import FeatureStats, Pretrained
from training.policies.base import COORDINATES, Stats

COLOURS = 3


def open_dataset(root: Path) -> Dataset:
    """The dataset that a checkpoint was trained on.

    Raises:
        DatasetError: it cannot be read.
        ConfigError: it is of another arm, or empty.
    """
    if root.is_file():
        raise ConfigError(f"{root} is a bare table without statistics: give the folder of a dataset")
    dataset = Dataset(root)
    if not dataset.episodes:
        raise ConfigError(f"{root} has no episodes: give the dataset that the checkpoint was trained on")
    for name in (STATE, ACTION):
        entry = dataset.info["features"].get(name)
        if entry is None:
            raise ConfigError(f"{root} has no {name}: give the dataset that the checkpoint was trained on")
        names = entry.get("names")
        names = names.get("motors") if isinstance(names, dict) else names
        # LeRobot called them main_shoulder_pan at first.
        bare = [str(motor).removeprefix("main_").removesuffix(".pos") for motor in names or JOINTS]
        if tuple(bare) != JOINTS:
            raise ConfigError(
                f"{root}: {name} is of {', '.join(bare)}; an SO-101's joints are "
                f"{', '.join(MOTOR_NAMES)}, in this order"
            )
    return dataset


def statistics_of(source: Pretrained, feature: str, dataset: Dataset | None) -> FeatureStats:
    """Those of the checkpoint, or of the dataset where it has not what its normalisation needs.

    Raises:
        ConfigError: neither has them, or they are not numbers.
    """
    width = COLOURS if source.features[feature].type == "VISUAL" else source.features[feature].shape[0]
    wanted = needed(source.modes[feature])
    stats = source.stats.get(feature, {})
    if not all(name in stats for name in wanted):
        if dataset is None:
            where = source.trained_on or "DIR"
            raise ConfigError(
                f"{source.folder} has no {' and '.join(wanted)} of {feature}, which its normalisation "
                f"({source.modes[feature]}) needs. LeRobot would run it without normalising and say "
                f"nothing; give the dataset that it was trained on: --dataset {where}"
            )
        theirs = dataset.stats().get(feature, {})
        stats = {name: np.asarray(values, np.float64).reshape(-1) for name, values in theirs.items()}
        if not all(name in stats for name in wanted):
            raise ConfigError(f"{dataset.root} has no {' and '.join(wanted)} of {feature} in its statistics")
    for name in wanted:
        if stats[name].shape != (width,) or not np.isfinite(stats[name]).all():
            raise ConfigError(
                f"the {name} of {feature} must be {width} finite numbers, got {stats[name].tolist()}: give "
                "the dataset that it was trained on, or copy the checkpoint again"
            )
    return stats


def user_stats(source: Pretrained, known: Mapping[str, FeatureStats], factor: FloatArray) -> Stats:
    """Mean and standard deviation in degrees, percent and metres.

    The small number that LeRobot adds to a standard deviation is in them. A joint that is turned round by its
    calibration (``factor`` below 0) keeps a standard deviation above 0: its weights are turned instead.
    """

    def of(feature: str, width: int, factor: FloatArray) -> tuple[Float32Array, Float32Array]:
        if feature not in known:
            return np.zeros(width, np.float32), np.ones(width, np.float32)
        change = restoring if feature == ACTION else normalising
        affine = change(source.modes[feature], known[feature], width)
        return (affine.mean * factor).astype(np.float32), (affine.scale * np.abs(factor)).astype(np.float32)

    return Stats(
        *of(STATE, N_JOINTS, factor),
        *of(ACTION, N_JOINTS, factor),
        *of(ENVIRONMENT_STATE, COORDINATES, np.ones(COORDINATES)),
    )


def control_limits(action: FeatureStats, dataset: Dataset | None, factor: FloatArray) -> dict[str, Range]:
    """Where the arm was sent, degrees and percent. Raises ConfigError where nothing says it."""

    def told(stats: FeatureStats) -> bool:
        ends = [stats.get(name, np.empty(0)) for name in ("min", "max")]
        return all(values.shape == (N_JOINTS,) and np.isfinite(values).all() for values in ends)

    stats = action
    if not told(stats) and dataset is not None:
        stats = {name: np.asarray(values) for name, values in dataset.stats().get(ACTION, {}).items()}
    if not told(stats):
        raise ConfigError(
            f"the smallest and largest actions, {N_JOINTS} finite numbers each by which a robot is checked "
            "before it may run, are not in the checkpoint: give the dataset that it was trained on with "
            "--dataset"
        )
    ends = np.stack([stats["min"], stats["max"]]) * factor
    return {
        joint: Range(min=float(ends[:, i].min()), max=float(ends[:, i].max()))
        for i, joint in enumerate(JOINTS)
    }
