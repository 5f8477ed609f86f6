"""A person's intents as a source: keyboard, gamepad, dashboard, or a stream of poses.

Each tick takes what has come, at most ``DRAINED_PER_TICK`` datagrams, and moves on from the gate's last
command. So what the gate held back is felt as a stop and winds nothing up. Jogs, joint rates and poses end
``DEAD_MAN_S`` after the last one came; a place to go to stays wanted until it is reached or replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from robot.errors import CommandError
from robot.joints import GRIPPER, JOINTS
from robot.mailbox import Mailbox
from robot.seams import ArmState, Clock, FloatArray, MonotonicClock
from robot.sources import TeleopStatus
from robot.teleop.goto import Way
from robot.teleop.intents import (
    MAX_JOG_MPS,
    Goto,
    GripperTo,
    Halt,
    Intent,
    Jog,
    JointRates,
    Pose,
    read_intent,
)
from robot.teleop.jog import BRAKING, HandJog, Twist
from robot.teleop.stream import PoseStream
from robot.trajectory import Motion

DRAINED_PER_TICK = 8
"""Intents taken in one tick; a flood waits in the socket's queue and then with its sender."""
DEAD_MAN_S = 0.25
"""What has to be repeated ends so long after the last time."""
PITCH_BACK_S = 0.1
"""Time constant with which the hand comes back to the pitch it had to give up."""
PITCH_BACK_DPS = 60.0
HELD_BACK = 0.05
"""User units by which the gate's command must be off its target for the joint to be held back."""

_KEPT_AS: dict[type[Intent], type] = {Goto: Way, Pose: PoseStream}
"""Intents that are more than their last word."""


