"""A stream of poses is made even, whatever the ticks see of it."""

from __future__ import annotations

import numpy as np
import pytest

from robot.seams import FloatArray
from robot.teleop.stream import PoseStream
from robot.trajectory import Motion

WAY = np.array([1.0, -0.5, 0.2, 0.0, 0.0, 0.3])
"""From each pose to the next; the shoulder tells how many poses have been passed."""
STILL = Motion(np.zeros(6), np.zeros(6))


def streamed(hz: float, tick_hz: float, jitter_s: float, seconds: float = 6.0) -> FloatArray:
    """For each tick the targets, and the number of poses that have come: shape (ticks, 7)."""
    rng = np.random.default_rng(5)
    count = round(seconds * hz)
    came_s = np.sort(np.arange(count) / hz + rng.uniform(-jitter_s, jitter_s, count)).tolist()
    stream, rows, k = PoseStream(STILL, 1.0 / tick_hz), [], 0
    for tick in range(round((seconds - 0.1) * tick_hz)):
        while came_s[k] <= tick / tick_hz:
            stream.add(k * WAY, tick / tick_hz)
            k += 1
        target = stream.target()
        if target is not None:
            rows.append([*target, k - 1])
    return np.array(rows)


@pytest.mark.parametrize(
    ("hz", "tick_hz"), [(60.0, 60.0), (59.3, 60.0), (60.7, 60.0), (30.0, 60.0), (50.0, 60.0), (60.0, 200.0)]
)
def test_uneven_stream_moves_the_target_evenly_and_no_later_than_about_a_period(
    hz: float, tick_hz: float
) -> None:
    rows = streamed(hz, tick_hz, 0.004)[round(0.7 * tick_hz) :]
    passed, newest = rows[:, 0], rows[:, 6]
    even = hz / tick_hz
    assert np.diff(newest).max() > 1.5 * even  # what comes in a tick is uneven
    assert np.diff(passed).max() < 1.35 * even
    assert np.diff(passed).std() < 0.12 * even
    assert (passed <= newest).all()  # never ahead
    assert (newest - passed).max() < 2.2  # the newest itself is up to a period fresher than a mean one
    assert (newest - passed).mean() < 1.2


def test_target_stays_on_the_line_through_the_poses() -> None:
    rows = streamed(60.0, 60.0, 0.01)[60:]
    assert rows[:, :6] == pytest.approx(rows[:, :1] * WAY)
    assert (np.diff(rows[:, 0]) >= 0).all()  # never back


def test_stream_that_ends_is_followed_to_its_last_pose_and_no_farther() -> None:
    stream = PoseStream(STILL, 1.0 / 60.0)
    for k in range(40):
        stream.add(k * WAY, k / 60.0)
        stream.target()
    way = [stream.target() for _ in range(10)]
    assert (way[-1] == 39 * WAY).all()
    assert (way[3] == way[-1]).all()


def test_what_waited_for_a_stalled_sender_is_caught_up_with_and_not_jumped_over() -> None:
    stream, passed = PoseStream(STILL, 1.0 / 60.0), []
    come = [1] * 60 + [0] * 9 + [10] + [1] * 40
    k = 0
    for tick, count in enumerate(come):
        for _ in range(count):
            stream.add(k * WAY, tick / 60.0)
            k += 1
        target = stream.target()
        assert target is not None
        passed.append(target[0])
    assert np.diff(passed).max() < 3.0
    assert k - 1 - passed[-1] < 1.5


def test_stream_begins_softly_where_the_command_is() -> None:
    stream = PoseStream(Motion(np.full(6, -30.0), np.zeros(6)), 1.0 / 60.0)
    way = [np.full(6, -30.0)]
    for k in range(120):
        stream.add(np.zeros(6), k / 60.0)
        target = stream.target()
        assert target is not None
        way.append(target)
    assert np.abs(np.diff(way, axis=0)).max() <= 61.0 / 60.0
    assert (way[-1] == 0.0).all()
