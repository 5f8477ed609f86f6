"""The last thing between any source and the servos. Pure: no I/O, no clock.

Every command is within the joint limits and the speed and acceleration limits, and keeps the moving links
above the table, the arm's links apart, and the tool point in its box where one is configured, whatever the
source asks for. Per joint it is a second-order tracker in discrete time: each tick picks the speed with which
the joint moves during the tick, such that it can still stop where it must.

Stopping from speed v, losing ``a dt`` per tick, takes the distance of the braking rule v^2 / 2a, here in its
exact form for ticks. Moving with v for one tick and then stopping, with u = v / (a dt), n = floor(u) and
distances in units of a dt^2, takes

    d(u) = (n + 1) u - n (n + 1) / 2            (increasing, piecewise linear)

and the tracker uses its inverse: the fastest speed from which a distance is enough. Where a target moves
steadily, that motion is followed and only what is left is braked for, so there is no lag on a smooth path;
a target that stands still is never overshot.

Table, links and box are clearances (``robot.safety.clearance``). None may become negative, and one that is
negative already may not become less than it is. That holds for the pose of this tick and for the way on which
the arm brakes from there; a joint that would break it is held back, the others go on.

What the gate does not know: forces; what lies or stands around, but for the table; what the gripper holds;
cables; what differs from the model's boxes; links that one joint connects, which are never compared; and
whether the servos follow (``robot.safety.supervision`` watches that). The command keeps the margins:
the arm itself is a degree or two off under load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from robot.config import GateConfig
from robot.joints import N_JOINTS
from robot.safety.clearance import Clearance, Clearances
from robot.seams import FloatArray
from robot.trajectory import Motion

_RATE_TOLERANCE = 0.5
"""User units by which a command may trail its target before the tick counts as rate limited; half a degree is
under the static error of the servos."""
_PATH_STEP = 3.0
"""User units of braking path per check of the clearances. Between two checks a link of 0.3 m dips at most
0.3 (1 - cos 1.5 deg) = 0.1 mm below the straight line."""
_MAX_PATH_CHECKS = 4
MAX_LOSS_M = 0.01
"""Metres of any clearance that one joint can take by turning by one user unit: 0.0087 m for a degree at a
reach of 0.5 m, which is more than the arm's, and a percent of the gripper is about one degree of the jaw."""
_EXACT = 1e-9

