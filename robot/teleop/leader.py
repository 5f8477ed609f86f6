"""The leader arm as a source: a person moves it, the follower goes where it is.

A thread owns the leader's bus and reads it; the control loop takes the newest pose and never waits. The
follower is engaged softly: until it has come to the leader in all joints it approaches at ``APPROACH_DPS``,
from then on it follows as fast as the gate lets it. The approach waits for an arm that the gate or an
obstacle holds back. A leader that says nothing for ``SILENT_S``, or whose reading leaps, ends the run: the
follower holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robot.errors import BusError, PortError, So101Error, SourceError
from robot.joints import GRIPPER
from robot.safety.encoder import EncoderWatch
from robot.seams import Arm, ArmState, Clock, FloatArray, MonotonicClock
from robot.standing_thread import StandingThread

ENGAGED = 5.7
"""User units, 0.1 rad: so near to the leader in all joints the follower may follow at full speed. The
approach leads the arm by no more, so the arm itself is twice as far off at most.
"""
APPROACH_DPS = 30.0
"""User units per second at which the follower comes to a leader that stands elsewhere."""
SILENT_S = 0.1
"""A leader that has said nothing for so long is lost."""
OPENING_S = 3.0
"""Longest wait for the leader's port to be opened and checked."""
HAND_SPEED = 720.0
"""User units per second that a hand can make a leader turn; its gears are lighter than the follower's."""

_REMEDY = "check the leader's cable and power, bring it near the follower's pose, then start anew"


@dataclass(frozen=True, slots=True)
class _Said:
    """The newest word of the reader; replaced as a whole, so it needs no lock."""

    pose: FloatArray | None
    time_s: float
    error: SourceError | None = None


class LeaderReader:
    """Opens the leader in a thread, lets it go limp, and reads it until it is closed.

    Args:
        thread: does all that, after what the reader before this one may still be at.
        open_arm: opens the leader; raises So101Error.
        dt_s: time between two reads, or less where several of them would not fit into ``SILENT_S``.
        clock: time.
    """

    def __init__(
        self, thread: StandingThread, open_arm: Callable[[], Arm], dt_s: float, clock: Clock | None = None
    ) -> None:
        self._open_arm = open_arm
        self._dt_s = min(dt_s, SILENT_S / 6)  # at slow control rates, too, one lost reading is none
        self._clock = clock or MonotonicClock()
        self._stop = threading.Event()
        self.newest = _Said(None, self._clock.now_s() + OPENING_S - SILENT_S)
        self.ended = thread.submit(self._run)
        """Done once the port has been given back."""

    def close(self) -> None:
        """Let the thread give the port back; does not wait for it."""
        self._stop.set()

    def _run(self) -> None:
        if self._stop.is_set():
            return
        try:
            arm = self._open_arm()
        except (So101Error, OSError) as error:
            self._lost(f"the leader cannot be had: {error}")
            return
        try:
            arm.release()
            self._read(arm)
        except (So101Error, OSError) as error:
            self._lost(f"the leader is lost: {error}")
        finally:
            arm.close()

    def _read(self, arm: Arm) -> None:
        encoders = EncoderWatch(self._dt_s, HAND_SPEED)
        while not self._stop.wait(self._dt_s):
            try:
                state, jumped = encoders.screen(arm.read())
            except PortError:
                raise
            except BusError:  # one lost reading is none; a leader that stays silent is found by its age
                if self._clock.now_s() - self.newest.time_s > SILENT_S:
                    raise
                continue
            for finding in encoders.findings:
                message = f"the leader's {finding.message}"
                error = SourceError(message, code="leader_jumped", remedy=_REMEDY, joint=finding.joint)
                self.newest = _Said(None, self._clock.now_s(), error)
                return
            if not jumped:
                self.newest = _Said(state.position, self._clock.now_s())

    def _lost(self, message: str) -> None:
        error = SourceError(message, code="leader_lost", remedy=_REMEDY)
        self.newest = _Said(None, self._clock.now_s(), error)


class LeaderSource:
    """Where the leader is, as a target for each tick.

    Args:
        reader: of the leader; closed with the source.
        held: where the follower is told to be as the run begins, user units, shape (6,). It hangs below
            that by its sag, and would sag once more if the approach began where it is.
        low: the follower's joint limits, user units: a leader's range may be wider.
        high: the same.
        dt_s: length of a tick.
        clock: time.
    """

    def __init__(
        self,
        reader: LeaderReader,
        held: Callable[[], FloatArray],
        low: FloatArray,
        high: FloatArray,
        dt_s: float,
        clock: Clock | None = None,
    ) -> None:
        self._reader = reader
        self._held = held
        self._low, self._high = low, high
        self._step = APPROACH_DPS * dt_s
        self._clock = clock or MonotonicClock()
        self._at: FloatArray | None = None
        self.engaged = False
        """Whether the follower has come to the leader."""

    def target(self, tick: int, state: ArmState) -> FloatArray:
        """See Source. Raises SourceError (``leader_lost``, ``leader_jumped``)."""
        said = self._reader.newest
        if said.error is not None:
            raise said.error
        silent_s = self._clock.now_s() - said.time_s
        if silent_s > SILENT_S:
            message = f"the leader has said nothing for {1000 * silent_s:.0f} ms"
            raise SourceError(message, code="leader_lost", remedy=_REMEDY)
        at = self._held() if self._at is None else self._at
        if said.pose is not None:
            leader = np.clip(said.pose, self._low, self._high)
            if not self.engaged:
                at = _near(at, state.position)
                self.engaged = bool((np.abs(leader - at) <= ENGAGED).all())
            at = leader if self.engaged else at + np.clip(leader - at, -self._step, self._step)
        self._at = at
        return at.copy()

    def close(self) -> None:
        """Give the leader back."""
        self._reader.close()


def _near(at: FloatArray, position: FloatArray) -> FloatArray:
    """Where the approach is, but not too far from the arm; a gripper may hold something."""
    near = np.clip(at, position - ENGAGED, position + ENGAGED)
    near[GRIPPER] = at[GRIPPER]
    return near
