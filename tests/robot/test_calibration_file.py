from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.calibration_file import (
    Calibration,
    load_calibration,
    parse_calibration,
    replace_calibration,
)
from robot.errors import CalibrationError
from robot.joints import GRIPPER, JOINTS
from robot.twin.world import twin_calibration

REAL_FILES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "calibration"


def changed(joint: str, **entry: Any) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(json.dumps(twin_calibration()))
    raw[joint] |= entry
    return raw


def real_files(pattern: str) -> list[Path]:
    files = sorted(REAL_FILES.glob(pattern))
    if not files:
        pytest.skip(f"no recorded calibration files {pattern} at {REAL_FILES}")
    return files


def test_degrees_are_lerobots(calibration: Calibration) -> None:
    low, high = calibration.range_min[0], calibration.range_max[0]
    user = calibration.to_user(np.full(6, 2500))
    assert user[0] == pytest.approx((2500 - (low + high) / 2) * 360 / 4095)
    assert user[GRIPPER] == pytest.approx(100 * (2500 - 1500) / (2751 - 1500))


def test_gripper_runs_from_the_other_end_in_drive_mode_1() -> None:
    inverted = parse_calibration(changed("gripper", drive_mode=1), "test")
    ends = inverted.to_user(np.stack([inverted.range_min, inverted.range_max]))[:, GRIPPER]
    np.testing.assert_allclose(ends, [100.0, 0.0])
    assert inverted.units_per_tick[GRIPPER] < 0


def test_drive_mode_does_not_turn_an_arm_joint_round(calibration: Calibration) -> None:
    # LeRobot ignores it for degrees; doing otherwise would mirror every dataset.
    other = parse_calibration(changed("elbow_flex", drive_mode=1), "test")
    ticks = np.full(6, 2222)
    np.testing.assert_array_equal(other.to_user(ticks), calibration.to_user(ticks))


@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_every_tick_survives_the_round_trip(fractions: list[float]) -> None:
    calibration = parse_calibration(twin_calibration(), "test")
    span = calibration.range_max - calibration.range_min
    ticks = calibration.range_min + np.rint(np.array(fractions) * span).astype(np.int64)
    np.testing.assert_array_equal(calibration.to_ticks(calibration.to_user(ticks)), ticks)


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=6))
def test_ticks_stay_in_range_and_are_the_nearest(user: list[float]) -> None:
    calibration = parse_calibration(twin_calibration(), "test")
    low, high = calibration.limits()
    ticks = calibration.to_ticks(np.array(user))
    assert ((calibration.range_min <= ticks) & (ticks <= calibration.range_max)).all()
    error = np.abs(calibration.to_user(ticks) - np.clip(user, low, high))
    assert (error <= 0.5 * np.abs(calibration.units_per_tick) + 1e-9).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_has_no_tick(calibration: Calibration, bad: float) -> None:
    user = np.zeros(6)
    user[GRIPPER] = bad
    with pytest.raises(ValueError, match="finite"):
        calibration.to_ticks(user)


def test_saved_file_is_the_same_calibration(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "arm" / "follower.json"
    calibration.save(path)
    again = load_calibration(path)
    assert again.as_json() == calibration.as_json()
    assert again.hash == calibration.hash
    assert len(calibration.hash) == 12
    assert parse_calibration(changed("gripper", range_max=2752), "other").hash != calibration.hash


def test_an_older_file_is_kept_once_for_each_change(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "arm.json"
    assert replace_calibration(calibration, path) is None
    assert replace_calibration(calibration, path) is None, "the same file needs no backup"
    other = parse_calibration(changed("gripper", range_max=2752), "other")
    first, second = replace_calibration(other, path), replace_calibration(calibration, path)
    assert [first, second] == [tmp_path / "arm.json.1", tmp_path / "arm.json.2"]
    assert load_calibration(tmp_path / "arm.json.1").hash == calibration.hash
    assert load_calibration(tmp_path / "arm.json.2").hash == other.hash
    assert load_calibration(path).hash == calibration.hash


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "arm.json"
    path.write_text("mine", encoding="utf-8")

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(CalibrationError, match="No space left"):
        replace_calibration(calibration, path)
    assert path.read_bytes() == b"mine"


def test_order_in_the_file_does_not_matter(calibration: Calibration) -> None:
    backwards = dict(reversed(twin_calibration().items()))
    assert parse_calibration(backwards, "test").hash == calibration.hash


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "must hold an object"),
        ({}, "lacks shoulder_pan"),
        (twin_calibration() | {"elbow": twin_calibration()["gripper"]}, "has elbow"),
        (changed("gripper", id=True), r"gripper.id must be a whole number"),
        (changed("gripper", range_min=1500.0), r"gripper.range_min must be a whole number"),
        (changed("gripper", extra=1), "unknown keys extra"),
        (changed("gripper", id=5), "ids must differ"),
        (changed("gripper", homing_offset=2048), r"-2047..2047"),
        (changed("gripper", range_max=4096), r"0..4095"),
        (changed("gripper", range_min=2751), "not moved through its range"),
        (changed("gripper", drive_mode=2), r"0..1"),
        ({**twin_calibration(), "gripper": [1]}, "gripper must be an object"),
        ({**twin_calibration(), "gripper": {"id": 6}}, "gripper lacks drive_mode"),
    ],
)
def test_what_cannot_be_is_refused(raw: Any, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        parse_calibration(raw, "test.json")


def test_absent_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="so101 calibrate arm"):
        load_calibration(tmp_path / "none.json")
    (tmp_path / "half.json").write_text("{", encoding="utf-8")
    with pytest.raises(CalibrationError, match="no readable JSON"):
        load_calibration(tmp_path / "half.json")


def test_old_and_foreign_schemas_are_named() -> None:
    old = {
        "homing_offset": [0] * 6,
        "drive_mode": [0] * 6,
        "calib_mode": ["DEGREE"] * 6,
        "motor_names": list(JOINTS),
    }
    with pytest.raises(CalibrationError, match="LeRobot's old schema"):
        parse_calibration(old, "test.json")
    with pytest.raises(CalibrationError, match="phosphobot"):
        parse_calibration({"name": "so-100", "servos_offsets": [2048.0] * 6}, "test.json")


def test_every_recorded_lerobot_file_is_read() -> None:
    files = [*real_files("NikitaSuprun*.json"), *real_files("Sachin*.json")]
    for path in files:
        calibration = load_calibration(path)
        assert calibration.as_json() == json.loads(path.read_text(encoding="utf-8"))
        low, high = calibration.limits()
        assert (low[:GRIPPER] < 0).all()
        assert (high[:GRIPPER] > 0).all()
        assert (low[GRIPPER], high[GRIPPER]) == (0.0, 100.0)
        np.testing.assert_allclose(low[:GRIPPER], -high[:GRIPPER])  # zero is the middle


FOREIGN = [("so10?__main_*.json", "old schema"), ("calibration__*", "phosphobot")]


@pytest.mark.parametrize(("pattern", "name"), FOREIGN)
def test_every_recorded_foreign_file_is_refused_by_name(pattern: str, name: str) -> None:
    for path in real_files(pattern):
        with pytest.raises(CalibrationError, match=name):
            load_calibration(path)