_Limited = tuple[bool, bool, bool]
"""For the table, the links and the box, in the order of ``Clearances``."""
_FREE: _Limited = (False, False, False)


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one tick may send, and what was done to the target."""

    command: FloatArray
    """User units, shape (6,)."""
    clamped: bool = False
    """The target was outside the joint limits."""
    rate_limited: bool = False
    """The command trails the target because of speed or acceleration limits."""
    table_limited: bool = False
    """At least one joint was held back so that no moving link goes under its margin over the table."""
    self_limited: bool = False
    """At least one joint was held back so that the arm does not touch itself."""
    box_limited: bool = False
    """At least one joint was held back so that the tool point stays in its box."""
    rejected: bool = False
    """The target was not six finite numbers: it was dropped whole and the arm brakes."""


class Gate:
    """Limits of position, speed, acceleration and clearances; one :meth:`check` per tick."""

    def __init__(self, config: GateConfig, dt_s: float, clearance: Clearance) -> None:
        """Before the first check, :meth:`reset` must say where the arm is.

        Args:
            config: the limits.
            dt_s: length of a tick.
            clearance: room that a pose in user units leaves.
        """
        self._dt_s = dt_s
        self._clearance = clearance
        # Plain floats: for six numbers they are several times faster than arrays.
        self._low: list[float] = config.min_position.array().tolist()
        self._high: list[float] = config.max_position.array().tolist()
        self._max_velocity: list[float] = config.max_velocity.array().tolist()
        self._step_velocity: list[float] = (config.max_acceleration.array() * dt_s).tolist()
        self.speed_scale = 1.0
        """Share of the maximum speeds in use, 0 < scale <= 1; lowered while a fault asks for slow motion."""
        self.top_speed = math.inf
        """Speed that no joint exceeds on its way to a target, user units per second; lowered during ramps."""
        self.reset((config.min_position.array() + config.max_position.array()) / 2.0)

    def reset(self, position: FloatArray) -> None:
        """Start anew from rest at the pose that the servos hold (what ``Arm.enable`` returned).

        It may lie outside the limits: commands then only lead back inside.
        """
        self._position: list[float] = [float(x) for x in position]
        self._velocity: list[float] = [0.0] * N_JOINTS
        self._target = list(self._position)
        self._target_step = [0.0] * N_JOINTS
        self._room = self._clearance(self.position)

    def yield_to(self, joint: int, position: float) -> None:
        """Stop pushing: take the place where a blocked joint is as its command, at once."""
        self._position[joint] = min(max(position, self._low[joint]), self._high[joint])
        self._velocity[joint] = 0.0
        self._forget_target()
        self._room = self._clearance(self.position)

    def freeze(self) -> None:
        """Stand still at the last command, at once: for a tick in which nobody knows where a joint is.

        For the goals that is harder than braking; the servos trail behind them by a tenth of a second.
        """
        self._velocity = [0.0] * N_JOINTS
        self._forget_target()

    @property
    def position(self) -> FloatArray:
        """The last command, user units, shape (6,)."""
        return np.array(self._position)

    @property
    def motion(self) -> Motion:
        """The last command, and how it moves, user units (per second)."""
        return Motion(self.position, np.array(self._velocity))

    @property
    def stop_position(self) -> FloatArray:
        """Where the command comes to rest if it brakes from now on."""
        return np.array(self._stop_of(self._position, self._velocity))

    @property
    def at_rest(self) -> bool:
        """Whether the command has stopped moving."""
        return not any(self._velocity)

    def check(self, target: ArrayLike | None) -> GateResult:
        """The command of this tick for a target in user units; ``None`` brakes and holds.

        Exactly one call per tick: it advances the tracker by ``dt_s``.
        """
        if target is None:
            self._advance([self._brake(i) for i in range(N_JOINTS)])
            self._forget_target()
            return GateResult(self.position)
        wanted = _as_vector(target)
        if wanted is None:
            self._advance([self._brake(i) for i in range(N_JOINTS)])
            self._forget_target()
            return GateResult(self.position, rejected=True)
        goal = [min(max(x, low), high) for x, low, high in zip(wanted, self._low, self._high, strict=True)]
        velocity = [self._track(i, goal[i]) for i in range(N_JOINTS)]
        self._target = goal
        trailing = any(
            abs(goal[i] - self._position[i] - velocity[i] * self._dt_s) > _RATE_TOLERANCE
            for i in range(N_JOINTS)
        )
        limited = self._advance(velocity)
        return GateResult(self.position, goal != wanted, trailing, *limited)

    def _track(self, i: int, goal: float) -> float:
        """Speed of joint ``i`` in this tick, towards ``goal``."""
        dt_s, step_velocity, position = self._dt_s, self._step_velocity[i], self._position[i]
        # Follow the part of the target's motion that has lasted two ticks; a jump is no motion.
        step = goal - self._target[i]
        steady = math.copysign(min(abs(step), abs(self._target_step[i])), step)
        self._target_step[i] = step
        rest = goal - steady - position
        velocity = steady / dt_s + math.copysign(_fastest(abs(rest), step_velocity, dt_s), rest)
        limit = min(self._max_velocity[i] * self.speed_scale, self.top_speed)
        velocity = min(max(velocity, -limit), limit)
        # The target's motion may lead towards a joint limit: always be able to stop in front of it.
        velocity = min(velocity, _fastest(max(self._high[i] - position, 0.0), step_velocity, dt_s))
        velocity = max(velocity, -_fastest(max(position - self._low[i], 0.0), step_velocity, dt_s))
        now = self._velocity[i]
        return min(max(velocity, now - step_velocity), now + step_velocity)

    def _brake(self, i: int) -> float:
        """Speed of joint ``i`` in this tick if it stops as fast as it may."""
        now = self._velocity[i]
        return math.copysign(max(abs(now) - self._step_velocity[i], 0.0), now)

    def _advance(self, velocity: list[float]) -> _Limited:
        """Move with these speeds, or with what the clearances allow of them; which of them held back."""
        room = self._room_on_path(velocity)
        limited = _FREE
        if not isinstance(room, Clearances):
            limited = room
            velocity, room = self._slide(velocity)
        for i in range(N_JOINTS):
            position = self._position[i] + velocity[i] * self._dt_s
            self._position[i] = self._rounded(i, position)
        self._velocity = velocity
        self._room = room
        return limited

    def _slide(self, wanted: list[float]) -> tuple[list[float], Clearances]:
        """Brake every joint, then let go on, one at a time, those that take no clearance away."""
        velocity = [self._brake(i) for i in range(N_JOINTS)]
        found = self._room_on_path(velocity)
        if isinstance(found, Clearances):
            room = found
        else:
            # Braking itself dips under a margin between two checked poses. Room outranks smoothness.
            velocity, room = [0.0] * N_JOINTS, self._room
        for i in range(N_JOINTS):
            if wanted[i] == velocity[i]:
                continue
            trial = [*velocity[:i], wanted[i], *velocity[i + 1 :]]
            found = self._room_on_path(trial)
            if isinstance(found, Clearances):
                velocity, room = trial, found
        return velocity, room

    def _room_on_path(self, velocity: list[float]) -> Clearances | _Limited:
        """The clearances after this tick, or which of them that pose, or one on the way to rest, breaks."""
        if not any(velocity):
            return self._room
        after = [p + v * self._dt_s for p, v in zip(self._position, velocity, strict=True)]
        room = self._clearance(np.array(after))
        broken = self._broken(room)
        if any(broken):
            return broken
        path = [end - start for end, start in zip(self._stop_of(after, velocity), after, strict=True)]
        sizes = [abs(way) for way in path]
        loss_m = MAX_LOSS_M * sum(sizes)
        if not any(self._broken(Clearances(*(x - loss_m for x in room)))):
            return room  # too much room for braking to use it up
        checks = min(math.ceil(max(sizes) / _PATH_STEP), _MAX_PATH_CHECKS)
        for k in range(1, checks + 1):
            pose = np.array([start + way * (k / checks) for start, way in zip(after, path, strict=True)])
            broken = self._broken(self._clearance(pose))
            if any(broken):
                return broken
        return room

    def _broken(self, room: Clearances) -> _Limited:
        """Which clearances are negative and less than now."""
        table, links, box = (
            there < min(0.0, now) - _EXACT for there, now in zip(room, self._room, strict=True)
        )
        return table, links, box

    def _stop_of(self, position: list[float], velocity: list[float]) -> list[float]:
        return [
            p + math.copysign(_stopping(abs(v), step_velocity, self._dt_s), v)
            for p, v, step_velocity in zip(position, velocity, self._step_velocity, strict=True)
        ]

    def _rounded(self, i: int, position: float) -> float:
        """Exactly on the target where that is meant, and never past a limit by a rounding error."""
        if abs(position - self._target[i]) < _EXACT:
            return self._target[i]
        low, high = self._low[i], self._high[i]
        return min(max(position, min(low, self._position[i])), max(high, self._position[i]))

    def _forget_target(self) -> None:
        self._target = list(self._position)
        self._target_step = [0.0] * N_JOINTS


def _as_vector(target: ArrayLike) -> list[float] | None:
    """Six finite numbers, or ``None``."""
    try:
        vector = np.asarray(target, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if vector.shape != (N_JOINTS,) or not np.isfinite(vector).all():
        return None
    numbers: list[float] = vector.tolist()
    return numbers


def _fastest(distance: float, step_velocity: float, dt_s: float) -> float:
    """Greatest speed for one tick from which the joint still stops within ``distance``: inverse of d(u)."""
    units = distance / (step_velocity * dt_s)
    n = math.floor((math.sqrt(1.0 + 8.0 * units) - 1.0) / 2.0)
    return (units + n * (n + 1) / 2.0) / (n + 1) * step_velocity


def _stopping(speed: float, step_velocity: float, dt_s: float) -> float:
    """Distance that braking from ``speed`` takes, beginning with the next tick."""
    u = speed / step_velocity
    n = math.floor(u)
    return (n * u - n * (n + 1) / 2.0) * step_velocity * dt_s
