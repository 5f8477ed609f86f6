"""When a reading of a servo is a fault: numbers, their units, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from robot.joints import GRIPPER, N_JOINTS
from robot.seams import FloatArray

PROTECTION_MA = 3250.0
"""Current at which a servo cuts itself off: 500 units of 6.5 mA, the factory value that LeRobot keeps."""
GRIPPER_PROTECTION_MA = 1625.0
"""The gripper's, half as much: 250 units, as LeRobot sets it."""


@dataclass(frozen=True, slots=True)
class Supply:
    """What counts as too little and too much of one supply, in volts."""

    nominal_v: float
    low_v: float
    """Hold below."""
    sag_v: float
    """Warn below."""
    high_v: float
    """Hold above."""


SUPPLIES = (
    # The usual 5 V adapter on 7.4 V servos: a healthy one reads 4.9 V. They alarm by themselves below 4.0 V
    # (register 15) and let go, so the arm is held before that. Above 6 V another supply is plugged in.
    Supply(5.0, low_v=4.2, sag_v=4.5, high_v=6.0),
    # Two lithium cells: 8.4 V full, where the servos already alarm by themselves (register 14: 8.0 V), 6.0 V
    # empty. Under 5.5 V the servos have lost a quarter of their torque.
    Supply(7.4, low_v=5.5, sag_v=6.3, high_v=8.5),
    # The 12 V servos on their adapter, or on three cells: 12.6 V full, 9.0 V empty.
    Supply(12.0, low_v=9.0, sag_v=10.2, high_v=13.8),
)
"""The supplies that SO-101 arms are built with."""


def supply(nominal_v: float) -> Supply:
    """The row of a supply; others are scaled from the nearest row, but never below what 5 V needs."""
    nearest = min(SUPPLIES, key=lambda row: abs(row.nominal_v - nominal_v))
    share, least = nominal_v / nearest.nominal_v, SUPPLIES[0]
    return Supply(
        nominal_v,
        low_v=max(share * nearest.low_v, least.low_v),
        sag_v=max(share * nearest.sag_v, least.sag_v),
        high_v=share * nearest.high_v,
    )


def _by_joint(arm: float, gripper: float) -> FloatArray:
    values = np.full(N_JOINTS, arm)
    values[GRIPPER] = gripper
    values.setflags(write=False)
    return values


@dataclass(frozen=True, slots=True)
class SupervisionLimits:
    """When a reading is a fault. Times are how long it must last without a break."""

    max_temperature_c: float = 65.0
    """Park above this; the servo itself lets go at 70."""
    warm_margin_c: float = 5.0
    """Go slow from this far below the maximum."""
    supply_v: float = 7.4
    """Nominal supply: a row of :data:`SUPPLIES`."""
    following_deg: float = 11.5
    """0.2 rad: four times the sag of a loaded joint."""
    following_lag_s: float = 0.13
    """How long servos need to get where they are sent: a joint is compared with its goals of this time."""
    stall_load_pct: FloatArray = field(default_factory=lambda: _by_joint(50.0, 25.0))
    """Share of full drive that a joint at rest does not need. An arm stretched out needs 0.86 N m of its
    shoulder: 29 % of what a servo has at 7.4 V and 39 % at 5 V; real servos at rest were never seen above
    18 %, and one that starts on a long way passes 49 % for a moment. The gripper is limited to half of the
    drive and calls a quarter of it an overload by itself."""
    stall_away: float = 3.0
    """User units between a joint and its goal, more than friction leaves."""
    stall_speed: float = 5.0
    """User units per second up to which a joint stands: the register counts in steps of 4.4 degrees."""
    current_high_ma: FloatArray = field(
        default_factory=lambda: _by_joint(0.5 * PROTECTION_MA, 0.5 * GRIPPER_PROTECTION_MA)
    )
    """Warn above half of the protection current."""
    over_current_ma: FloatArray = field(
        default_factory=lambda: _by_joint(0.8 * PROTECTION_MA, 0.8 * GRIPPER_PROTECTION_MA)
    )
    """Hold above this: 2.6 A, a little less than a 7.4 V servo draws that is held fast at full drive."""
    temperature_s: float = 0.5
    voltage_s: float = 0.25
    status_s: float = 0.05
    following_s: float = 0.5
    stall_s: float = 1.0
    """Half of the time after which a servo that is overloaded gives up its force."""
    current_high_s: float = 1.0
    over_current_s: float = 0.5
    """A quarter of the servo's own 2 s; motors that start draw as much for a tenth of a second."""
    strain_s: float = 5.0
    """Two readings of a strain within this time count: a servo may drop its alarm with each new goal."""
