"""A new dataset's ``info.json``, and the lock that makes its writer the only one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.features import DEFAULT_FEATURES, Feature, arm_features, camera_feature
from robot.recording.scratch import MERGE_SCRATCH, SCRATCH
from robot.recording.video import Codec

Units = Literal["degrees", "m100_100"]
"""Unit of the five arm joints: degrees, or -100..100 of the swept range. The gripper is always 0..100."""


def new_info(
    *,
    fps: int,
    cameras: Mapping[str, tuple[int, int]],
    robot_type: str,
    units: Units,
    calibration_sha256: str | None,
    environment_state: bool,
    extra_features: Iterable[Feature],
    extra_info: Mapping[str, Any] | None,
    codec: Codec,
) -> dict[str, Any]:
    """The ``info.json`` of a dataset without episodes; see :meth:`DatasetWriter.create`.

    Raises:
        DatasetError: a feature cannot be written, or two have the same name.
    """
    if fps < 1:
        raise DatasetError(f"fps must be at least 1, not {fps}")
    features = [
        *arm_features(environment_state=environment_state),
        *(
            camera_feature(name, height, width, codec.info(height, width, fps))
            for name, (height, width) in cameras.items()
        ),
        *extra_features,
        *DEFAULT_FEATURES,
    ]
    names = [feature.name for feature in features]
    if len(set(names)) != len(names):
        raise DatasetError(f"feature names must differ, got {names}")
    extra = {"units": units, "calibration_sha256": calibration_sha256, **(extra_info or {})}
    return blank_info(fps, robot_type, {feature.name: feature.to_info() for feature in features}, extra)


def blank_info(
    fps: int, robot_type: str | None, features: Mapping[str, Any], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The ``info.json`` of a dataset without episodes, from its columns and its ``so101`` block."""
    return {
        "codebase_version": layout.CODEBASE_VERSION,
        "robot_type": robot_type,
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": layout.CHUNKS_SIZE,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": "0:0"},
        "data_path": layout.DATA_PATH,
        "video_path": layout.VIDEO_PATH if any(f["dtype"] == "video" for f in features.values()) else None,
        "features": dict(features),
        layout.EXTRA_KEY: dict(extra),
    }


def acquire(root: Path) -> int:
    """Lock a dataset's folder for one writer; the lock dies with the process.

    Raises:
        DatasetError: there is no such folder, or it is being written.
    """
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError as error:
        raise DatasetError(f"no {root}: this is not a LeRobot dataset") from error
    except NotADirectoryError as error:
        raise DatasetError(f"{root} is a file: a dataset is a folder, choose another name") from error
    except OSError as error:
        raise DatasetError(f"{root} cannot be opened: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise DatasetError(f"{root} is being written by another process") from error
    return descriptor


def occupied(root: Path) -> bool:
    """Whether a folder holds more than what a writer leaves that is killed before it has made a dataset."""
    scratch = {root / SCRATCH, root / MERGE_SCRATCH}
    meta = (root / layout.INFO_FILE).parent
    return any(
        path not in scratch and (path != meta or not path.is_dir() or any(path.iterdir()))
        for path in root.iterdir()
    )
