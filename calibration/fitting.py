"""Whether a calibration that was not measured just now can be the one of the arm that is connected."""

from __future__ import annotations

from collections.abc import Mapping

from calibration.arm import Stored
from calibration.sweep import FULL_TURN_JOINT, PLAUSIBLE_SPAN_DEG, plausible
from robot.calibration_file import DEG_PER_TICK, Calibration
from robot.errors import CalibrationError
from robot.joints import SERVO_IDS
from robot.registers import TICKS_PER_TURN

OUTSIDE_TICKS = 50
"""A joint that rests against its stop may stand so far (4 degrees) outside its range."""


def spans_deg(calibration: Calibration) -> dict[str, float]:
    """Joint -> how far it can go."""
    return {joint: (e.range_max - e.range_min) * DEG_PER_TICK for joint, e in calibration.joints.items()}


def require_possible(calibration: Calibration) -> None:
    """Refuse what no SO-101 has.

    Raises:
        CalibrationError: a joint has another servo id than ours, or a range that none can have; the message
            names each.
    """
    wrong = [
        f"{joint} has servo {entry.id} instead of {SERVO_IDS[joint]}"
        for joint, entry in calibration.joints.items()
        if entry.id != SERVO_IDS[joint]
    ]
    wrong += [
        f"{joint} goes through {span_deg:.0f} degrees (expected {PLAUSIBLE_SPAN_DEG[joint][0]:.0f} to "
        f"{PLAUSIBLE_SPAN_DEG[joint][1]:.0f})"
        for joint, span_deg in spans_deg(calibration).items()
        if joint != FULL_TURN_JOINT and not plausible(joint, span_deg)
    ]
    if wrong:
        raise CalibrationError(
            f"{calibration.name} is of no SO-101: {', '.join(wrong)}. `so101 calibrate arm` without --import "
            "measures this arm in two minutes"
        )


def require_inside(
    calibration: Calibration, held: Mapping[str, Stored], position_ticks: Mapping[str, int]
) -> None:
    """Refuse a calibration under which a joint stands where it cannot: it is another arm's.

    Args:
        calibration: what the servos are to hold.
        held: joint -> what its servo holds now.
        position_ticks: joint -> what its servo reads now, with the offset in it.

    Raises:
        CalibrationError: it names every such joint, what it would read, and its range.
    """
    wrong = []
    for joint, entry in calibration.joints.items():
        reads = (position_ticks[joint] + held[joint].homing_offset - entry.homing_offset) % TICKS_PER_TURN
        low, high = entry.range_min - OUTSIDE_TICKS, entry.range_max + OUTSIDE_TICKS
        if not any(low <= reads + turn <= high for turn in (-TICKS_PER_TURN, 0, TICKS_PER_TURN)):
            wrong.append(f"{joint} would read {reads}, its range is {entry.range_min}..{entry.range_max}")
    if wrong:
        raise CalibrationError(
            f"{calibration.name} is not of this arm: {', '.join(wrong)}. Give this arm's own file, or "
            "measure it with `so101 calibrate arm` without --import"
        )
