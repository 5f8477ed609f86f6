"""A dataset of LeRobot v2.0, v2.1 or v3.0 as a new one of v3.0 that says its units."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from robot.calibration_file import Calibration
from robot.errors import ConfigError, DatasetError
from robot.joints import N_JOINTS
from robot.recording import meta as layout
from robot.recording.convert_v2 import open_any
from robot.recording.features import ACTION, STATE
from robot.recording.reader import Dataset
from robot.recording.replay import UnitMap, units_of
from robot.recording.transfer import (
    OnEpisode,
    Transferred,
    append_episodes,
    empty_info,
    new_dataset,
    transferable,
)


def convert(
    root: Path,
    out: Path,
    *,
    units: str | None = None,
    to_degrees: bool = False,
    calibration: Calibration | None = None,
    drop: Collection[str] = (),
    skip: Collection[int] = (),
    on_episode: OnEpisode = lambda: None,
) -> Transferred:
    """Make a dataset of v3.0, an episode a file, from one of v2.0, v2.1 or v3.0, which stays as it is.

    Videos are hard-linked, or copied without encoding them again, where they can be; statistics are made
    from the data. The new folder appears when all of it is there.

    Args:
        root: the dataset.
        out: folder of the new one; it does not exist yet, or is empty.
        units: unit of its joints where it does not say so, ``degrees`` or ``m100_100``.
        to_degrees: turn ``m100_100`` into degrees with ``calibration``.
        calibration: the arm's when it was recorded.
        drop: columns and videos to leave behind.
        skip: episodes to leave behind.
        on_episode: called for each episode that has been converted.

    Raises:
        DatasetError: the dataset is broken or cannot be written as v3.0; the message names the place.
        ConfigError: units are missing, unknown or not what the dataset says.
    """
    source = open_any(root)
    said = units_of(source, units) if units is not None or to_degrees else source.units
    mapping = None
    if to_degrees:
        if calibration is None:
            raise ConfigError(
                "turning -100..100 into degrees needs the arm's calibration of that time: --calibration FILE"
            )
        if said != "m100_100":
            raise ConfigError(f"{root} is in {said} already: leave --to-degrees out")
        mapping = UnitMap("m100_100", calibration)
        said = "degrees"
    features = transferable(source, drop)
    if mapping is not None and any(features[name]["shape"] != [N_JOINTS] for name in (ACTION, STATE)):
        raise DatasetError(f"{root} is not of one arm with six joints: its units cannot be converted")
    info = empty_info(source.info, features, _extra(source, said, calibration))
    with new_dataset(out, info) as writer:
        done = append_episodes(writer, source, skip=skip, units=mapping, on_episode=on_episode)
    return replace(done, dropped=tuple(sorted(drop)))


def _extra(source: Dataset, units: str | None, calibration: Calibration | None) -> dict[str, Any]:
    extra = dict(source.info.get(layout.EXTRA_KEY, {}))
    if units is not None:
        extra["units"] = units
    if calibration is not None:
        extra["calibration_sha256"] = calibration.hash
    return {**extra, "converted_from": source.info["codebase_version"]}
