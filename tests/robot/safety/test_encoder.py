"""Readings that no joint can have made, among readings of all that joints can do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.joints import JOINTS
from robot.safety.encoder import FASTEST, EncoderWatch
from robot.seams import ArmState, FloatArray

DT_S = 1 / 60
WRAP = 180.0


def reading(position: FloatArray | list[float], time_s: float) -> ArmState:
    zeros = np.zeros(6)
    return ArmState(
        time_s, np.array(position, dtype=float), zeros, zeros, zeros, zeros, zeros, np.zeros(6, np.uint8)
    )


def at(joint: int, value: float) -> list[float]:
    return [value if i == joint else 10.0 for i in range(6)]


def watched(ticks: int = 5) -> EncoderWatch:
    watch = EncoderWatch(DT_S)
    for k in range(ticks):
        assert watch.screen(reading([10.0] * 6, k * DT_S))[1] == ()
    return watch


@pytest.mark.parametrize("jump", [WRAP, -WRAP, 45.0, -25.0])
def test_jump_is_not_passed_on_and_three_in_a_row_are_a_fault(jump: float) -> None:
    watch = watched()
    for k in range(5, 40):
        state, jumped = watch.screen(reading(at(2, 10.0 + jump), k * DT_S))
        assert jumped == (JOINTS[2],)
        assert state.position.tolist() == [10.0] * 6
        assert state.velocity.tolist() == [0.0] * 6
        assert [f.joint for f in watch.findings] == ([JOINTS[2]] if k >= 7 else [])
    state, jumped = watch.screen(reading([11.0] * 6, 40 * DT_S))
    assert jumped == ()
    assert state.position.tolist() == [11.0] * 6
    assert watch.findings == []


def test_one_or_two_wrong_readings_are_nobodys_business() -> None:
    watch = watched()
    for k in range(5, 60):
        wrong = k % 3 != 0
        _, jumped = watch.screen(reading(at(4, -WRAP if wrong else 10.0), k * DT_S))
        assert bool(jumped) == wrong
        assert watch.findings == []


@given(st.lists(st.tuples(st.floats(0.005, 1.2), st.floats(-1, 1), st.booleans()), min_size=2, max_size=40))
def test_what_a_motor_can_do_is_believed_whatever_ticks_are_missed(
    steps: list[tuple[float, float, bool]],
) -> None:
    """Motion at up to full speed, read at any moments, of which some are missed."""
    watch = EncoderWatch(DT_S)
    time_s, position = 0.0, np.full(6, 10.0)
    watch.screen(reading(position, time_s))
    for wait_s, share, missed in steps:
        tick_s = max(wait_s, DT_S)
        time_s += tick_s
        position = position + share * FASTEST * 0.99 * tick_s
        _, jumped = watch.screen(reading(position, time_s), JOINTS if missed else ())
        assert jumped == ()
    assert watch.findings == []


def test_process_that_stood_still_believes_where_the_arm_has_gone_meanwhile() -> None:
    watch = watched()
    assert watch.screen(reading(at(0, 100.0), 4 * DT_S + 0.3))[1] == ()


def test_joint_that_comes_back_near_its_last_place_is_believed_again_after_a_fault() -> None:
    for off, wrong in ((20.0, False), (22.0, True)):  # three ticks at full speed, and the slack
        watch = watched()
        for k in range(5, 60):
            watch.screen(reading(at(3, 120.0), k * DT_S))
        assert watch.findings
        assert bool(watch.screen(reading(at(3, 10.0 + off), 60 * DT_S))[1]) == wrong


def test_limp_arm_is_moved_by_hands() -> None:
    watch = watched()
    for k, place in enumerate((90.0, -90.0, 10.0), start=5):
        assert watch.screen(reading(at(1, place), k * DT_S), limp=JOINTS)[1] == ()
    assert watch.screen(reading([10.0] * 6, 8 * DT_S))[1] == ()


def test_only_the_limp_joint_is_moved_by_hands() -> None:
    watch = watched()
    for k, place in enumerate((90.0, -90.0, 90.0, -90.0), start=5):
        moved = [10.0, place, 10.0, place, 10.0, 10.0]
        state, jumped = watch.screen(reading(moved, k * DT_S), limp=JOINTS[1:2])
        assert jumped == (JOINTS[3],)
        assert state.position.tolist() == [10.0, place, 10.0, 10.0, 10.0, 10.0]
    assert [finding.joint for finding in watch.findings] == [JOINTS[3]]


def test_fault_ends_when_the_arm_is_limp_or_was_gone() -> None:
    watch = watched()
    for k in range(5, 10):
        watch.screen(reading(at(3, 120.0), k * DT_S))
    assert watch.findings
    watch.screen(reading(at(3, 120.0), 10 * DT_S), limp=JOINTS)
    assert watch.findings == []
    for k in range(11, 16):
        watch.screen(reading(at(3, 10.0), k * DT_S))
    assert watch.findings
    watch.screen(reading(at(3, 10.0), 15 * DT_S + 0.45))
    assert watch.findings
    watch.screen(reading(at(3, 10.0), 15 * DT_S + 0.97))  # the port was away for more than half a second
    assert watch.findings == []


def test_joint_that_is_missing_is_not_counted_as_wrong() -> None:
    watch = watched()
    state, _ = watch.screen(reading(at(3, 120.0), 5 * DT_S))
    believed = state.position[3]
    for k in range(6, 30):
        state, jumped = watch.screen(reading(at(3, 120.0), k * DT_S), (JOINTS[3],))
        assert (state.position[3], jumped) == (believed, ())  # nor passed on once nobody can say better
    assert watch.findings == []
