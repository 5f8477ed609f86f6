from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.sweep import (
    MIDDLE_TICK,
    PLAUSIBLE_SPAN_DEG,
    JointSweep,
    calibration_from,
    home,
    roll_limits_deg,
    wrap,
)
from robot.calibration_file import DEG_PER_TICK, MAX_OFFSET, MAX_TICK
from robot.errors import CalibrationError
from robot.joints import ARM_JOINTS, GRIPPER, JOINTS
from robot.registers import TICKS_PER_TURN, encode_signed


class Servo:
    """A servo whose horn was put on anywhere: its reading follows the joint's angle."""

    def __init__(self, horn: int, offset: int) -> None:
        self.horn, self.offset = horn, offset

    def reads(self, angle_ticks: int) -> int:
        return (self.horn + angle_ticks - self.offset) % TICKS_PER_TURN


def swept(servo: Servo, start: int, span: int, step: int) -> JointSweep:
    """From ``start`` to one stop, to the other, and back; the range is 0..span in the joint's own ticks."""
    path = [*range(start, span, step), *range(span, 0, -step), *range(0, start, step)]
    sweep = JointSweep(servo.reads(start))
    for angle in path:
        sweep.add(servo.reads(angle))
    return sweep


horns = st.integers(0, MAX_TICK)
offsets = st.integers(-MAX_OFFSET, MAX_OFFSET)
spans = st.sampled_from(JOINTS).flatmap(
    lambda joint: st.tuples(
        st.just(joint),
        st.integers(
            int(PLAUSIBLE_SPAN_DEG[joint][0] / DEG_PER_TICK) + 1,
            int(PLAUSIBLE_SPAN_DEG[joint][1] / DEG_PER_TICK),
        ),
    )
)


@given(horns, offsets, spans, st.floats(0, 1), st.integers(1, 500))
def test_wherever_the_horn_was_put_no_range_crosses_the_wrap(
    horn: int, offset: int, joint_span: tuple[str, int], start: float, step: int
) -> None:
    joint, span = joint_span
    sweep = swept(Servo(horn, offset), round(start * span), span, step)
    entry = home(joint, sweep.low, sweep.high, offset)
    encode_signed(entry.homing_offset, 11)  # the register holds it
    homed = Servo(horn, entry.homing_offset)
    seen_low, seen_high = sweep.low - sweep.now, sweep.high - sweep.now
    end = path_end(round(start * span), span, step)
    ends = homed.reads(end + seen_low), homed.reads(end + seen_high)
    middle = homed.reads(end + (seen_low + seen_high) // 2)
    assert abs(middle - MIDDLE_TICK) <= 1
    assert ends[0] < middle < ends[1]
    if joint == "wrist_roll":
        assert (entry.range_min, entry.range_max) == (0, MAX_TICK)
    else:
        assert (entry.range_min, entry.range_max) == ends
        # A tick of LeRobot's degree; zero is the middle, and the ends are as far from it as the joint turned.
        zero = (entry.range_min + entry.range_max) / 2
        assert (ends[1] - zero) * DEG_PER_TICK == pytest.approx(sweep.span_deg / 2)


def path_end(start: int, span: int, step: int) -> int:
    path = [*range(start, span, step), *range(span, 0, -step), *range(0, start, step)]
    return path[-1] if path else start


@given(horns, st.lists(st.integers(-MAX_TICK // 9, MAX_TICK // 9), min_size=1, max_size=200))
def test_readings_are_counted_on_across_the_wrap(horn: int, steps: list[int]) -> None:
    sweep, angle, seen = JointSweep(horn), 0, [0]
    for step in steps:
        angle += step
        seen.append(angle)
        sweep.add((horn + angle) % TICKS_PER_TURN)
    assert (sweep.now, sweep.low, sweep.high) == (horn + angle, horn + min(seen), horn + max(seen))


@given(horns, st.integers(600, 3400))
def test_one_wild_reading_widens_nothing(horn: int, jump: int) -> None:
    sweep = JointSweep(horn)
    sweep.add((horn + 10) % TICKS_PER_TURN)
    sweep.add((horn + jump) % TICKS_PER_TURN)
    sweep.add((horn + 20) % TICKS_PER_TURN)
    assert (sweep.low, sweep.high) == (horn, horn + 20)


@given(horns, st.integers(600, 3400))
def test_a_wild_first_reading_widens_nothing(horn: int, jump: int) -> None:
    sweep = JointSweep((horn + jump) % TICKS_PER_TURN)
    for angle in (0, 10, 20):
        sweep.add((horn + angle) % TICKS_PER_TURN)
    assert (sweep.start, sweep.low, sweep.high) == (horn, horn, horn + 20)


def test_a_jump_that_stays_is_believed() -> None:
    sweep = JointSweep(100)
    for reading in (100, 1100, 1100):
        sweep.add(reading)
    assert (sweep.low, sweep.high) == (100, 1100)


def test_middle_that_needs_the_one_offset_the_register_lacks_reads_a_tick_beside() -> None:
    low = high = MIDDLE_TICK + 2048
    entry = home("elbow_flex", low - 1000, high + 1000, 0)
    assert entry.homing_offset == MAX_OFFSET
    assert (entry.range_min + entry.range_max) / 2 == MIDDLE_TICK + 1


@pytest.mark.parametrize("span", [0, MAX_TICK, 5000])
def test_a_joint_that_was_not_moved_or_turned_round_is_refused(span: int) -> None:
    with pytest.raises(CalibrationError, match="elbow_flex went through"):
        home("elbow_flex", 100, 100 + span, 0)


@given(st.floats(*PLAUSIBLE_SPAN_DEG["wrist_roll"]))
def test_a_gate_keeps_wrist_roll_off_its_stops(span_deg: float) -> None:
    low, high = roll_limits_deg(span_deg)
    assert low == -high and 5.0 <= span_deg / 2 - high < 6.0


def typical(joint: str) -> JointSweep:
    low, high = PLAUSIBLE_SPAN_DEG[joint]
    sweep = JointSweep(3000)
    sweep.high = 3000 + round((low + high) / 2 / DEG_PER_TICK)
    return sweep


def test_implausible_joints_are_all_named() -> None:
    sweeps = {joint: typical(joint) for joint in JOINTS}
    sweeps["elbow_flex"] = JointSweep(5)
    sweeps["gripper"].high += 2000
    with pytest.raises(CalibrationError, match=r"elbow_flex 0 degrees.*gripper 2\d\d degrees"):
        calibration_from(sweeps, dict.fromkeys(JOINTS, 0), "test")


def test_zero_degrees_is_the_middle_of_every_arm_joint() -> None:
    sweeps = {joint: typical(joint) for joint in JOINTS}
    calibration = calibration_from(sweeps, dict.fromkeys(JOINTS, -700), "test")
    low, high = calibration.limits()
    assert low[:GRIPPER] == pytest.approx(-high[:GRIPPER])
    for i in range(len(ARM_JOINTS)):
        offset = calibration.joints[JOINTS[i]].homing_offset
        middle = (sweeps[JOINTS[i]].low + sweeps[JOINTS[i]].high) // 2 - 700 - offset
        assert abs(wrap(middle - MIDDLE_TICK)) <= 1
