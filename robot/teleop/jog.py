"""Moving the hand in space: joint speeds for a tool point that should go somewhere, tick by tick.

The arm has five joints and a hand six freedoms, so what is asked is the speed of the tool point, of the
pitch (how far the gripper points down) and of the roll. Position comes first: three equations for pan, lift,
elbow and wrist leave one freedom, the turn about the tool point, and that is the pitch. With the particular
solution p (which moves the tool point as asked) and the null vector n (which turns about it) all are

    rates = s p + a n,        0 <= s <= 1

Every joint bounds s and a, from both sides, by its speed and by the room in front of its limit. The largest
s is taken, then the a nearest to the wanted pitch. So where the arm cannot follow, it goes slower and stops,
and never goes astray: what it does is a share of what was asked. Pitch gives way before position does.

Three things stop the motion as a joint limit does: a clearance (table, own links, box), looked at where the
arm would come to rest; an elbow that is nearly straight, which could fold either way; and a pose in which
the tool point can hardly move in some direction (the smallest singular value of the Jacobian). Leading out
of each of them is always allowed.

Nothing is remembered between ticks: a step begins from the gate's last command and how that moves, so what
was held back does not wind up, and going back answers at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from robot.joints import JOINTS, N_JOINTS
from robot.kinematics import LEROBOT_DEGREE_RAD, user_to_rad
from robot.safety.clearance import Clearance
from robot.seams import FloatArray
from robot.teleop.shares import Share, largest_share

RATE = 120.0
"""User units per second: fastest joint while the hand is jogged, half of what the gate allows the twin."""
BRAKING = 1500.0
"""User units per second squared at which a joint stops in front of something."""
CHANGE = 2100.0
"""User units per second squared that no joint exceeds; under the gate's 2400, so the gate need not help."""
ACCELERATION_MPS2 = 3.0
"""Of the tool point: from rest to the fastest jog in five ticks."""
TURN_DPS2 = 1500.0
"""Of pitch and roll."""
STRAIGHT_DEG = 10.0
"""An elbow is not brought nearer to straight than this."""
SINGULAR_M = 0.03
"""Metres per radian: smallest singular value that is not made smaller. At 120 degrees per second the tool
point still makes 6 cm/s in every direction."""
NEAR_M = 0.06
"""A pose from which one with ``SINGULAR_M`` could be within the way to rest; it is looked at from here on."""
SEEN_M = 0.01
"""Metres of room under which it is looked at more closely."""
_PITCH, _FIRST = slice(1, 4), slice(0, 4)
_ELBOW, _ROLL = 2, 4
_AT_LIMIT = 2.0
"""User units: a joint that holds the motion back so near to its limit is told to be at it."""
_STILL = 0.02
"""Share of what was asked under which the arm stands still instead of creeping."""


@dataclass(frozen=True, slots=True)
class Twist:
    """How the hand should move."""

    velocity_mps: FloatArray
    """Of the tool point, base frame, shape (3,)."""
    pitch_dps: float = 0.0
    """Positive points the gripper further down."""
    roll_dps: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """How the joints should move in this tick."""

    rates: FloatArray
    """User units per second, shape (6,); the gripper's is zero."""
    share: float
    """Part of the asked speed of the tool point that the arm gives, 0..1."""
    limited: str | None
    """What keeps it from giving all, in words."""


