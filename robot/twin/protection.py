"""Current, supply and heat of emulated servos, and what the firmware does against too much of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robot.registers import CURRENT_MA_PER_UNIT, VOLTAGE_V_PER_UNIT, StatusBit
from robot.seams import FloatArray
from robot.twin.motor import ServoParameters

PROTECTION_UNIT_S = 0.01
"""One unit of the protection time and over-current time registers."""
SETTLED_K = 0.4
"""So near to what is around it a servo reads as that."""


class Protection:
    """The slow loop of ``n`` servos; all arrays have shape (n,) and are changed in place.

    Attributes:
        temperature_c: of the case.
        supply_v: what the supply gives.
        voltage_v: what of it reaches the servos, which share one wire.
        current_a: what each draws.
        overloaded: the duty was too high for too long; lasts until :meth:`clear`.
        over_current: the same for the current.
        hot: over the temperature limit now.
    """

    def __init__(self, n: int, parameters: ServoParameters) -> None:
        self._parameters = parameters
        self.temperature_c = np.full(n, parameters.ambient_c)
        self.supply_v = np.full(n, parameters.supply_v)
        self.voltage_v = self.supply_v.copy()
        self.current_a = np.zeros(n)
        self.overloaded = np.zeros(n, dtype=bool)
        self.over_current = np.zeros(n, dtype=bool)
        self.hot = np.zeros(n, dtype=bool)
        self._overload_s = np.zeros(n)
        self._over_current_s = np.zeros(n)

    def configure(self, column: Callable[[str], FloatArray]) -> None:
        """Take the limits from the registers; ``column`` gives one register of all servos."""
        self._overload_pct = column("overload_torque")
        self._overload_after_s = column("protection_time") * PROTECTION_UNIT_S
        self._limit_a = column("protection_current") * CURRENT_MA_PER_UNIT / 1000.0
        self._over_current_after_s = column("over_current_time") * PROTECTION_UNIT_S
        self._limit_c = column("max_temperature")
        self._lowest_v = column("min_voltage") * VOLTAGE_V_PER_UNIT
        self._highest_v = column("max_voltage") * VOLTAGE_V_PER_UNIT
        self._unloads = column("unloading_condition").astype(np.int64)

    def restart(self) -> None:
        """Cool and at rest; what has latched stays."""
        self.temperature_c[:] = self._parameters.ambient_c
        self.voltage_v[:] = self.supply_v
        self.current_a[:] = 0.0
        self.hot[:] = False

    def clear(self, i: int) -> None:
        """Give one servo its force back.

        Only switching torque, or a reboot, does so. New goals do not, though the manual says so: a controller
        writes one each tick, and users of real grippers find theirs overloaded until a power cycle.
        """
        self.overloaded[i] = self.over_current[i] = False
        self._overload_s[i] = self._over_current_s[i] = 0.0

    @property
    def settling(self) -> bool:
        """Whether temperature or voltage will change though nothing is driven."""
        warm = np.abs(self.temperature_c - self._parameters.ambient_c) > SETTLED_K
        return bool(warm.any() or (self.voltage_v != self.supply_v).any())

    @property
    def limp(self) -> NDArray[np.bool_]:
        """Servos that give no force, as far as their unloading register has them do so."""
        hot = self._unloading(self.hot, StatusBit.HEAT)
        return hot | self._unloading(self.over_current, StatusBit.CURRENT)

    @property
    def weak(self) -> NDArray[np.bool_]:
        """Servos that give their protective torque only."""
        return self._unloading(self.overloaded, StatusBit.OVERLOAD)

    def _unloading(self, who: NDArray[np.bool_], bit: int) -> NDArray[np.bool_]:
        unloading: NDArray[np.bool_] = who & ((self._unloads & bit) != 0)
        return unloading

    def advance(
        self, on: NDArray[np.bool_], force_nm: FloatArray, velocity_rad_s: FloatArray, dt_s: float
    ) -> bool:
        """Live through ``dt_s``, motors ``on`` driven; whether a protection has set in or ended."""
        p = self._parameters
        driven = np.where(on, force_nm, 0.0)
        self.current_a[:] = np.where(on, p.current_a(driven, velocity_rad_s, self.voltage_v), 0.0)
        self.voltage_v[:] = self.supply_v - p.wire_ohm * float(self.current_a.sum())
        winding_a = driven / p.kt_nm_per_a
        cooling_w = (self.temperature_c - p.ambient_c) / p.thermal_resistance_k_per_w
        heating_w = winding_a**2 * p.resistance_ohm - cooling_w
        self.temperature_c += heating_w / p.heat_capacity_j_per_k * dt_s
        return self._trip(100.0 * np.abs(force_nm) / p.stall_force_nm(self.supply_v), on, dt_s)

    def _trip(self, duty_pct: FloatArray, on: NDArray[np.bool_], dt_s: float) -> bool:
        over = (duty_pct > self._overload_pct) & on
        self._overload_s = np.where(over, self._overload_s + dt_s, 0.0)
        tripped = over & (self._overload_s > self._overload_after_s) & ~self.overloaded
        self._over_current_s = np.where(self.current_a > self._limit_a, self._over_current_s + dt_s, 0.0)
        cut = (self._over_current_s > self._over_current_after_s) & ~self.over_current
        hot = self.temperature_c > self._limit_c
        changed = bool((tripped | cut | (hot != self.hot)).any())
        self.overloaded |= tripped
        self.over_current |= cut
        self.hot[:] = hot
        return changed

    def status(self, i: int) -> int:
        """Error byte of one servo."""
        status = 0
        if not self._lowest_v[i] <= self.voltage_v[i] <= self._highest_v[i]:
            status |= StatusBit.VOLTAGE
        if self.temperature_c[i] > self._limit_c[i]:
            status |= StatusBit.HEAT
        if self.over_current[i]:
            status |= StatusBit.CURRENT
        if self.overloaded[i]:
            status |= StatusBit.OVERLOAD
        return status
