"""A ramp to the ready or park pose that is under way, until the arm has come to rest at its end."""

from __future__ import annotations

from robot.config import RobotConfig
from robot.safety.clearance import Clearance
from robot.safety.gate import Gate
from robot.seams import ArmState, FloatArray
from robot.sources import RampSource
from robot.way import safe_way

SETTLE_S = 2.0
"""Longest wait for the gate to come to rest at the end of a ramp, beyond the time its remaining way takes."""
ARRIVED = 2.0
"""User units from its goal within which a ramp counts as arrived."""


class Travel:
    """The way from where the gate can stop to a pose.

    Args:
        config: limits, speed of ramps, rate.
        gate: what the way begins at and is driven through.
        goal: where to, user units.
        clearance: room that a pose leaves.
    """

    def __init__(self, config: RobotConfig, gate: Gate, goal: FloatArray, clearance: Clearance) -> None:
        low, high = config.gate.min_position.array(), config.gate.max_position.array()
        way = safe_way(gate.stop_position, goal, clearance, low, high)
        self._ramp = RampSource(way, config.ramp_velocity_dps, config.dt_s)
        self._speed, self._dt_s = config.ramp_velocity_dps, config.dt_s
        self._gate = gate
        self._settle_ticks = 0
        self._settle_s = SETTLE_S

    @property
    def off_by(self) -> float:
        """How far the farthest joint's command is from the goal, user units."""
        return float(abs(self._ramp.goal - self._gate.position).max())

    def target(self, tick: int, state: ArmState) -> FloatArray:
        """See Source."""
        return self._ramp.target(tick, state)

    def over(self) -> bool:
        """Whether the arm has come to rest, or will not in time; asked once per tick."""
        if not self._ramp.done:
            return False
        if self._settle_ticks == 0:
            self._settle_s = SETTLE_S + self.off_by / self._speed
        self._settle_ticks += 1
        return self._gate.at_rest or self._settle_ticks * self._dt_s > self._settle_s
