"""Degrees or -100..100 of the swept range: LeRobot's checkpoints do not say, so it is found out or asked."""

from __future__ import annotations

from collections.abc import Mapping

from robot.errors import ConfigError
from robot.joints import ARM_JOINTS, GRIPPER
from robot.recording.features import ACTION, STATE
from robot.recording.found_units import FoundUnits, units_found
from robot.recording.reader import Dataset
from robot.recording.writer import Units
from training.lerobot.pretrained import FeatureStats

SWEPT_END = 100.0
TOLERANCE = 1e-3
_HOW = "say --units degrees (LeRobot since 0.4.4) or --units m100_100 (before; -100..100 of the swept range)"


def find_units(asked: Units | None, stats: Mapping[str, FeatureStats], dataset: Dataset | None) -> FoundUnits:
    """The units of a checkpoint's state and actions.

    What was asked for is believed unless the numbers prove otherwise; then what the dataset says, then what
    its values look like, then what the checkpoint's own statistics look like.

    Raises:
        ConfigError: nothing tells, or two things say different.
    """
    seen = units_in_statistics(stats)
    said = None if dataset is None else units_found(dataset)
    if asked is not None:
        for found in (said, seen):
            if found is not None and found.units != asked:
                raise ConfigError(f"--units {asked} cannot be: {found.why}, which is {found.units}")
        return FoundUnits(asked, "asked for")
    if said is not None and seen is not None and said.units != seen.units:
        raise ConfigError(
            f"the checkpoint is in {seen.units} ({seen.why}), but {said.why}: give the dataset that it was "
            "trained on, in the units that it was trained in"
        )
    if (found := said or seen) is not None:
        return found
    raise ConfigError(f"nothing tells in which units the checkpoint's joints are: {_HOW}")


def units_in_statistics(stats: Mapping[str, FeatureStats]) -> FoundUnits | None:
    """The units that statistics prove: nothing beyond 100 is -100..100, nothing else is cut off at 100.

    Raises:
        ConfigError: they prove that it is neither.
    """
    ends: list[str] = []
    for feature in (STATE, ACTION):
        for name in ("min", "max", "mean"):
            values = stats.get(feature, {}).get(name)
            if values is None or len(values) <= GRIPPER:
                continue
            for joint, value in zip(ARM_JOINTS, values[:GRIPPER], strict=True):
                where = f"{feature} has {value:.2f} as {name} of {joint}"
                if abs(value) > 360.0:
                    raise ConfigError(f"{where}: that is neither degrees nor -100..100, but a servo's steps")
                if abs(value) > SWEPT_END + TOLERANCE:
                    return FoundUnits("degrees", f"{where}, beyond -100..100")
                if name != "mean" and abs(abs(value) - SWEPT_END) < TOLERANCE:
                    ends.append(where)
    return FoundUnits("m100_100", " and ".join(ends[:2])) if len(ends) >= 2 else None