class HandJog:
    """Differential inverse kinematics of one arm; has scratch space, so for one thread.

    Args:
        model: the bare arm on its base frame (``robot.model.load_arm``).
        clearance: room that a pose in user units leaves.
        low: joint limits, user units, shape (6,).
        high: the same.
        dt_s: length of a tick.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        clearance: Clearance,
        low: FloatArray,
        high: FloatArray,
        dt_s: float,
    ) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        self._clearance, self._dt_s = clearance, dt_s
        self._site = int(model.site("grasp").id)
        self._low: list[float] = low.tolist()
        self._high: list[float] = high.tolist()
        self._jacobian = np.zeros((3, model.nv))
        self._straight_deg = _straight_elbow_deg(model, self._data)

    def tool_m(self, user: FloatArray) -> FloatArray:
        """The tool point for a pose in user units, base frame, shape (3,)."""
        self._data.qpos[:] = user_to_rad(user)
        mujoco.mj_kinematics(self._model, self._data)
        return np.array(self._data.site_xpos[self._site])

    @staticmethod
    def pitch_deg(user: FloatArray) -> float:
        """How far the gripper points down, in degrees; the axes of the three joints are parallel."""
        return float(user[_PITCH].sum())

    def step(self, command: FloatArray, velocity: FloatArray, twist: Twist) -> Step:
        """One tick.

        Args:
            command: the gate's last command, user units, shape (6,).
            velocity: how it moves, user units per second, shape (6,).
            twist: what is asked for.
        """
        # Joints take the point along an arc: halfway through the tick its direction is the mean one.
        jacobian = self._look(command + velocity * (self._dt_s / 2.0))
        left, sizes, right = np.linalg.svd(jacobian[:, _FIRST])
        least_m = float(sizes[2])
        wanted = self._sped_up(jacobian, velocity, twist, least_m)
        low, high = self._bounds(command, velocity)
        roll = min(max(wanted.roll_dps, low[_ROLL]), high[_ROLL])
        towards = wanted.velocity_mps - jacobian[:, _ROLL] * (roll * LEROBOT_DEGREE_RAD)
        inverse = (right[:3].T / np.maximum(sizes, SINGULAR_M / 10)) @ left.T
        particular = inverse @ towards / LEROBOT_DEGREE_RAD
        found = largest_share(particular.tolist(), right[3].tolist(), wanted.pitch_dps, low, high)
        if found is None:
            return Step(self._slowed(velocity), 0.0, None)
        share = found.share
        rates = np.zeros(N_JOINTS)
        rates[_FIRST] = share * particular + found.turn * right[3]
        rates[_ROLL] = share * roll
        limited = self._name(found, command, twist, roll)
        eased, reason = self._kept_clear(command, rates, least_m < NEAR_M)
        if eased < 1.0:
            share, rates, limited = share * eased, rates * eased, reason
        if share < _STILL and wanted.velocity_mps.any():
            return Step(self._slowed(velocity), 0.0, limited)
        return Step(rates, share, limited)

    def rest(self, velocity: FloatArray) -> Step:
        """One tick of coming to rest."""
        return Step(self._slowed(velocity), 0.0, None)

    def fastest(self, room: float) -> float:
        """Speed from which a joint comes to rest within so many user units, the tick's own way included."""
        if room <= 0.0:
            return 0.0
        dt_s = self._dt_s
        return min(RATE, BRAKING * (math.sqrt(dt_s * dt_s + 2.0 * room / BRAKING) - dt_s))

    # -- what is asked -------------------------------------------------------------------------------------

    def _look(self, user: FloatArray) -> FloatArray:
        """Metres per radian of each joint at a pose, shape (3, 6)."""
        self.tool_m(user)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jacSite(self._model, self._data, self._jacobian, None, self._site)
        return self._jacobian

    def _sped_up(self, jacobian: FloatArray, velocity: FloatArray, twist: Twist, least_m: float) -> Twist:
        """What this tick can make of it, from how the hand moves now."""
        now = jacobian[:, :5] @ velocity[:5] * LEROBOT_DEGREE_RAD
        change = twist.velocity_mps - now
        size = float(np.linalg.norm(change))
        most = min(ACCELERATION_MPS2, least_m * BRAKING * LEROBOT_DEGREE_RAD) * self._dt_s
        towards = twist.velocity_mps if size <= most else now + change * (most / size)
        turn = TURN_DPS2 * self._dt_s
        pitch, roll = float(velocity[_PITCH].sum()), float(velocity[_ROLL])
        return Twist(
            towards,
            min(max(twist.pitch_dps, pitch - turn), pitch + turn),
            min(max(twist.roll_dps, roll - turn), roll + turn),
        )

    def _bounds(self, command: FloatArray, velocity: FloatArray) -> tuple[list[float], list[float]]:
        """Slowest and fastest each joint may go in this tick."""
        limits, at = self._limits(command), command.tolist()
        change, now = CHANGE * self._dt_s, velocity.tolist()
        return (
            [max(-self.fastest(x - a), v - change) for x, (a, _), v in zip(at, limits, now, strict=True)],
            [min(self.fastest(b - x), v + change) for x, (_, b), v in zip(at, limits, now, strict=True)],
        )

    def _limits(self, command: FloatArray) -> list[tuple[float, float]]:
        """Of each joint; an elbow is kept on its side of straight."""
        limits = list(zip(self._low, self._high, strict=True))
        low, high = limits[_ELBOW]
        if command[_ELBOW] > self._straight_deg:
            limits[_ELBOW] = max(low, self._straight_deg + STRAIGHT_DEG), high
        else:
            limits[_ELBOW] = low, min(high, self._straight_deg - STRAIGHT_DEG)
        return limits

    def _slowed(self, velocity: FloatArray) -> FloatArray:
        """Rates of a tick in which the arm comes to rest, all joints together, so on a straight way."""
        fastest = float(np.abs(velocity).max())
        if not fastest:
            return np.zeros(N_JOINTS)
        return velocity * max(0.0, 1.0 - BRAKING * self._dt_s / fastest)

    # -- what the arm can do of it -------------------------------------------------------------------------

    def _kept_clear(self, command: FloatArray, rates: FloatArray, near: bool) -> tuple[float, str | None]:
        """Share of these rates that may be gone, and what allows no more; ``near``: to a singular pose."""
        fastest = float(np.abs(rates).max())
        if not fastest:
            return 1.0, None
        there = self._least_room(command, rates, near)
        if min(there) >= 0.0:
            return 1.0, None
        here = self._room(command, near)
        eased, reason = 1.0, None
        for _ in range(2):
            tight = _tightest(here, there)
            if tight is None:
                return eased, reason
            reason = _NAMES[tight]
            left = max(0.0, here[tight]) / (here[tight] - there[tight])
            eased *= self._part(left, eased * fastest)
            there = self._least_room(command, rates * eased, near)
        return (eased if _tightest(here, there) is None else 0.0), reason

    def _least_room(self, command: FloatArray, rates: FloatArray, near: bool) -> tuple[float, ...]:
        """Where the arm comes to rest after a tick with these rates: all joints together, as here, and each
        by itself, as the gate looks at it.
        """
        speeds = np.abs(rates)
        tick = command + rates * self._dt_s
        together = self._room(tick + rates * (float(speeds.max()) / (2.0 * BRAKING)), near)
        if min(together) > SEEN_M:
            return together
        return tuple(map(min, together, self._room(tick + rates * speeds / (2.0 * BRAKING), near)))

    def _room(self, pose: FloatArray, near: bool) -> tuple[float, ...]:
        """What must not become negative, in the order of ``_NAMES``."""
        if not near:
            return self._clearance(pose)
        sizes = np.linalg.svd(self._look(pose)[:, _FIRST], compute_uv=False)
        return *self._clearance(pose), float(sizes[2]) - SINGULAR_M

    def _part(self, left: float, fastest: float) -> float:
        """Share of a speed that uses up a share of its way to rest."""
        dt_s, braking_s = self._dt_s, fastest / (2.0 * BRAKING)
        way = left * (dt_s + braking_s)
        return (math.sqrt(dt_s * dt_s + 4.0 * braking_s * way) - dt_s) / (2.0 * braking_s)

    def _name(self, found: Share, command: FloatArray, twist: Twist, roll: float) -> str | None:
        """What keeps the arm from moving as asked, if that is more than its speed."""
        if found.share < 1.0 or not twist.velocity_mps.any():
            for i in found.tight:
                low, high = self._limits(command)[i]
                if min(command[i] - low, high - command[i]) < _AT_LIMIT:
                    straight = i == _ELBOW and self._low[i] < low
                    return "the elbow is nearly straight" if straight else f"{JOINTS[i]} is at its limit"
        if twist.roll_dps and abs(roll) < 1.0:
            return f"{JOINTS[_ROLL]} is at its limit"
        return None


_NAMES = (
    "the table is in the way",
    "the arm itself is in the way",
    "its box ends here",
    "it reaches no farther",
)


def _tightest(now: tuple[float, ...], there: tuple[float, ...]) -> int | None:
    """Index of the clearance that is broken worst, by the gate's rule; ``None``: none is."""
    broken = [min(0.0, before) - after for before, after in zip(now, there, strict=True)]
    worst = max(range(len(broken)), key=broken.__getitem__)
    return worst if broken[worst] > 0.0 else None


def _straight_elbow_deg(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    """Elbow angle at which shoulder, elbow and wrist lie on a line, degrees."""
    data.qpos[:] = 0.0
    mujoco.mj_kinematics(model, data)
    shoulder, elbow, wrist = (
        data.joint(name).xanchor for name in ("shoulder_lift", "elbow_flex", "wrist_flex")
    )
    upper, fore = elbow - shoulder, wrist - elbow
    # Positive angles turn the links down, so about +y of the base frame.
    turn = math.atan2(upper[2], upper[0]) - math.atan2(fore[2], fore[0])
    return -turn / LEROBOT_DEGREE_RAD
