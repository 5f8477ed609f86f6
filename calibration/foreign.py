"""Calibration files of others: what they know, and what of it fits LeRobot's present format.

**LeRobot before May 2025** (lists, ``calib_mode``). Degrees were computed in software, ``(±present +
homing_offset) / 2048 * 180``, with the servos' own offset at 0, which its set-up wrote. Zero was the arm
stretched out horizontally; now it is the middle of each range, which lay at 90 degrees for shoulder_lift and
elbow_flex (LeRobot's own conversion of old episodes says so) and at 0 for the others. For the gripper the
file has the closed and the open position. Ranges of the arm's joints it does not have.

**phosphobot** (``servos_offsets``). Readings in the zero pose of its simulation, which is the middle of each
range, set by eye; the servo's own offset was changed just before and is in no file, so it has to be read from
the servos. The gripper's closed and open positions are there, ranges of the arm's joints are not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from calibration.arm import Stored
from calibration.sweep import FULL_TURN_JOINT, MIDDLE_TICK, home, wrap
from robot.calibration_file import (
    DEG_PER_TICK,
    MAX_TICK,
    Calibration,
    JointCalibration,
    parse_calibration,
)
from robot.errors import CalibrationError
from robot.joints import ARM_JOINTS, GRIPPER, JOINTS

QUARTER_TURN_JOINTS = ("shoulder_lift", "elbow_flex")
"""Joints whose middle was 90 degrees in LeRobot's old frame."""

NOMINAL_SPAN_DEG: dict[str, float] = {
    "shoulder_pan": 220.0,
    "shoulder_lift": 200.0,
    "elbow_flex": 193.7,
    "wrist_flex": 190.0,
}
"""From stop to stop in the published model; for whoever asks for nominal ranges."""

MAX_SPAN_DEG = 300.0
"""What a servo holds as limits counts as a range of these joints only below this; 0..4095 are no limits."""

MAX_BESIDE_DEG = 15.0
"""Limits whose middle is further from the file's are of another time than the file."""

Kind = Literal["lerobot", "old", "phosphobot"]
_TITLES: dict[Kind, str] = {
    "lerobot": "LeRobot's present format",
    "old": "LeRobot's old format",
    "phosphobot": "phosphobot's format",
}


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """What a file says.

    Attributes:
        kind: whose it is.
        path: where it came from.
        middles: arm joint -> reading in the middle of its range, in ticks.
        gripper: readings closed and open, in ticks.
        complete: the calibration itself, where the file is LeRobot's present format.
    """

    kind: Kind
    path: Path
    middles: dict[str, int]
    gripper: tuple[int, int]
    complete: Calibration | None = None

    @property
    def title(self) -> str:
        """Whose format it is."""
        return _TITLES[self.kind]

    @property
    def unknown(self) -> tuple[str, ...]:
        """What an arm needs and this file does not say, one sentence each."""
        if self.kind == "lerobot":
            return ()
        ranges = f"the ranges of {', '.join(NOMINAL_SPAN_DEG)}: no such file has them"
        if self.kind == "old":
            return (ranges,)
        return (ranges, "the homing offsets that the servos hold: only the servos know")

    def convert(self, held: dict[str, Stored] | None = None, *, nominal: bool = False) -> Calibration:
        """The calibration in LeRobot's present format.

        Args:
            held: joint -> what its servo holds now; ``None`` where no arm is connected.
            nominal: take the model's ranges, laid around the middle, where none are known.

        Raises:
            CalibrationError: something is missing; the message says what, and what to do.
        """
        if self.complete is not None:
            return self.complete
        offsets = self._offsets(held)
        joints: dict[str, JointCalibration] = {}
        for joint in ARM_JOINTS:
            servo = None if held is None else held[joint]
            low, high = self._range(joint, offsets[joint], servo, nominal)
            joints[joint] = home(joint, low, high, offsets[joint])
        joints[JOINTS[GRIPPER]] = home(JOINTS[GRIPPER], *self.gripper, offsets[JOINTS[GRIPPER]])
        return Calibration(joints, str(self.path))

    def _offsets(self, held: dict[str, Stored] | None) -> dict[str, int]:
        """The homing offset with which each reading in the file was taken."""
        if self.kind == "old":
            return dict.fromkeys(JOINTS, 0)
        if held is None:
            raise CalibrationError(
                f"{self.path} is in {self.title}: what it says counts from homing offsets that only the "
                "servos know; give --port, so that they can be read"
            )
        return {joint: held[joint].homing_offset for joint in JOINTS}

    def _range(self, joint: str, offset: int, servo: Stored | None, nominal: bool) -> tuple[int, int]:
        """Both ends as the file's readings would show them."""
        middle = self.middles[joint]
        if joint == FULL_TURN_JOINT:
            return middle - MIDDLE_TICK, middle + MIDDLE_TICK - 1  # home() writes 0..4095 for it
        why = "--port reads what the servo holds"
        if servo is not None:
            half = (servo.max_position - servo.min_position) // 2
            beside = wrap(servo.min_position + half + servo.homing_offset - offset - middle)
            if not 0 < 2 * half * DEG_PER_TICK < MAX_SPAN_DEG:
                why = "the servo has no limits either"
            elif abs(beside) * DEG_PER_TICK > MAX_BESIDE_DEG:
                why = f"the servo's limits lie {beside * DEG_PER_TICK:+.0f} degrees beside the file's middle"
            else:
                return middle + beside - half, middle + beside + half
        if nominal:
            half = round(NOMINAL_SPAN_DEG[joint] / 2 / DEG_PER_TICK)
            return middle - half, middle + half
        raise CalibrationError(
            f"{self.path} is in {self.title}, which has no range for {joint}; {why}. `so101 calibrate arm` "
            "measures it in two minutes; --nominal-ranges takes the model's, some degrees off the real stops"
        )


