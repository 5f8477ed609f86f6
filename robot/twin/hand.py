"""An imaginary person's hand on an arm: it moves the joints that no servo drives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot.joints import N_JOINTS
from robot.seams import FloatArray
from robot.twin.motor import Profile

SPEED_RAD_S = 3.0
"""As fast as a person sweeps a joint without throwing it."""
ACCELERATION_RAD_S2 = 20.0
STIFFNESS_NM_PER_RAD = 60.0
"""Firm: the friction of a joint (0.15 N m) leaves it 0.15 degrees short."""
DAMPING_NM_S_PER_RAD = 3.0
STRENGTH_NM = 6.0
"""More than gravity takes anywhere, less than would break a stop."""

_SPEED = np.full(N_JOINTS, SPEED_RAD_S)
_ACCELERATION = np.full(N_JOINTS, ACCELERATION_RAD_S2)


class Hand:
    """Leads an arm to a pose along a smooth path and keeps it there until it lets go."""

    def __init__(self) -> None:
        self._goal_rad: FloatArray | None = None
        self._path = Profile(np.zeros(N_JOINTS))

    @property
    def holds(self) -> bool:
        """Whether there is a hand on the arm."""
        return self._goal_rad is not None

    def take(self, goal_rad: FloatArray, present_rad: FloatArray) -> None:
        """Begin to lead the arm from its present pose to another, both of shape (6,)."""
        if self._goal_rad is None:
            self._path = Profile(present_rad)
        self._goal_rad = goal_rad

    def let_go(self) -> None:
        """Take the hand away."""
        self._goal_rad = None

    def step(self, present_rad: FloatArray, limp: NDArray[np.bool_], dt_s: float) -> FloatArray:
        """Where the hand has the joints after ``dt_s``, shape (6,): driven ones it leaves where they are."""
        if self._goal_rad is None:
            return present_rad
        path = self._path
        path.position = np.where(limp, path.position, present_rad)
        path.velocity = np.where(limp, path.velocity, 0.0)
        path.step(self._goal_rad, _SPEED, _ACCELERATION, dt_s)
        return np.where(limp, path.position, present_rad)

    def force_nm(
        self,
        present_rad: FloatArray,
        velocity_rad_s: FloatArray,
        weight_nm: FloatArray,
        limp: NDArray[np.bool_],
        dt_s: float,
    ) -> FloatArray:
        """What the hand gives the joints in ``dt_s``, shape (6,); it carries their weight."""
        error = self.step(present_rad, limp, dt_s) - present_rad
        damped = DAMPING_NM_S_PER_RAD * (self._path.velocity - velocity_rad_s)
        force = np.clip(STIFFNESS_NM_PER_RAD * error + damped + weight_nm, -STRENGTH_NM, STRENGTH_NM)
        return np.where(limp, force, 0.0)
