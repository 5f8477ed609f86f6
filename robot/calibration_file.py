"""LeRobot's calibration files: strict reading, and the map between ticks and user units they define.

The file is ``{motor: {id, drive_mode, homing_offset, range_min, range_max}}`` for the six joints. Formulas
are LeRobot's: an arm joint reads ``(ticks - (range_min + range_max) / 2) * 360 / 4095`` degrees, whatever
its drive mode; the gripper reads the percentage of its range, from the other end where drive mode is 1.
Other than LeRobot, a position is rounded to the nearest tick, not cut.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import CalibrationError
from robot.joints import ARM_JOINTS, GRIPPER, JOINTS
from robot.packets import MAX_ID
from robot.registers import TICKS_PER_TURN
from robot.seams import FloatArray

IntArray = NDArray[np.int64]

MAX_TICK = TICKS_PER_TURN - 1
MAX_OFFSET = 2047
"""Largest homing offset that the servo's sign-magnitude register holds."""

DEG_PER_TICK = 360.0 / MAX_TICK
"""LeRobot divides the turn by 4095, not 4096; datasets are written with this."""

_BOUNDS: dict[str, tuple[int, int]] = {
    "id": (0, MAX_ID),
    "drive_mode": (0, 1),
    "homing_offset": (-MAX_OFFSET, MAX_OFFSET),
    "range_min": (0, MAX_TICK),
    "range_max": (0, MAX_TICK),
}


@dataclass(frozen=True, slots=True)
class JointCalibration:
    """One joint's entry, as in the file. All positions in ticks."""

    id: int
    drive_mode: int
    homing_offset: int
    range_min: int
    range_max: int


