"""The last thing between any source and the servos. Pure: no I/O, no clock.

Every command is within the joint limits and the speed and acceleration limits, and keeps the two fingertips
above the table, whatever the source asks for. Per joint it is a second-order tracker in discrete time: each
tick picks the speed with which the joint moves during the tick, such that it can still stop where it must.

Stopping from speed v, losing ``a dt`` per tick, takes the distance of the braking rule v^2 / 2a, here in its
exact form for ticks. Moving with v for one tick and then stopping, with u = v / (a dt), n = floor(u) and
distances in units of a dt^2, takes

    d(u) = (n + 1) u - n (n + 1) / 2            (increasing, piecewise linear)

and the tracker uses its inverse: the fastest speed from which a distance is enough. Where a target moves
steadily, that motion is followed and only what is left is braked for, so there is no lag on a smooth path;
a target that stands still is never overshot.

The table guard covers the fingertips alone. A pose that folds the arm can bring the wrist, its motor or the
back of the gripper under the table while the fingertips are above it; who plans such poses has to check them.

What the gate does not know either: forces, contact with anything but the table, the arm's own links, and
whether the servos follow (``robot.safety.supervision`` watches that).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from robot.config import GateConfig
from robot.joints import N_JOINTS
from robot.seams import FloatArray

_RATE_TOLERANCE = 0.5
"""User units by which a command may trail its target before the tick counts as rate limited; half a degree is
under the static error of the servos."""
_PATH_STEP = 3.0
"""User units of braking path per table check. Between two checks a link of 0.3 m dips at most
0.3 (1 - cos 1.5 deg) = 0.1 mm below the straight line."""
_MAX_PATH_CHECKS = 4
_MAX_DROP_M = 0.01
"""Metres that a fingertip can sink while one joint turns by one user unit: 0.0087 m for a degree at a reach
of 0.5 m, which is more than the arm's, and a percent of the gripper is about one degree of the jaw."""
_EXACT = 1e-9


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
    """At least one joint was held back so that no fingertip goes under the table margin."""
    rejected: bool = False
    """The target was not six finite numbers: it was dropped whole and the arm brakes."""


class Gate:
    """Limits of position, speed, acceleration and height; one :meth:`check` per tick."""

    def __init__(
        self, config: GateConfig, dt_s: float, lowest_point_m: Callable[[FloatArray], float]
    ) -> None:
        """Before the first check, :meth:`reset` must say where the arm is.

        Args:
            config: the limits.
            dt_s: length of a tick.
            lowest_point_m: height of the lowest fingertip over the table for a pose in user units.
        """
        self._dt_s = dt_s
        self._lowest_point_m = lowest_point_m
        self._margin_m = config.table_margin_m
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
        self._height_m = self._lowest_point_m(self.position)

    def yield_to(self, joint: int, position: float) -> None:
        """Stop pushing: take the place where a blocked joint is as its command, at once."""
        self._position[joint] = min(max(position, self._low[joint]), self._high[joint])
        self._velocity[joint] = 0.0
        self._forget_target()
        self._height_m = self._lowest_point_m(self.position)

    @property
    def position(self) -> FloatArray:
        """The last command, user units, shape (6,)."""
        return np.array(self._position)

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
        table_limited = self._advance(velocity)
        return GateResult(self.position, goal != wanted, trailing, table_limited)

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

    def _advance(self, velocity: list[float]) -> bool:
        """Move with these speeds, or with what the table allows of them; whether it held something back."""
        floor_m = min(self._margin_m, self._height_m)  # under the margin already: not lower than now
        limited = False
        height_m = self._path_height_m(velocity, floor_m)
        if height_m is None:
            limited = any(velocity)
            velocity, height_m = self._slide(velocity, floor_m)
        for i in range(N_JOINTS):
            position = self._position[i] + velocity[i] * self._dt_s
            self._position[i] = self._rounded(i, position)
        self._velocity = velocity
        self._height_m = height_m
        return limited

    def _slide(self, wanted: list[float], floor_m: float) -> tuple[list[float], float]:
        """Brake every joint, then let go on, one at a time, those that do not lead under the floor."""
        velocity = [self._brake(i) for i in range(N_JOINTS)]
        height_m = self._path_height_m(velocity, floor_m)
        if height_m is None:
            # Braking itself dips under the floor between two checked poses. The table outranks smoothness.
            velocity, height_m = [0.0] * N_JOINTS, self._height_m
        for i in range(N_JOINTS):
            if wanted[i] == velocity[i]:
                continue
            trial = [*velocity[:i], wanted[i], *velocity[i + 1 :]]
            trial_height_m = self._path_height_m(trial, floor_m)
            if trial_height_m is not None:
                velocity, height_m = trial, trial_height_m
        return velocity, height_m

    def _path_height_m(self, velocity: list[float], floor_m: float) -> float | None:
        """Height after this tick; ``None`` if that pose, or one on the way to rest, is under the floor."""
        if not any(velocity):
            return self._height_m
        after = [p + v * self._dt_s for p, v in zip(self._position, velocity, strict=True)]
        height_m = self._lowest_point_m(np.array(after))
        if height_m < floor_m - _EXACT:
            return None
        path = [end - start for end, start in zip(self._stop_of(after, velocity), after, strict=True)]
        sizes = [abs(way) for way in path]
        if height_m - _MAX_DROP_M * sum(sizes) > floor_m:
            return height_m  # too high up to reach the table while braking
        checks = min(math.ceil(max(sizes) / _PATH_STEP), _MAX_PATH_CHECKS)
        for k in range(1, checks + 1):
            pose = np.array([start + way * (k / checks) for start, way in zip(after, path, strict=True)])
            if self._lowest_point_m(pose) < floor_m - _EXACT:
                return None
        return height_m

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
