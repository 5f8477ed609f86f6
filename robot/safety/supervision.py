"""Looks at what the servos say, tick by tick, and finds what is wrong.

A reading counts only if it lasts: real buses show single temperatures of 72 to 92 C between others of 34 to
38 C, and voltages that dip while a motor starts. Strain (overload, over-current) counts if it comes twice
within a few seconds, as a servo may report it for moments only; error bytes come in packets with a checksum.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot.joints import GRIPPER, JOINTS, N_JOINTS
from robot.registers import StatusBit
from robot.safety.faults import Finding, Severity
from robot.seams import ArmState, FloatArray


@dataclass(frozen=True, slots=True)
class SupervisionLimits:
    """When a reading is a fault. Times are how long it must last without a break."""

    max_temperature_c: float = 65.0
    """Park above this; the servo itself lets go at 70."""
    warm_margin_c: float = 5.0
    """Go slow from this far below the maximum."""
    supply_v: float = 7.4
    low_share: float = 0.75
    """Hold below this share of the supply: the servos lose a quarter of their torque."""
    sag_share: float = 0.85
    """Warn below this share."""
    high_share: float = 1.15
    """Hold above this share: 8.5 V on a 7.4 V arm, whose servos raise their own alarm at 8.0 V."""
    following_deg: float = 11.5
    """0.2 rad: four times the sag of a loaded joint."""
    following_lag_s: float = 0.13
    """How long servos need to get where they are sent: a joint is compared with its goals of this time."""
    temperature_s: float = 0.5
    voltage_s: float = 0.25
    status_s: float = 0.05
    following_s: float = 0.5
    strain_s: float = 5.0
    """Two readings of a strain within this time count: a servo may drop its alarm with each new goal."""


_COOL = "let it cool down, and find out what it strains against"
_SUPPLY = "check the power supply and its cable"
_JAM = "look for an obstacle or a loose horn, then clear the fault"


class Supervisor:
    """Finds faults in a stream of :class:`ArmState`; one :meth:`look` per tick that brought a state."""

    CODES = frozenset(
        {
            "warm", "overheated", "voltage_sag", "voltage_low", "voltage_high", "voltage_alarm",
            "encoder_error", "over_current", "overload", "gripper_strained", "following_error",
        }
    )  # fmt: skip
    """Every code that :meth:`look` can give."""

    def __init__(self, limits: SupervisionLimits, dt_s: float) -> None:
        self._limits = limits
        self._dt_s = dt_s
        self._ticks: dict[str, NDArray[np.int64]] = {}
        self._strains: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        """Code -> look of the last and of the last but one reading of each joint."""
        self._looks = 0
        self._present = np.ones(N_JOINTS, dtype=bool)
        self._strain_looks = max(2, round(limits.strain_s / dt_s))
        self._goals: deque[FloatArray] = deque(maxlen=1 + max(0, math.ceil(limits.following_lag_s / dt_s)))
        times = {
            "temperature": limits.temperature_s,
            "voltage": limits.voltage_s,
            "status": limits.status_s,
            "following": limits.following_s,
        }
        self._needed = {kind: max(2, round(time_s / dt_s)) for kind, time_s in times.items()}

    def reset(self) -> None:
        """Forget how long anything has lasted (after torque was switched)."""
        self._ticks.clear()
        self._strains.clear()
        self._goals.clear()

    def look(self, state: ArmState, goal: FloatArray | None, missing: Collection[str] = ()) -> list[Finding]:
        """All that is wrong now.

        Args:
            state: this tick's reading.
            goal: what the servos were told to hold before this reading; ``None`` while torque is off.
            missing: joints that did not answer: what was known of them stays, and nothing new counts.
        """
        limits = self._limits
        self._looks += 1
        self._present = np.array([joint not in missing for joint in JOINTS])
        found = self._heat(state, limits) + self._voltage(state, limits) + self._status(state)
        if goal is not None:
            self._goals.append(goal)
            goals = np.array(self._goals)
            lowest, highest = goals.min(axis=0), goals.max(axis=0)
            error = np.maximum(np.maximum(lowest - state.position, state.position - highest), 0.0)
            error[GRIPPER] = 0.0  # whatever it holds keeps it from closing
            for i in self._lasting("following_error", error > limits.following_deg, "following"):
                message = f"{JOINTS[i]} is {error[i]:.0f} deg away from where its goals were"
                found.append(Finding("following_error", Severity.HOLD, JOINTS[i], message, _JAM))
        else:
            self._ticks.pop("following_error", None)
            self._goals.clear()
        return found

    def _heat(self, state: ArmState, limits: SupervisionLimits) -> list[Finding]:
        temperature_c = state.temperature_c
        found = []
        alarm = (state.status & StatusBit.HEAT) != 0
        hot = (temperature_c >= limits.max_temperature_c) | alarm
        warm = temperature_c >= limits.max_temperature_c - limits.warm_margin_c
        overheated = self._lasting("overheated", hot, "temperature")
        for i in overheated:
            message = (
                f"{JOINTS[i]} is at {temperature_c[i]:.0f} C, the limit is {limits.max_temperature_c:.0f}"
            )
            found.append(Finding("overheated", Severity.PARK, JOINTS[i], message, _COOL))
        for i in self._lasting("warm", warm, "temperature"):
            message = f"{JOINTS[i]} is warm: {temperature_c[i]:.0f} C"
            found.append(Finding("warm", Severity.SLOW, JOINTS[i], message, _COOL))
        return found

    def _voltage(self, state: ArmState, limits: SupervisionLimits) -> list[Finding]:
        """One finding for the whole arm, which has one supply; it names the joint that is worst off."""
        supply_v, volts = limits.supply_v, state.voltage_v
        lowest, highest = int(volts.argmin()), int(volts.argmax())
        low = self._lasting("voltage_low", volts < limits.low_share * supply_v, "voltage")
        sag = self._lasting("voltage_sag", volts < limits.sag_share * supply_v, "voltage")
        high = self._lasting("voltage_high", volts > limits.high_share * supply_v, "voltage")
        found = []
        if low or sag:
            code, severity = ("voltage_low", Severity.HOLD) if low else ("voltage_sag", Severity.WARN)
            message = f"{JOINTS[lowest]} has only {volts[lowest]:.1f} V of {supply_v:.1f} V"
            found.append(Finding(code, severity, None, message, _SUPPLY))
        if high:
            message = f"{JOINTS[highest]} has {volts[highest]:.1f} V instead of {supply_v:.1f} V"
            found.append(Finding("voltage_high", Severity.HOLD, None, message, _SUPPLY))
        return found

    def _status(self, state: ArmState) -> list[Finding]:
        rules = (
            (StatusBit.VOLTAGE, "voltage_alarm", "its voltage is out of range", _SUPPLY),
            (StatusBit.ANGLE, "encoder_error", "its encoder fails", "replace the servo"),
            (StatusBit.CURRENT, "over_current", "its current was too high, it has let go", _JAM),
            (StatusBit.OVERLOAD, "overload", "it was overloaded and has reduced its force", _JAM),
        )
        found = []
        for bit, code, message, remedy in rules:
            reported = (state.status & bit) != 0
            strain = bit in (StatusBit.CURRENT, StatusBit.OVERLOAD)
            for i in self._repeated(code, reported) if strain else self._lasting(code, reported, "status"):
                if i == GRIPPER and strain:
                    # A gripper that closes on something is overloaded by design: it holds what it holds.
                    strained = "the gripper strains and holds with reduced force"
                    found.append(
                        Finding("gripper_strained", Severity.WARN, JOINTS[i], strained, "none needed")
                    )
                    continue
                said = f"{JOINTS[i]} says that {message}"
                found.append(Finding(code, Severity.HOLD, JOINTS[i], said, remedy))
        return found

    def _lasting(self, code: str, condition: NDArray[np.bool_], kind: str) -> list[int]:
        """Joints for which a condition has held long enough, this tick included."""
        before = self._ticks.get(code)
        if before is None:
            before = np.zeros(N_JOINTS, dtype=np.int64)
        count = np.where(self._present, np.where(condition, before + 1, 0), before)
        self._ticks[code] = count
        if not count.any():
            return []
        return [int(i) for i in np.flatnonzero(count >= self._needed[kind])]

    def _repeated(self, code: str, condition: NDArray[np.bool_]) -> list[int]:
        """Joints for which a condition was read at least twice within ``strain_s``."""
        condition = condition & self._present
        if code not in self._strains and not condition.any():
            return []
        long_ago = np.full(N_JOINTS, -self._strain_looks, dtype=np.int64)
        last, before = self._strains.get(code, (long_ago, long_ago))
        last, before = last.copy(), before.copy()
        before[condition] = last[condition]
        last[condition] = self._looks
        self._strains[code] = (last, before)
        return [int(i) for i in np.flatnonzero(self._looks - before < self._strain_looks)]
