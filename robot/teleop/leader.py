"""The leader arm as a source: a person moves it, the follower goes where it is.

A thread owns the leader's bus and reads it; the control loop takes the newest pose and never waits. The
follower is engaged softly, in one of two ways. ``approach``: until it has come to the leader in all joints it
goes there at ``APPROACH_DPS``; it waits for an arm that the gate or an obstacle holds back. ``match``: it
stands still until the person has brought the leader to it in all joints. From then on it follows as fast as
the gate lets it, and what was left between them is faded out. A leader that says nothing for ``SILENT_S``, or
whose reading leaps, ends the run: the follower holds.
"""

from __future__ import annotations

import reprlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from robot.errors import BusError, ConfigError, PortError, So101Error, SourceError
from robot.joints import GRIPPER, JOINTS, N_JOINTS
from robot.safety.encoder import EncoderWatch
from robot.seams import Arm, ArmState, Clock, FloatArray, MonotonicClock
from robot.sources import TeleopStatus
from robot.standing_thread import StandingThread
from robot.teleop.blend import Blend
from robot.trajectory import Motion

Engagement = Literal["approach", "match"]
"""Whether the follower comes to the leader, or the leader to the follower."""

ENGAGED = 5.7
"""User units, 0.1 rad: so near to the leader in all joints the follower may follow at full speed. The
approach leads the arm by no more, so the arm itself is twice as far off at most.
"""
APPROACH_DPS = 30.0
"""User units per second at which the follower comes to a leader that stands elsewhere."""
SILENT_S = 0.25
"""A leader that has said nothing for so long is lost. As long as the follower's own silence may last
(robot/link.py): the target stands still from the first tick without news, so nothing moves meanwhile.
"""
READ_AT = 0.5
"""Part of a tick (tick k begins at k dt) at which the leader is read: after the loop's own work, which would
wait for the interpreter otherwise, and done before the next tick begins.
"""
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
        while not self._stop.wait(self._until_next_s()):
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

    def _until_next_s(self) -> float:
        """Up to the same point of every tick, so that each of them finds one new pose."""
        return self._dt_s - (self._clock.now_s() - READ_AT * self._dt_s) % self._dt_s

    def _lost(self, message: str) -> None:
        error = SourceError(message, code="leader_lost", remedy=_REMEDY)
        self.newest = _Said(None, self._clock.now_s(), error)


class LeaderSource:
    """Where the leader is, as a target for each tick.

    Args:
        reader: of the leader; closed with the source.
        motion: where the follower is told to be, and how that moves. It hangs below that by its sag, and
            would sag once more if the approach began where it is.
        low: the follower's joint limits, user units: a leader's range may be wider.
        high: the same.
        dt_s: length of a tick.
        clock: time.
        engage: how the follower and the leader come together.
    """

    def __init__(
        self,
        reader: LeaderReader,
        motion: Callable[[], Motion],
        low: FloatArray,
        high: FloatArray,
        dt_s: float,
        clock: Clock | None = None,
        *,
        engage: Engagement = "approach",
    ) -> None:
        self._reader = reader
        self._motion = motion
        self._low, self._high = low, high
        self._dt_s = dt_s
        self._step = APPROACH_DPS * dt_s
        self._clock = clock or MonotonicClock()
        self._waits = engage == "match"
        self._at: FloatArray | None = None
        self._away = np.zeros(N_JOINTS)
        self._blend: Blend | None = None

    @property
    def engaged(self) -> bool:
        """Whether follower and leader have come together."""
        return self._blend is not None

    @property
    def teleop(self) -> TeleopStatus:
        """See Teleoperated."""
        if self.engaged:
            return TeleopStatus()
        away = dict(zip(JOINTS, self._away.round().tolist(), strict=True))
        limited = "bring the leader to the arm" if self._waits else None
        return TeleopStatus(engaged=False, away=away, limited=limited)

    def target(self, tick: int, state: ArmState) -> FloatArray:
        """See Source. Raises SourceError (``leader_lost``, ``leader_jumped``)."""
        said = self._reader.newest
        if said.error is not None:
            raise said.error
        silent_s = self._clock.now_s() - said.time_s
        if silent_s > SILENT_S:
            message = f"the leader has said nothing for {1000 * silent_s:.0f} ms"
            raise SourceError(message, code="leader_lost", remedy=_REMEDY)
        if said.pose is None:
            return self._unled()
        leader = np.clip(said.pose, self._low, self._high)
        at = self._unled() if self._blend is None else leader
        if self._blend is None:
            at = at if self._waits else _near(at, state.position)
            self._away = leader - at
            if (np.abs(self._away) <= ENGAGED).all():
                self._blend = Blend(self._motion(), self._dt_s)
            elif not self._waits:
                at = at + np.clip(self._away, -self._step, self._step)
        if self._blend is not None:
            mixed = self._blend.mix(leader)
            at = leader if mixed is None else mixed
        self._at = at
        return at.copy()

    def _unled(self) -> FloatArray:
        """Where the follower is to be as far as it does not follow."""
        return self._motion().position if self._at is None or self._waits else self._at

    def close(self) -> None:
        """Give the leader back."""
        self._reader.close()


def engagement(args: Mapping[str, Any]) -> Engagement:
    """From the arguments of a run. Raises ConfigError."""
    if args in ({}, {"engage": "approach"}):
        return "approach"
    if args == {"engage": "match"}:
        return "match"
    raise ConfigError(f"the source leader takes engage, approach or match, not {reprlib.repr(dict(args))}")


def _near(at: FloatArray, position: FloatArray) -> FloatArray:
    """Where the approach is, but not too far from the arm; a gripper may hold something."""
    near = np.clip(at, position - ENGAGED, position + ENGAGED)
    near[GRIPPER] = at[GRIPPER]
    return near
