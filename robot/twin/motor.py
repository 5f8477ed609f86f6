"""Physics of one STS3215: from supply voltage and gains to stiffness, force and damping.

A position servo drives its motor with a duty proportional to the position error. With ``duty = gain *
P * error`` and a DC motor behind gears (torque constant ``kt`` seen at the output shaft, winding
resistance ``R``), stall force, stiffness and damping all follow from the supply voltage:

    force = kt * V / R        kp = force * 0.1649 * P        damping = viscous + kt**2 / R

The constants are the published identification of the 7.4 V servo (Rhoban BAM, model m1); 0.1649 is
the duty per radian and unit of P that reproduces both that identification and the 12 V one. Friction
and command delay were tuned on recordings of a real arm (docs/twin.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot.registers import TICKS_PER_TURN
from robot.seams import FloatArray

DUTY_PER_RAD_AND_P = 0.1649
"""Duty for one radian of error and one unit of P gain, from the published error-gain identification."""

TICKS_PER_RAD = TICKS_PER_TURN / (2.0 * math.pi)


@dataclass(frozen=True, slots=True)
class ServoParameters:
    """What the registers do not say about a servo and its supply."""

    supply_v: float = 7.4
    kt_nm_per_a: float = 1.2116
    resistance_ohm: float = 2.676
    viscous_nm_s_per_rad: float = 0.0591
    coulomb_nm: float = 0.15
    """Friction of the loaded gears and joints; the published 0.052 is that of a free servo."""
    armature_kg_m2: float = 0.0284
    command_delay_s: float = 0.005
    """From the arrival of a goal to the motor's reaction: the firmware's own control period and filter."""
    wire_ohm: float = 0.05
    """Resistance of supply and daisy chain, shared by all servos."""
    ambient_c: float = 25.0
    heat_capacity_j_per_k: float = 40.0
    """Case and motor; with ``thermal_resistance`` gives about +15 K in ten minutes under load."""
    thermal_resistance_k_per_w: float = 12.0
    stale_goal_jump: bool = True
    """Whether torque-on chases whatever goal is in RAM, the cautious assumption; else the servo holds still
    until it is told a goal. Nobody has documented which of the two this model does.
    """

    def stall_force_nm(self, voltage_v: FloatArray) -> FloatArray:
        """Torque at full duty and standstill, shape (n,)."""
        return self.kt_nm_per_a * voltage_v / self.resistance_ohm

    def stiffness_nm_per_rad(self, voltage_v: FloatArray, p_gain: FloatArray) -> FloatArray:
        """Position stiffness of the closed loop, shape (n,)."""
        return self.stall_force_nm(voltage_v) * DUTY_PER_RAD_AND_P * p_gain

    @property
    def driven_damping_nm_s_per_rad(self) -> float:
        """Damping while the bridge drives: friction and back-EMF."""
        return self.viscous_nm_s_per_rad + self.kt_nm_per_a**2 / self.resistance_ohm

    def current_a(
        self, force_nm: FloatArray, velocity_rad_s: FloatArray, voltage_v: FloatArray
    ) -> FloatArray:
        """Supply current that a driven motor draws, shape (n,), never negative."""
        duty = force_nm / self.stall_force_nm(voltage_v)
        winding = (duty * voltage_v - self.kt_nm_per_a * velocity_rad_s) / self.resistance_ohm
        current: FloatArray = np.abs(duty * winding)
        return current


class Profile:
    """The setpoint inside the firmware: follows the goal within goal speed and acceleration.

    All quantities are in ticks; arrays have shape (n,).
    """

    def __init__(self, position: FloatArray) -> None:
        self.position = position.astype(np.float64).copy()
        self.velocity = np.zeros_like(self.position)

    def jump_to(self, index: int, position: float) -> None:
        """Put one setpoint somewhere, at rest."""
        self.position[index] = position
        self.velocity[index] = 0.0

    def turn(
        self,
        who: NDArray[np.bool_],
        velocity: FloatArray,
        max_acceleration: FloatArray,
        limits: tuple[FloatArray, FloatArray],
        dt_s: float,
    ) -> None:
        """Advance those of ``who`` by ``dt_s`` at a velocity, changed within the acceleration.

        A setpoint does not leave its ``limits`` (lowest, highest): what is blocked piles nothing up.
        """
        most = max_acceleration * dt_s
        reached = self.velocity + np.minimum(np.maximum(velocity - self.velocity, -most), most)
        position = np.minimum(np.maximum(self.position + reached * dt_s, limits[0]), limits[1])
        self.velocity = np.where(who, reached, self.velocity)
        self.position = np.where(who, position, self.position)

    def step(
        self, goal: FloatArray, max_speed: FloatArray, max_acceleration: FloatArray, dt_s: float
    ) -> None:
        """Advance by ``dt_s`` towards ``goal``.

        The speed never exceeds what can still be braked before the goal, ``sqrt(2 a d)``; infinite
        acceleration makes the setpoint follow the goal at once.
        """
        distance = goal - self.position
        if not (distance.any() or self.velocity.any()):
            return
        gap = np.abs(distance)
        speed = np.minimum(np.sqrt(2.0 * max_acceleration * gap), np.minimum(max_speed, gap / dt_s))
        most = max_acceleration * dt_s
        change = np.minimum(np.maximum(np.copysign(speed, distance) - self.velocity, -most), most)
        self.velocity = self.velocity + change
        step = self.velocity * dt_s
        # A step in the goal's direction that covers the gap ends on the goal, at rest.
        reached = step * distance >= distance * distance
        self.position = np.where(reached, goal, self.position + step)
        self.velocity = np.where(reached, 0.0, self.velocity)