class Calibration:
    """What one arm's servos mean, in the order of ``JOINTS``.

    Args:
        joints: joint name -> entry, all six.
        name: where it came from, for errors.

    Attributes:
        ids: servo id of each joint.
        range_min: lowest tick of each joint, shape (6,).
        range_max: highest tick of each joint, shape (6,).
        units_per_tick: user units for one tick, signed, shape (6,).
        hash: first 12 hex digits of the sha256 of the entries; two files that say the same have the same.

    Raises:
        CalibrationError: a joint is missing or unknown, an id is double, or a number is impossible.
    """

    def __init__(self, joints: Mapping[str, JointCalibration], name: str = "calibration") -> None:
        self.name = name
        _check(joints, name)
        entries = [joints[joint] for joint in JOINTS]
        self.joints: dict[str, JointCalibration] = dict(zip(JOINTS, entries, strict=True))
        self.ids: tuple[int, ...] = tuple(entry.id for entry in entries)
        self.range_min = _frozen([entry.range_min for entry in entries])
        self.range_max = _frozen([entry.range_max for entry in entries])
        self.homing_offset = _frozen([entry.homing_offset for entry in entries])
        span = (self.range_max - self.range_min).astype(np.float64)
        scale = np.full(len(JOINTS), DEG_PER_TICK)
        zero = (self.range_min + self.range_max) / 2.0
        inverted = entries[GRIPPER].drive_mode == 1
        scale[GRIPPER] = (-100.0 if inverted else 100.0) / span[GRIPPER]
        zero[GRIPPER] = self.range_max[GRIPPER] if inverted else self.range_min[GRIPPER]
        scale.setflags(write=False)
        self.units_per_tick: FloatArray = scale
        self._zero: FloatArray = zero
        canonical = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"))
        self.hash = hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def to_user(self, ticks: NDArray[Any]) -> FloatArray:
        """Positions in ticks, shape (..., 6), to user units. The gripper is clamped to 0..100, as in
        LeRobot.
        """
        user: FloatArray = (np.asarray(ticks, dtype=np.float64) - self._zero) * self.units_per_tick
        user[..., GRIPPER] = np.clip(user[..., GRIPPER], 0.0, 100.0)
        return user

    def to_ticks(self, user: FloatArray) -> IntArray:
        """User units, shape (..., 6), to the nearest tick inside each joint's range (the servos clamp there
        too).

        Raises:
            ValueError: a number is not finite. It has no tick; a cast would silently send the joint to 0.
        """
        if not np.isfinite(user).all():
            raise ValueError(f"a goal must be finite, got {np.asarray(user).tolist()}")
        ticks = np.clip(np.rint(user / self.units_per_tick + self._zero), self.range_min, self.range_max)
        return ticks.astype(np.int64)

    def limits(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest position of each joint in user units, shape (6,) each."""
        ends = np.stack([self.to_user(self.range_min), self.to_user(self.range_max)])
        return ends.min(axis=0), ends.max(axis=0)

    def as_json(self) -> dict[str, dict[str, int]]:
        """The file's content."""
        return {joint: {key: getattr(entry, key) for key in _BOUNDS} for joint, entry in self.joints.items()}

    def save(self, path: Path) -> None:
        """Write the file as LeRobot does (indent 4), whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(json.dumps(self.as_json(), indent=4) + "\n", encoding="utf-8")
        temporary.replace(path)


def replace_calibration(calibration: Calibration, path: Path) -> Path | None:
    """Save a calibration, keep the one that was there, and read back what was written.

    Returns:
        Where an older, different file was copied to: ``NAME.json.1`` or the next free number.

    Raises:
        CalibrationError: the file cannot be written, or does not read back the same.
    """
    backup: Path | None = None
    try:
        old = path.read_bytes() if path.exists() else None
        if old is not None and old != (json.dumps(calibration.as_json(), indent=4) + "\n").encode():
            backup = next(p for n in count(1) if not (p := path.with_name(f"{path.name}.{n}")).exists())
            backup.write_bytes(old)
        calibration.save(path)
    except OSError as error:
        raise CalibrationError(f"{path} cannot be written: {error.strerror}") from error
    if load_calibration(path).as_json() != calibration.as_json():
        raise CalibrationError(f"{path} does not read back as it was written: check the disk")
    return backup


def load_calibration(path: Path) -> Calibration:
    """Read a LeRobot calibration file.

    Raises:
        CalibrationError: the file is absent, is no JSON, is in the old LeRobot schema or phosphobot's, or has
            numbers that cannot be; the message says which and what to do.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CalibrationError(f"no calibration at {path}: `so101 calibrate arm` makes one") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CalibrationError(
            f"{path} is no readable JSON ({error}): restore it, or make it again with `so101 calibrate arm`"
        ) from error
    return parse_calibration(raw, str(path))


def parse_calibration(raw: Any, name: str) -> Calibration:
    """Check decoded JSON; ``name`` is used in errors. Raises as :func:`load_calibration`."""
    if not isinstance(raw, dict):
        raise CalibrationError(f"{name} must hold an object {{motor: {{...}}}}, not {type(raw).__name__}")
    _refuse_foreign(raw, name)
    joints: dict[str, JointCalibration] = {}
    for joint, entry in raw.items():
        if not isinstance(entry, dict):
            raise CalibrationError(f"{name}: {joint} must be an object with {', '.join(_BOUNDS)}")
        missing, unknown = set(_BOUNDS) - set(entry), set(entry) - set(_BOUNDS)
        if missing or unknown:
            what = [f"lacks {', '.join(sorted(missing))}"] if missing else []
            what += [f"has unknown keys {', '.join(sorted(map(str, unknown)))}"] if unknown else []
            raise CalibrationError(f"{name}: {joint} {' and '.join(what)}")
        for key, value in entry.items():
            if not isinstance(value, int) or isinstance(value, bool):
                raise CalibrationError(f"{name}: {joint}.{key} must be a whole number, got {value!r}")
        joints[joint] = JointCalibration(**entry)
    return Calibration(joints, name)


def _refuse_foreign(raw: dict[str, Any], name: str) -> None:
    if "calib_mode" in raw or any(isinstance(raw.get(key), list) for key in ("homing_offset", "motor_names")):
        raise CalibrationError(
            f"{name} is in LeRobot's old schema (lists and calib_mode, before May 2025): its offsets were "
            "applied in software and mean nothing to the servos now; calibrate the arm with `so101 calibrate "
            "arm`, whose --import reads what such a file still says"
        )
    if "servos_offsets" in raw or "servos_calibration_position" in raw:
        raise CalibrationError(
            f"{name} is a phosphobot file (servos_offsets): its zero pose and signs are others; "
            "calibrate the arm with `so101 calibrate arm`, whose --import reads what such a file still says"
        )


def _check(joints: Mapping[str, JointCalibration], name: str) -> None:
    missing = [joint for joint in JOINTS if joint not in joints]
    unknown = sorted(set(joints) - set(JOINTS))
    if missing or unknown:
        what = [f"lacks {', '.join(missing)}"] if missing else []
        what += [f"has {', '.join(unknown)}"] if unknown else []
        raise CalibrationError(
            f"{name} {' and '.join(what)}: an SO-101 has {', '.join(ARM_JOINTS)} and gripper"
        )
    for joint, entry in joints.items():
        for key, (low, high) in _BOUNDS.items():
            value = getattr(entry, key)
            if not low <= value <= high:
                raise CalibrationError(f"{name}: {joint}.{key} is {value}, it must lie in {low}..{high}")
        if entry.range_min >= entry.range_max:
            raise CalibrationError(
                f"{name}: {joint} has range_min {entry.range_min} and range_max {entry.range_max}: it was "
                "not moved through its range; calibrate again"
            )
    ids = [joints[joint].id for joint in JOINTS]
    if len(set(ids)) != len(ids):
        raise CalibrationError(f"{name}: servo ids must differ, got {ids}")


def _frozen(values: list[int]) -> IntArray:
    array = np.array(values, dtype=np.int64)
    array.setflags(write=False)
    return array
