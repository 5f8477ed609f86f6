"""A recorded episode as a source of targets, and the units that recordings come in.

LeRobot's teleoperation sends one goal per frame, and the servos keep it until the next: a zero-order hold.
That is what is played here, whatever the control rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from robot.calibration_file import DEG_PER_TICK, Calibration
from robot.errors import ConfigError, DatasetError
from robot.joints import GRIPPER, N_JOINTS
from robot.recording.features import ACTION, STATE
from robot.recording.reader import Dataset
from robot.recording.writer import Units
from robot.seams import ArmState, FloatArray
from robot.sources import RampSource

UNITS: tuple[Units, ...] = get_args(Units)

SETTLE_S = 0.7
"""Time at the first pose before the first action, so that ramp and sag have died down."""

Way = Callable[[FloatArray, FloatArray], Sequence[FloatArray]]
"""Waypoints from one pose to another, both included, user units."""


class UnitMap:
    """Between the units of a recording and user units, for one calibration.

    ``m100_100`` is LeRobot's normalisation before 0.4.4: ``(raw - min) / (max - min) * 200 - 100``, with the
    sign flipped where drive_mode is 1; the gripper is 0..100 in both.
    """

    def __init__(self, units: Units, calibration: Calibration) -> None:
        self.units = units
        self.calibration = calibration
        scale = np.ones(N_JOINTS)
        if units == "m100_100":
            span = (calibration.range_max - calibration.range_min).astype(np.float64)
            inverted = np.array([joint.drive_mode == 1 for joint in calibration.joints.values()])
            scale = np.where(inverted, -1.0, 1.0) * span * DEG_PER_TICK / 200.0
            scale[GRIPPER] = 1.0
        self._scale = scale

    def to_user(self, values: FloatArray) -> FloatArray:
        """Recorded values, shape (..., 6), in user units."""
        user: FloatArray = np.asarray(values, dtype=np.float64) * self._scale
        return user

    def from_user(self, user: FloatArray) -> FloatArray:
        """User units, shape (..., 6), as the recording would have them."""
        values: FloatArray = np.asarray(user, dtype=np.float64) / self._scale
        return values


def units_of(dataset: Dataset, asked: str | None) -> Units:
    """The units of a dataset: what it says, or what it is said to be.

    Raises:
        ConfigError: neither says anything, both say different things, or the units are not known.
    """
    said = dataset.units
    if said is not None and asked is not None and said != asked:
        raise ConfigError(f"{dataset.root} says that its units are {said}, not {asked}")
    units = said or asked
    for known in UNITS:
        if units == known:
            return known
    choices = " or ".join(UNITS)
    if units is None:
        raise ConfigError(
            f"{dataset.root} does not say in which units its joints are: give --units {choices} "
            "(LeRobot before 0.4.4 recorded m100_100, later versions degrees)"
        )
    raise ConfigError(f"units {units!r} are not known, only {choices}")


@dataclass(frozen=True)
class Episode:
    """What a replay needs of a recorded episode; arrays have shape (frames, 6), in the recording's units."""

    action: FloatArray
    state: FloatArray
    fps: float

    @property
    def frames(self) -> int:
        """How many."""
        return len(self.action)


def load_episode(dataset: Dataset, number: int) -> Episode:
    """Actions and states of one episode.

    Raises:
        DatasetError: there is no such episode, or it is not one of an arm with six joints.
    """
    columns = dataset.load(number)
    for name in (ACTION, STATE):
        if name not in columns or columns[name].shape[1:] != (N_JOINTS,):
            raise DatasetError(f"{dataset.root}: no {name} of six joints, so it cannot be replayed")
        if not np.isfinite(columns[name]).all():
            raise DatasetError(f"{dataset.root}: episode {number} has a {name} that is not finite")
    return Episode(columns[ACTION].astype(np.float64), columns[STATE].astype(np.float64), dataset.fps)


class ReplaySource:
    """Plays actions at their frame rate, each held until the next; see ``robot.seams.Source``.

    Args:
        actions: user units, shape (frames, 6).
        fps: frames per second of the recording.
        control_hz: ticks per second.
        first_pose: where to be before the first action, user units; ``None``: play at once.
        way: how to get to ``first_pose``; by default straight in joint space.
        ramp_velocity: peak speed of the fastest joint on that way, user units per second.

    Attributes:
        states: what was read on each tick of the playing, in order (not on the way to the first pose).
    """

    def __init__(
        self,
        actions: FloatArray,
        fps: float,
        control_hz: float,
        *,
        first_pose: FloatArray | None = None,
        way: Way | None = None,
        ramp_velocity: float = 60.0,
    ) -> None:
        self._actions = np.asarray(actions, dtype=np.float64)
        self._frames_per_tick = fps / control_hz
        self._control_hz = control_hz
        self._first_pose = first_pose
        self._way = way or (lambda start, end: [start, end])
        self._ramp_velocity = ramp_velocity
        self._ramp: RampSource | None = None
        self._settle_ticks = round(SETTLE_S * control_hz)
        self._start_tick: int | None = None
        self._frame = 0
        self.states: list[ArmState] = []

    @property
    def done(self) -> bool:
        """Whether the last action has been held for its frame."""
        return self._frame >= len(self._actions)

    @property
    def playing(self) -> bool:
        """Whether the first action has been given."""
        return self._start_tick is not None

    def target(self, tick: int, state: ArmState) -> FloatArray | None:
        """See Source. Ticks that were missed are skipped, as the recording's time goes on."""
        if self._start_tick is None:
            approach = self._approach(tick, state)
            if approach is not None:
                return approach
            self._start_tick = tick
        self._frame = math.floor((tick - self._start_tick) * self._frames_per_tick + 1e-9)
        self.states.append(state)
        if self._frame >= len(self._actions):
            return None
        action: FloatArray = self._actions[self._frame].copy()
        return action

    def state_at_frames(self) -> FloatArray:
        """Measured position at each frame's time, just before its action was sent; user units, (frames, 6).

        Readings are interpolated in time, so a late or missing tick does not shift the rest.

        Raises:
            DatasetError: nothing was played.
        """
        if not self.states:
            raise DatasetError("nothing was played")
        times_s = np.array([state.time_s for state in self.states])
        positions = np.stack([state.position for state in self.states])
        frame_s = self._frames_per_tick * self._control_hz
        wanted_s = times_s[0] + np.arange(len(self._actions)) / frame_s
        columns = [np.interp(wanted_s, times_s, positions[:, joint]) for joint in range(N_JOINTS)]
        return np.stack(columns, axis=1)

    def _approach(self, tick: int, state: ArmState) -> FloatArray | None:
        """Target on the way to the first pose, ``None`` when the arm has settled there."""
        if self._first_pose is None:
            return None
        if self._ramp is None:
            waypoints = self._way(state.position, self._first_pose)
            self._ramp = RampSource(waypoints, self._ramp_velocity, 1.0 / self._control_hz)
        if not self._ramp.done:
            return self._ramp.target(tick, state)
        self._settle_ticks -= 1
        return self._first_pose.copy() if self._settle_ticks >= 0 else None