class TeleopSource:
    """What a person asks for, as a target for each tick.

    Args:
        socket: where intents come.
        jog: of this arm.
        motion: where the gate's command is, and how it moves.
        low: joint limits, user units, shape (6,).
        high: the same.
        dt_s: length of a tick.
        clock: time.

    Raises:
        CommandError: the socket is in use.
    """

    def __init__(
        self,
        socket: Path,
        jog: HandJog,
        motion: Callable[[], Motion],
        low: FloatArray,
        high: FloatArray,
        dt_s: float,
        clock: Clock | None = None,
    ) -> None:
        self._jog, self._motion, self._dt_s = jog, motion, dt_s
        self._low, self._high = low, high
        self._clock = clock or MonotonicClock()
        self._wish: Jog | JointRates | PoseStream | Way | None = None
        self._heard_s = 0.0
        self._pitch_deg: float | None = None
        self._gripper_pct: float | None = None
        self._said: FloatArray | None = None
        self._limited: str | None = None
        self._refused = 0
        self._mailbox = Mailbox(socket)

    @property
    def teleop(self) -> TeleopStatus:
        """See Teleoperated."""
        return TeleopStatus(limited=self._limited, refused=self._refused)

    def target(self, tick: int, state: ArmState) -> FloatArray:
        """See Source. Takes what has come, never waits."""
        now_s, motion = self._clock.now_s(), self._motion()
        for payload, _ in self._mailbox.drain(DRAINED_PER_TICK):
            try:
                self._take(read_intent(payload), motion, now_s)
            except CommandError:
                self._refused += 1
        if not isinstance(self._wish, Way) and now_s - self._heard_s > DEAD_MAN_S:
            self._forget()
        posed = self._wish.target() if isinstance(self._wish, PoseStream) else None
        if posed is not None:
            self._said = posed
        else:
            rates = self._arm_rates(motion)
            rates[GRIPPER] = self._gripper_rate(motion)
            self._said = np.clip(motion.position + rates * self._dt_s, self._low, self._high)
        return self._said.copy()

    def close(self) -> None:
        """Let go of the socket."""
        self._mailbox.close()

    # -- what is wanted ------------------------------------------------------------------------------------

    def _take(self, intent: Intent, motion: Motion, now_s: float) -> None:
        if isinstance(intent, GripperTo):
            self._gripper_pct = intent.gripper_pct
            return
        self._heard_s = now_s
        if not isinstance(self._wish, _KEPT_AS.get(type(intent), type(intent))):
            self._forget()
        if isinstance(intent, Halt):
            self._gripper_pct = self._limited = None
        elif isinstance(intent, Goto):
            here = self._jog.tool_m(motion.position)
            there = (intent.x_m, intent.y_m, intent.z_m)
            goal = [x if wanted is None else wanted for x, wanted in zip(here, there, strict=True)]
            self._wish, self._limited = Way(np.array(goal), self._dt_s), None
        elif isinstance(intent, Pose):
            if not isinstance(self._wish, PoseStream):
                self._wish = PoseStream(motion, self._dt_s)
            self._wish.add(np.clip(np.array(intent.position), self._low, self._high), now_s)
            self._gripper_pct = None
        else:
            self._wish = intent

    def _forget(self) -> None:
        """Nothing is wanted of the arm any more; what a place could not be reached for stays told."""
        if self._wish is not None:
            self._limited = None
        self._wish = self._pitch_deg = None

    # -- what is done about it -----------------------------------------------------------------------------

    def _arm_rates(self, motion: Motion) -> FloatArray:
        """User units per second, shape (6,); the gripper's means nothing."""
        wish, velocity = self._wish, motion.velocity.copy()
        velocity[GRIPPER] = 0.0
        if isinstance(wish, JointRates):
            return self._joint_rates(wish, motion)
        if isinstance(wish, Way):
            step = wish.step(self._jog, motion.position, velocity, self._pitch_rate(motion))
            self._limited = wish.limited
            if wish.turned:
                self._pitch_deg = None
            if wish.over:
                self._wish = self._pitch_deg = None
            return step.rates
        if isinstance(wish, Jog) and _moves(wish):
            step = self._jog.step(motion.position, velocity, self._twist(wish, motion))
            self._limited = step.limited
            return step.rates
        if wish is not None:
            self._limited = None
        return self._jog.rest(velocity).rates

    def _twist(self, jog: Jog, motion: Motion) -> Twist:
        velocity = np.array([jog.vx_mps, jog.vy_mps, jog.vz_mps])
        speed = float(np.linalg.norm(velocity))
        velocity *= min(1.0, MAX_JOG_MPS / speed) if speed else 1.0
        if jog.pitch_dps or not speed:
            self._pitch_deg = None  # the person sets it: what it was no longer counts
            return Twist(velocity, jog.pitch_dps, jog.roll_dps)
        return Twist(velocity, self._pitch_rate(motion), jog.roll_dps)

    def _pitch_rate(self, motion: Motion) -> float:
        """Back to the pitch with which the motion began; it may have had to give way for a while."""
        now_deg = self._jog.pitch_deg(motion.position)
        if self._pitch_deg is None:
            self._pitch_deg = now_deg
        return min(max((self._pitch_deg - now_deg) / PITCH_BACK_S, -PITCH_BACK_DPS), PITCH_BACK_DPS)

    def _joint_rates(self, wish: JointRates, motion: Motion) -> FloatArray:
        """Each joint by itself; the gate stops it at its limit and where there is no room."""
        change = BRAKING * self._dt_s
        wanted = np.array(wish.rates)
        asked = np.flatnonzero(wanted[:GRIPPER])
        ends = np.where(wanted > 0, self._high, self._low)
        at_limit = [i for i in asked if abs(motion.position[i] - ends[i]) < HELD_BACK]
        said = motion.position if self._said is None else self._said
        held = [i for i in asked if abs(said[i] - motion.position[i]) > HELD_BACK]
        self._limited = None
        if at_limit:
            self._limited = f"{JOINTS[at_limit[0]]} is at its limit"
        elif held:
            self._limited = f"{JOINTS[held[0]]} is held back: table, the arm itself or its box"
        rates: FloatArray = np.clip(wanted, motion.velocity - change, motion.velocity + change)
        return rates

    def _gripper_rate(self, motion: Motion) -> float:
        wish, now, at = self._wish, float(motion.velocity[GRIPPER]), float(motion.position[GRIPPER])
        rate = 0.0
        if isinstance(wish, Jog):
            rate = wish.gripper_pps
        elif isinstance(wish, JointRates):
            rate = wish.rates[GRIPPER]
        if rate:
            self._gripper_pct = None
        elif self._gripper_pct is not None:
            left = self._gripper_pct - at
            rate = self._jog.fastest(abs(left)) * float(np.sign(left))
            if abs(left) < HELD_BACK:
                self._gripper_pct = None
        change = BRAKING * self._dt_s
        return min(max(rate, now - change), now + change)


def _moves(jog: Jog) -> bool:
    """Whether it asks anything of the hand."""
    return any((jog.vx_mps, jog.vy_mps, jog.vz_mps, jog.pitch_dps, jog.roll_dps))