def read_foreign(path: Path) -> ForeignFile:
    """Read a calibration file of LeRobot, old or new, or of phosphobot.

    Raises:
        CalibrationError: the file is absent, unreadable, none of these, or says what cannot be.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CalibrationError(f"{path} is no readable JSON: {error}") from error
    if not isinstance(raw, dict):
        raise CalibrationError(f"{path} must hold an object, not {type(raw).__name__}")
    try:
        if "calib_mode" in raw:
            return _old_lerobot(path, raw)
        if "servos_offsets" in raw:
            return _phosphobot(path, raw)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CalibrationError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    return ForeignFile("lerobot", path, {}, (0, 0), parse_calibration(raw, str(path)))


def _old_lerobot(path: Path, raw: dict[str, Any]) -> ForeignFile:
    names = [str(name).removeprefix("main_") for name in raw["motor_names"]]
    if sorted(names) != sorted(JOINTS):
        raise CalibrationError(f"{path} is of another robot: it has {', '.join(names)}")
    modes = dict(zip(names, raw["calib_mode"], strict=True))
    expected = dict.fromkeys(ARM_JOINTS, "DEGREE") | {JOINTS[GRIPPER]: "LINEAR"}
    if modes != expected:
        raise CalibrationError(f"{path}: calib_mode is {modes}, an SO-100 or SO-101 has {expected}")
    offsets = dict(zip(names, map(int, raw["homing_offset"]), strict=True))
    drive = dict(zip(names, map(int, raw["drive_mode"]), strict=True))
    middles: dict[str, int] = {}
    for joint in ARM_JOINTS:
        # (±present + homing_offset) is 0, or a quarter turn, in the middle of the range.
        wanted = 1024 if joint in QUARTER_TURN_JOINTS else 0
        middles[joint] = (wanted - offsets[joint]) * (-1 if drive[joint] else 1)
    index = names.index(JOINTS[GRIPPER])
    return ForeignFile("old", path, middles, _gripper(path, raw["start_pos"][index], raw["end_pos"][index]))


def _phosphobot(path: Path, raw: dict[str, Any]) -> ForeignFile:
    zero = [round(float(value)) for value in raw["servos_offsets"]]
    second = [round(float(value)) for value in raw["servos_calibration_position"]]
    if len(zero) != len(JOINTS) or len(second) != len(JOINTS):
        raise CalibrationError(f"{path} is of another robot: it has {len(zero)} servos, an SO-101 has 6")
    middles = dict(zip(ARM_JOINTS, zero, strict=False))
    return ForeignFile("phosphobot", path, middles, _gripper(path, zero[GRIPPER], second[GRIPPER]))


def _gripper(path: Path, closed: int, opened: int) -> tuple[int, int]:
    closed, opened = int(closed), int(opened)
    if not closed < opened < closed + MAX_TICK:
        raise CalibrationError(
            f"{path}: the gripper is closed at {closed} and open at {opened}, an SO-101's opens "
            "towards higher readings: calibrate the arm with `so101 calibrate arm`"
        )
    return closed, opened
