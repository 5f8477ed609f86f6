"""Whether what an episode's joints did can have been done by an SO-101: ranges, speeds, goals and their
lag.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.joints import GRIPPER, JOINTS, N_JOINTS
from robot.recording.check.findings import DELETE, Report
from robot.recording.check.survey import Columns
from robot.recording.check.timing import REAL_TIME
from robot.recording.check.units import Kind
from robot.recording.features import ACTION, STATE
from robot.recording.meta import EpisodeMeta
from robot.seams import FloatArray

ARM_RANGE_DEG = (110.0, 100.0, 97.0, 95.0, 180.0)
"""Degrees that a joint can be away from the middle of its range: the published model's ranges; the roll's
servo has no stop, and LeRobot gives it the whole turn."""
RANGE_SLACK_DEG = 10.0
"""The middle is that of the range which a person swept, some degrees off the model's."""
SWEPT_SLACK = 1.0
"""Units by which -100..100 may be left: a normalised value is cut off there."""
GRIPPER_SLACK_PCT = 3.0
"""Percent by which a gripper may leave 0..100: it is squeezed shut past where it was calibrated."""

SERVO_DPS = 300.0
"""A turn of an STS3215 without load on 12 V, 50 rpm: nothing is faster. Percent of the gripper count as
degrees: it opens about 110 of them."""
LATE_FRAMES = 1.0
"""A reading may be so many frames late, and the next in time."""
ACTION_SLACK = 3.0
"""A person's hand moves the leader faster than a servo the follower: so many times faster is a glitch."""

STILL = 0.01
"""A goal that moves less than this, in units, is constant."""
MOVES = 5.0
"""Units that a joint must move through before its goals can be judged."""
SAME_SHARE = 0.99
"""Share of frames in which goal and state may be equal to the bit; servos always lag and sag."""
LONGEST_LAG_S = 0.5
"""No servo follows later: measured lags are 0.10 to 0.13 s."""
WIDEST_S = 1.0
"""Shifts that are tried, either way."""
LEAD_S = 0.05
"""So much before its goal no joint moves."""
SURE = 0.7
"""Correlation of the speeds of goals and joints from which their lag is believed."""
BETTER = 0.5
"""Share of what is left unexplained without the lag that may be left with it."""


def check_motion(
    episode: EpisodeMeta, columns: Columns, fps: float, units: Kind | None, report: Report
) -> None:
    """Look at one episode's finite state and action.

    Args:
        episode: its row of the table.
        columns: of it.
        fps: rows a second.
        units: what the values are in, as far as known.
        report: where to say what is wrong.
    """
    state, action = columns[STATE].astype(np.float64), columns[ACTION].astype(np.float64)
    times_s = columns.get(REAL_TIME)
    steps_s = np.full(episode.length - 1, 1.0 / fps)
    if times_s is not None and np.isfinite(times_s).all():
        steps_s = np.maximum(np.diff(times_s.reshape(-1).astype(np.float64)), steps_s)
    outside = _range(episode, {STATE: state, ACTION: action}, units, report)
    _jumps(episode, state, action, steps_s, outside, report)
    if not _dead(episode, state, action, report):
        _lag(episode, state, action, fps, report)


def _range(
    episode: EpisodeMeta, vectors: dict[str, FloatArray], units: Kind | None, report: Report
) -> NDArray[np.bool_]:
    """Say what leaves the robot's range; the frames in which something does."""
    most = np.full(N_JOINTS, np.inf)
    if units == "degrees":
        most[:GRIPPER] = np.array(ARM_RANGE_DEG) + RANGE_SLACK_DEG
    elif units == "m100_100":
        most[:GRIPPER] = 100.0 + SWEPT_SLACK
    elif units is None:
        most[:GRIPPER] = 180.0 + RANGE_SLACK_DEG
    outside = np.zeros(episode.length, dtype=bool)
    said = ""
    for name, values in vectors.items():
        beyond = np.abs(values) - most
        if units != "ticks":
            beyond[:, GRIPPER] = np.abs(values[:, GRIPPER] - 50.0) - 50.0 - GRIPPER_SLACK_PCT
        wrong = (beyond > 0).any(axis=1)
        outside |= wrong
        if wrong.any() and not said:
            frame, joint = np.unravel_index(int(beyond.argmax()), beyond.shape)
            limit = "0..100" if joint == GRIPPER else f"{-most[joint]:g}..{most[joint]:g}"
            said = (
                f"{name} leaves the robot's range in {int(wrong.sum())} frames: {JOINTS[joint]} is "
                f"{values[frame, joint]:.1f} in frame {frame}, possible is {limit}"
            )
    if said:
        remedy = f"check the arm's calibration; {DELETE.format(episode.index)}"
        report.find("out_of_range", said, remedy, episode=episode.index)
    return outside


