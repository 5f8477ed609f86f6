"""From a sweep through the joints' ranges to homing offsets and limits, without I/O.

Positions are the servos' own readings. A reading wraps from 4095 to 0 wherever the horn happened to be put
on, so readings are first counted on continuously; only when the whole range is known is the homing offset
chosen, with the middle of the range at 2047. No range can then cross the wrap, however the servo was mounted.

The servo's law is LeRobot's: present = actual - homing_offset, modulo a turn.
"""

from __future__ import annotations

import math

from robot.calibration_file import DEG_PER_TICK, MAX_OFFSET, MAX_TICK, Calibration, JointCalibration
from robot.errors import CalibrationError
from robot.joints import JOINTS, SERVO_IDS
from robot.registers import TICKS_PER_TURN

MIDDLE_TICK = 2047
"""What the middle of a range reads after homing; LeRobot's half turn, ``int(4095 / 2)``."""

FULL_TURN_JOINT = "wrist_roll"
"""LeRobot writes this joint's range as 0..4095, and so do we: see docs/calibration.md."""

ROLL_MARGIN_DEG = 5.0
"""How far before its stops a gate should end :data:`FULL_TURN_JOINT`'s travel."""

MAX_STEP_TICKS = 512
"""A hand does not turn a joint further than 45 degrees between two readings: what jumps further is taken for
a wild reading until a second one agrees.
"""

PLAUSIBLE_SPAN_DEG: dict[str, tuple[float, float]] = {
    "shoulder_pan": (160.0, 270.0),
    "shoulder_lift": (160.0, 240.0),
    "elbow_flex": (150.0, 230.0),
    "wrist_flex": (140.0, 240.0),
    "wrist_roll": (240.0, 358.0),
    "gripper": (70.0, 160.0),
}
"""Spans from stop to stop that an SO-101 can have: the published model's 220, 200, 194, 190, 320 and 110
degrees, and 208..234, 200..209, 193..201, 176..209, 334..341 and 105..132 in calibration files of real
followers and leaders, with room on both sides.
"""


def wrap(ticks: int) -> int:
    """The same angle within half a turn of zero: -2048..2047."""
    half = TICKS_PER_TURN // 2
    return (ticks + half) % TICKS_PER_TURN - half


class JointSweep:
    """One joint's readings, counted on across the wrap.

    Attributes:
        now: newest position in ticks; may lie outside 0..4095.
        low: lowest position so far.
        high: highest position so far.
        start: position at the beginning.
    """

    def __init__(self, reading: int) -> None:
        self._begin(reading)
        self._begun = False
        self._doubtful: int | None = None

    def _begin(self, reading: int) -> None:
        self.start = self.now = self.low = self.high = reading

    def add(self, reading: int) -> None:
        """Take a reading; one that jumps counts only when the next one says the same, the first one too."""
        step = wrap(reading - self.now)
        if not self._begun and abs(step) > MAX_STEP_TICKS:
            self._begin(reading)
            return
        self._begun = True
        if abs(step) > MAX_STEP_TICKS and not self._confirmed(reading):
            self._doubtful = reading
            return
        self._doubtful = None
        self.now += step
        self.low, self.high = min(self.low, self.now), max(self.high, self.now)

    def _confirmed(self, reading: int) -> bool:
        return self._doubtful is not None and abs(wrap(reading - self._doubtful)) <= MAX_STEP_TICKS

    @property
    def span(self) -> int:
        """From the lowest to the highest position in ticks."""
        return self.high - self.low

    @property
    def span_deg(self) -> float:
        """As :attr:`span`, in degrees."""
        return self.span * DEG_PER_TICK


def plausible(joint: str, span_deg: float) -> bool:
    """Whether a joint of an SO-101 can have this range from stop to stop."""
    low, high = PLAUSIBLE_SPAN_DEG[joint]
    return low <= span_deg <= high


def home(joint: str, low: int, high: int, offset: int) -> JointCalibration:
    """Homing offset and limits of one joint.

    Args:
        joint: its name.
        low: lowest position, counted on continuously, with ``offset`` in the servo.
        high: highest position.
        offset: homing offset that the servo had meanwhile.

    Raises:
        CalibrationError: the range is none, or is a turn or more.
    """
    if not 0 < high - low < MAX_TICK:
        raise CalibrationError(
            f"{joint} went through {(high - low) * DEG_PER_TICK:.0f} degrees: from stop to stop it goes "
            "through more than none and less than a turn; sweep again"
        )
    middle = (low + high) // 2
    homing = wrap(middle + offset - MIDDLE_TICK)
    if (
        homing < -MAX_OFFSET
    ):  # half a turn, which the register has neither way: the middle reads a tick beside
        homing = MAX_OFFSET
    reads = (middle + offset - homing) % TICKS_PER_TURN
    range_min, range_max = reads - (middle - low), reads + (high - middle)
    if joint == FULL_TURN_JOINT:
        range_min, range_max = 0, MAX_TICK
    return JointCalibration(SERVO_IDS[joint], 0, homing, range_min, range_max)


def roll_limits_deg(span_deg: float) -> tuple[float, float]:
    """Limits of a robot's gate for :data:`FULL_TURN_JOINT`, whose stops its servo does not know.

    Args:
        span_deg: from stop to stop as it was swept; zero is its middle.
    """
    high = math.floor(span_deg / 2 - ROLL_MARGIN_DEG)
    return -float(high), float(high)


def calibration_from(sweeps: dict[str, JointSweep], offsets: dict[str, int], name: str) -> Calibration:
    """The calibration of an arm that was swept.

    Args:
        sweeps: joint -> its sweep, all six.
        offsets: joint -> homing offset that its servo had meanwhile.
        name: what errors call it.

    Raises:
        CalibrationError: a range that no SO-101 has; the message names every such joint.
    """
    wrong = [
        f"{joint} {sweeps[joint].span_deg:.0f} degrees (expected "
        f"{PLAUSIBLE_SPAN_DEG[joint][0]:.0f} to {PLAUSIBLE_SPAN_DEG[joint][1]:.0f})"
        for joint in JOINTS
        if not plausible(joint, sweeps[joint].span_deg)
    ]
    if wrong:
        raise CalibrationError(
            f"no SO-101 has these ranges: {', '.join(wrong)}. Move each joint slowly from stop to stop; "
            "where a range is too large, another servo answers or a horn slips"
        )
    joints = {joint: home(joint, sweeps[joint].low, sweeps[joint].high, offsets[joint]) for joint in JOINTS}
    return Calibration(joints, name)
