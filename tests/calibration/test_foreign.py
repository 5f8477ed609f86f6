from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.arm import Stored
from calibration.fitting import require_inside, require_possible
from calibration.foreign import NOMINAL_SPAN_DEG, read_foreign
from calibration.sweep import MIDDLE_TICK, wrap
from robot.calibration_file import DEG_PER_TICK, MAX_OFFSET, MAX_TICK, Calibration, parse_calibration
from robot.errors import CalibrationError
from robot.joints import JOINTS
from robot.twin.world import twin_calibration

REAL_FILES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "calibration"

OLD: dict[str, Any] = {
    "homing_offset": [-1800, 3080, -1030, -1970, 2020, -2430],
    "drive_mode": [0, 1, 0, 0, 1, 0],
    "start_pos": [1800, 3070, 1040, 1970, 2060, 2050],
    "end_pos": [2820, -2056, 2054, 2994, -996, 3460],
    "calib_mode": ["DEGREE"] * 5 + ["LINEAR"],
    "motor_names": list(JOINTS),
}
PHOSPHOBOT: dict[str, Any] = {
    "name": "so-100",
    "servos_offsets": [2041.0, 3141.0, 1047.0, 2001.0, 1104.0, 1797.0],
    "servos_calibration_position": [1087.0, 4181.0, 35.0, 950.0, 2168.0, 2909.0],
    "servos_offsets_signs": [-1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
}


def held_by(offset: int, low: int, high: int) -> Stored:
    return Stored(777, offset, low, high, 0, 0)


NO_LIMITS = {joint: held_by(0, 0, MAX_TICK) for joint in JOINTS}


def file(tmp_path: Path, raw: Any) -> Path:
    path = tmp_path / "foreign.json"
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


def old_degrees(joint: str, actual_tick: int) -> float:
    """LeRobot's law before May 2025, for a servo with offset 0."""
    i = JOINTS.index(joint)
    sign = -1 if OLD["drive_mode"][i] else 1
    return float((sign * actual_tick + OLD["homing_offset"][i]) / 2048 * 180)


@pytest.mark.parametrize(
    ("joint", "degrees"),
    [("shoulder_pan", 0), ("shoulder_lift", 90), ("elbow_flex", 90), ("wrist_flex", 0), ("wrist_roll", 0)],
)
def test_zero_of_the_old_frame_is_found_again(tmp_path: Path, joint: str, degrees: float) -> None:
    calibration = read_foreign(file(tmp_path, OLD)).convert(nominal=True)
    actual = MIDDLE_TICK + calibration.joints[joint].homing_offset
    turns = (old_degrees(joint, actual) - degrees) / 360
    assert abs(turns - round(turns)) * 360 < 0.2


def test_old_gripper_keeps_its_ends(tmp_path: Path) -> None:
    gripper = read_foreign(file(tmp_path, OLD)).convert(nominal=True).joints["gripper"]
    assert (gripper.range_min + gripper.homing_offset, gripper.range_max + gripper.homing_offset) == (
        2050,
        3460,
    )


def test_ranges_are_never_guessed(tmp_path: Path) -> None:
    foreign = read_foreign(file(tmp_path, OLD))
    assert any("ranges" in line for line in foreign.unknown)
    with pytest.raises(CalibrationError, match=r"no range for shoulder_pan.*--port.*--nominal-ranges"):
        foreign.convert()
    with pytest.raises(CalibrationError, match="the servo has no limits either"):
        foreign.convert(NO_LIMITS)


def test_nominal_ranges_are_the_models_around_the_middle(tmp_path: Path) -> None:
    calibration = read_foreign(file(tmp_path, OLD)).convert(NO_LIMITS, nominal=True)
    for joint, span_deg in NOMINAL_SPAN_DEG.items():
        entry = calibration.joints[joint]
        assert (entry.range_max - entry.range_min) * DEG_PER_TICK == pytest.approx(span_deg, abs=0.2)
        assert (entry.range_max + entry.range_min) / 2 == pytest.approx(MIDDLE_TICK, abs=1)
    assert (calibration.joints["wrist_roll"].range_min, calibration.joints["wrist_roll"].range_max) == (
        0,
        MAX_TICK,
    )


@given(st.integers(-MAX_OFFSET, MAX_OFFSET), st.integers(-80, 80))
def test_limits_that_the_servos_hold_become_the_ranges(offset: int, beside: int) -> None:
    """Whatever offset the servo has meanwhile, its limits are where its joint stops."""
    foreign = read_foreign_old()
    held = dict(NO_LIMITS)
    for joint in NOMINAL_SPAN_DEG:
        actual_middle = foreign.middles[joint] + beside
        reads = (actual_middle - offset) % (MAX_TICK + 1)
        low, high = reads - 1100, reads + 1100
        if low < 0 or high > MAX_TICK:  # such a servo would have no limits to hold
            return
        held[joint] = held_by(offset, low, high)
    calibration = foreign.convert(held)
    for joint, servo in held.items():
        if joint in NOMINAL_SPAN_DEG:
            entry = calibration.joints[joint]
            assert entry.range_max - entry.range_min == 2200
            assert wrap(entry.range_min + entry.homing_offset - servo.min_position - offset) == 0


def read_foreign_old() -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return read_foreign(file(Path(folder), OLD))


def test_limits_of_another_time_are_refused(tmp_path: Path) -> None:
    held = NO_LIMITS | {"shoulder_pan": held_by(0, 100, 2300)}
    with pytest.raises(CalibrationError, match=r"limits lie -\d+ degrees beside"):
        read_foreign(file(tmp_path, OLD)).convert(held)


def test_phosphobot_counts_from_what_the_servos_hold(tmp_path: Path) -> None:
    foreign = read_foreign(file(tmp_path, PHOSPHOBOT))
    with pytest.raises(CalibrationError, match="only the servos know"):
        foreign.convert(nominal=True)
    held = {joint: held_by(-300, 0, MAX_TICK) for joint in JOINTS}
    calibration = foreign.convert(held, nominal=True)
    for i, joint in enumerate(JOINTS[:5]):
        middle = PHOSPHOBOT["servos_offsets"][i] - 300 - calibration.joints[joint].homing_offset
        assert abs(wrap(int(middle) - MIDDLE_TICK)) <= 1


def test_present_format_is_taken_as_it_is(tmp_path: Path) -> None:
    foreign = read_foreign(file(tmp_path, twin_calibration()))
    assert foreign.unknown == ()
    assert foreign.convert().as_json() == twin_calibration()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "must hold an object"),
        (OLD | {"motor_names": ["a"] * 6}, "another robot"),
        (OLD | {"calib_mode": ["DEGREE"] * 6}, "calib_mode"),
        (OLD | {"homing_offset": [1, 2]}, "damaged"),
        (OLD | {"end_pos": [0] * 6}, "opens towards higher"),
        (PHOSPHOBOT | {"servos_offsets": [1.0]}, "1 servos"),
        (PHOSPHOBOT | {"servos_offsets": ["x"] * 6}, "damaged"),
        (PHOSPHOBOT | {"servos_offsets": [float("inf")] * 6}, "damaged"),
        ({"unknown": 1}, "unknown must be an object"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, raw: Any, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        read_foreign(file(tmp_path, raw))


def test_every_recorded_file_is_read() -> None:
    files = sorted(REAL_FILES.glob("*.json"))
    if not files:
        pytest.skip(f"no recorded calibration files at {REAL_FILES}")
    for path in files:
        foreign = read_foreign(path)
        calibration = foreign.convert(NO_LIMITS, nominal=True)
        require_possible(calibration)
        low, high = calibration.limits()
        assert low[0] < -80 and high[0] > 80 and low[5] == 0 and high[5] == 100


def mine(**changes: dict[str, int]) -> Calibration:
    raw = twin_calibration()
    return parse_calibration(
        {joint: entry | changes.get(joint, {}) for joint, entry in raw.items()}, "f.json"
    )


def test_ids_and_ranges_of_no_so101_are_named() -> None:
    require_possible(mine())
    swapped = mine(shoulder_pan={"id": 2}, shoulder_lift={"id": 1})
    with pytest.raises(CalibrationError, match=r"shoulder_pan has servo 2 instead of 1, shoulder_lift has"):
        require_possible(swapped)
    with pytest.raises(CalibrationError, match=r"elbow_flex goes through 18 degrees \(expected 150 to 230\)"):
        require_possible(mine(elbow_flex={"range_min": 2000, "range_max": 2200}))


@pytest.mark.parametrize("held_offset", [0, -900, 2047])
def test_a_joint_that_would_stand_outside_its_range_is_named(held_offset: int) -> None:
    """Whatever offsets the servos have meanwhile: the joint's actual place counts."""
    held = {joint: held_by(held_offset, 0, MAX_TICK) for joint in JOINTS}
    own = mine()

    def reads(shift: dict[str, int]) -> dict[str, int]:
        return {
            joint: (entry.range_min - 40 + shift.get(joint, 0) + entry.homing_offset - held_offset) % 4096
            for joint, entry in own.joints.items()
        }

    require_inside(own, held, reads({}))
    low = own.joints["elbow_flex"].range_min
    with pytest.raises(
        CalibrationError, match=rf"this arm: elbow_flex would read {low - 60}, its range is {low}"
    ):
        require_inside(own, held, reads({"elbow_flex": -20, "wrist_roll": -900}))