def _jumps(
    episode: EpisodeMeta,
    state: FloatArray,
    action: FloatArray,
    steps_s: FloatArray,
    outside: NDArray[np.bool_],
    report: Report,
) -> None:
    late_s = LATE_FRAMES * float(np.median(steps_s)) if len(steps_s) else 0.0
    most = SERVO_DPS * (steps_s + late_s)[:, None]
    for name, values, limit in ((STATE, state, most), (ACTION, action, ACTION_SLACK * most)):
        steps = np.abs(np.diff(values, axis=0))
        jumps = steps > limit
        # What leaves the range jumps there and back, and is told of already.
        jumps &= ~(outside[1:] | outside[:-1])[:, None]
        if jumps.any():
            frame, joint = np.unravel_index(int(np.where(jumps, steps, 0).argmax()), steps.shape)
            message = (
                f"{name} jumps: {JOINTS[joint]} from {values[frame, joint]:.1f} to "
                f"{values[frame + 1, joint]:.1f} "
                f"between frames {frame} and {frame + 1}, faster than a servo can"
            )
            report.find("jump", message, DELETE.format(episode.index), episode=episode.index)
            return


def _dead(episode: EpisodeMeta, state: FloatArray, action: FloatArray, report: Report) -> bool:
    """Whether goals are none: constant while the arm moves, or copies of its state."""
    if np.ptp(state, axis=0).max() < MOVES:
        return False
    if np.ptp(action, axis=0).max() < STILL:
        message = "action never changes while the arm moves"
    elif (state == action).all(axis=1).mean() >= SAME_SHARE:
        message = "action is a copy of observation.state: servos always lag behind their goals"
    else:
        return False
    remedy = f"nothing can be learned from such goals; {DELETE.format(episode.index)}"
    report.find("action_dead", message, remedy, episode=episode.index)
    return True


def _lag(episode: EpisodeMeta, state: FloatArray, action: FloatArray, fps: float, report: Report) -> None:
    """Goals and joints out of step, by more than servos lag or the wrong way round."""
    widest = min(round(WIDEST_S * fps), (episode.length - 1) // 3)
    used = np.flatnonzero((np.ptp(state, axis=0) > MOVES) & (np.ptp(action, axis=0) > MOVES))
    if widest < 2 or not len(used):
        return
    goals, joints = (np.diff(values[:, used], axis=0) for values in (action, state))
    shifts = np.arange(-widest, widest + 1)
    scores = np.array([_likeness(goals, joints, int(shift)) for shift in shifts])
    best = int(scores.argmax())
    lag_s = float(shifts[best]) / fps
    possible = (shifts / fps >= -LEAD_S) & (shifts / fps <= LONGEST_LAG_S)
    if possible[best] or scores[best] < SURE:
        return
    left, left_possible = 1.0 - scores[best] ** 2, 1.0 - max(scores[possible].max(), 0.0) ** 2
    if left < BETTER * left_possible:
        order = f"{lag_s:.2f} s after" if lag_s > 0 else f"{-lag_s:.2f} s before"
        message = (
            f"the joints move {order} their goals, servos follow after 0.1 s: action and state are shifted"
        )
        report.find("lag_impossible", message, DELETE.format(episode.index), episode=episode.index)


def _likeness(goals: FloatArray, joints: FloatArray, shift: int) -> float:
    """Correlation of speeds, shape (frames, joints), with the joints so many frames after the goals."""
    n = len(goals) - abs(shift)
    before, after = (goals[:n], joints[shift:]) if shift >= 0 else (goals[-shift:], joints[:n])
    size = float(np.sqrt((before * before).sum() * (after * after).sum()))
    return float((before * after).sum()) / size if size > 0 else 0.0
