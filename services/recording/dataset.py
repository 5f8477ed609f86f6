"""The dataset that a session records into: made, or opened again where it fits."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robot.config import CameraConfig, RobotConfig
from robot.errors import DatasetError
from robot.recording.creation import occupied
from robot.recording.features import ENVIRONMENT_STATE, IMAGE_PREFIX, SUCCESS, Feature, parse_features
from robot.recording.files import read_json
from robot.recording.hardware import choose_codec
from robot.recording.meta import EXTRA_KEY, INFO_FILE
from robot.recording.writer import DatasetWriter
from services.recording.options import RecordingOptions

LOSS_MASK = "loss_mask"
"""0 for rows that are seen but never learned: what a policy does before it is corrected."""
INTERVENTION = "intervention"
"""1 for rows in which a person corrected a policy."""
TIME = "timing.time_s"
"""Time since the episode's first row on the machine's clock; LeRobot's ``timestamp`` is frame / fps."""
STATE_AGE = "timing.state_age_s"
"""Time of the row since the servos were read."""


def age_column(camera: str) -> str:
    """Column with the time of the row since a camera's picture was captured."""
    return f"timing.{camera}_age_s"


def extra_features(cameras: tuple[CameraConfig, ...]) -> tuple[Feature, ...]:
    """The columns that a recording has beyond LeRobot's."""
    return (
        Feature(LOSS_MASK, "float32", (1,)),
        Feature(INTERVENTION, "int64", (1,)),
        Feature(SUCCESS, "int64", (1,)),
        Feature(TIME, "float64", (1,)),
        Feature(STATE_AGE, "float32", (1,)),
        *(Feature(age_column(camera.name), "float32", (1,)) for camera in cameras),
    )


def open_dataset(options: RecordingOptions, config: RobotConfig, calibration_hash: str) -> DatasetWriter:
    """Make the dataset, or open the one that is there and recover what a killed recorder left.

    Args:
        options: of the session.
        config: of the robot.
        calibration_hash: of the calibration that degrees are computed with.

    Raises:
        DatasetError: it cannot be written, or what is there was recorded otherwise; each difference is named.
    """
    if (options.out / INFO_FILE).exists():
        check_resumable(options, config, calibration_hash)
        return DatasetWriter.open(options.out, options.codec)
    return DatasetWriter.create(
        options.out,
        fps=options.fps,
        cameras={camera.name: (camera.height_px, camera.width_px) for camera in config.cameras},
        calibration_sha256=calibration_hash,
        environment_state=options.pickup != "none",
        extra_features=extra_features(config.cameras),
        extra_info={
            "robot": config.name,
            "control_hz": config.control_hz,
            "teleop": options.teleop,
            "corrections": options.corrections,
            **({"seed": options.seed} if options.teleop == "expert" else {}),
            "camera_fps": {camera.name: camera.fps for camera in config.cameras},
            "recorded_at": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "recorded_with": _version(),
        },
        codec=options.codec,
    )


def check_resumable(options: RecordingOptions, config: RobotConfig, calibration_hash: str) -> None:
    """Whether the dataset that is there can take this session's episodes, or else one can be made.

    Raises:
        DatasetError: it cannot; what is wrong and what to do.
    """
    if options.codec != "auto":
        choose_codec(options.codec)
    try:
        there = (options.out / INFO_FILE).exists()
        _check_folder(options.out, there=there)
    except OSError as error:
        words = f"{options.out} cannot be used: {error.strerror}. Choose another folder with --out"
        raise DatasetError(words) from error
    if not there:
        return
    found = _differences(read_json(options.out / INFO_FILE), options, config, calibration_hash)
    if found:
        raise DatasetError(
            f"{options.out} was recorded otherwise: {'; '.join(found)}. Choose another folder with --out, or "
            "record as it was"
        )


def _check_folder(folder: Path, *, there: bool) -> None:
    """Whether a dataset can be made in a folder, or goes on in it. Raises DatasetError, OSError."""
    if folder.exists() and not there and (not folder.is_dir() or occupied(folder)):
        words = f"{folder} is there, but is no dataset: choose another folder with --out"
        raise DatasetError(words)
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DatasetError(
            f"{folder} cannot be written: see to its permissions, or choose another with --out"
        )


def _differences(
    info: Mapping[str, Any], options: RecordingOptions, config: RobotConfig, calibration_hash: str
) -> list[str]:
    features = {feature.name: feature for feature in parse_features(info.get("features", {}))}
    extra = info.get(EXTRA_KEY) or {}
    found = []
    if info.get("fps") != options.fps:
        found.append(f"it has {info.get('fps')} rows a second, now {options.fps} are asked for")
    there = {n.removeprefix(IMAGE_PREFIX): f.shape[:2] for n, f in features.items() if f.is_video}
    wanted = {camera.name: (camera.height_px, camera.width_px) for camera in config.cameras}
    for name in sorted(there.keys() | wanted.keys()):
        if there.get(name) != wanted.get(name):
            found.append(f"camera {name}: {_size(there.get(name))} there, {_size(wanted.get(name))} now")
    if (ENVIRONMENT_STATE in features) != (options.pickup != "none"):
        has = "has" if ENVIRONMENT_STATE in features else "does not have"
        found.append(f"it {has} the column {ENVIRONMENT_STATE}, where to pick up (--pickup, --no-pickup)")
    needed = {feature.name: feature.dtype for feature in extra_features(config.cameras)}
    lacking = [
        name for name, dtype in needed.items() if name not in features or features[name].dtype != dtype
    ]
    if lacking and not found:
        found.append(f"it lacks the columns {', '.join(lacking)}")
    if extra.get("units") != "degrees":
        found.append(f"its units are {extra.get('units')}, ours are degrees")
    if extra.get("calibration_sha256") != calibration_hash:
        found.append(
            f"the arm was calibrated otherwise ({extra.get('calibration_sha256')} there, {calibration_hash} "
            "now), so its degrees do not mean the same"
        )
    return found


def _size(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else f"{shape[1]}x{shape[0]}"


def _version() -> str:
    try:
        return f"so101-deploy {importlib.metadata.version('so101-deploy')}"
    except importlib.metadata.PackageNotFoundError:
        return "so101-deploy"


def free_bytes(folder: Path) -> int:
    """Room on the disk that a folder is on, or will be on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
