"""Looks at what the servos say, tick by tick, and finds what is wrong.

A reading counts only if it lasts: real buses show single temperatures of 72 to 92 C between others of 34 to
38 C, and voltages that dip while a motor starts. Strain (overload, over-current) counts if it comes twice
within a few seconds, as a servo may report it for moments only; error bytes come in packets with a checksum.

What the gripper does to hold something strains it by design. So its strain is a warning where it began while
the gripper was closing, and a fault like any other joint's where it began otherwise.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection

import numpy as np

from robot.joints import GRIPPER, JOINTS, N_JOINTS
from robot.registers import StatusBit
from robot.safety.faults import Finding, Severity
from robot.safety.lasting import Flags, Lasting
from robot.safety.limits import SupervisionLimits, supply
from robot.seams import ArmState, FloatArray

_COOL = "let it cool down, and find out what it strains against"
_SUPPLY = "check the power supply and its cable"
_JAM = "look for an obstacle or a loose horn, then clear the fault"
_CLOSING = 1.0
"""Percent by which a gripper's goal is further closed than the gripper is, where it is closing."""


class Supervisor:
    """Finds faults in a stream of :class:`ArmState`; one :meth:`look` per tick that brought a state."""

    CODES = frozenset(
        {
            "warm", "overheated", "voltage_sag", "voltage_low", "voltage_high", "voltage_alarm",
            "encoder_error", "current_high", "over_current", "overload", "gripper_strained",
            "following_error", "stalled",
        }
    )  # fmt: skip
    """Every code that :meth:`look` can give."""

    def __init__(self, limits: SupervisionLimits, dt_s: float) -> None:
        self._limits = limits
        self._supply = supply(limits.supply_v)
        self._since = Lasting(dt_s, limits.strain_s)
        self._placed: Flags = np.ones(N_JOINTS, dtype=bool)
        """Joints whose position is one that was read in this look."""
        self._goals: deque[FloatArray] = deque(maxlen=1 + max(0, math.ceil(limits.following_lag_s / dt_s)))
        self._gripper_reports = False
        self._grasps = False

    def forget_strain(self, joint: str) -> None:
        """A person has had this joint's overload released: what it reported before counts no longer."""
        self._since.forget("overload", "over_current", "stalled", joint=JOINTS.index(joint))

    def look(
        self,
        state: ArmState,
        goal: FloatArray | None,
        missing: Collection[str] = (),
        jumped: Collection[str] = (),
    ) -> list[Finding]:
        """All that is wrong now.

        Args:
            state: this tick's reading.
            goal: what the servos were told to hold before this reading; ``None`` while torque is off.
            missing: joints that did not answer: what was known of them stays, and nothing new counts.
            jumped: joints that answered, but whose position is an older one, as theirs was not believed: the
                same goes for how they move.
        """
        self._since.begin(missing)
        self._placed = np.array([joint not in jumped for joint in JOINTS])
        if goal is None:
            self._goals.clear()
        else:
            self._goals.append(goal)
        self._look_at_gripper(state)
        return [
            *self._heat(state),
            *self._voltage(state),
            *self._status(state),
            *self._current(state),
            *self._motion(state),
        ]

    def _look_at_gripper(self, state: ArmState) -> None:
        """Whether what strains the gripper is what it holds: it was closing when it began to report that."""
        if not self._since.present[GRIPPER]:
            return
        position, goals = float(state.position[GRIPPER]), [float(goal[GRIPPER]) for goal in self._goals]
        closing = not goals or min(goals) < position - _CLOSING
        reports = bool(state.status[GRIPPER] & (StatusBit.CURRENT | StatusBit.OVERLOAD)) or bool(
            state.current_ma[GRIPPER] > self._limits.current_high_ma[GRIPPER]
        )
        if reports and not self._gripper_reports:
            self._grasps = closing
        self._gripper_reports = reports

    def _heat(self, state: ArmState) -> list[Finding]:
        limits, temperature_c = self._limits, state.temperature_c
        found = []
        alarm = (state.status & StatusBit.HEAT) != 0
        hot = (temperature_c >= limits.max_temperature_c) | alarm
        warm = temperature_c >= limits.max_temperature_c - limits.warm_margin_c
        for i in self._since.lasting("overheated", hot, limits.temperature_s):
            message = (
                f"{JOINTS[i]} is at {temperature_c[i]:.0f} C, the limit is {limits.max_temperature_c:.0f}"
            )
            found.append(Finding("overheated", Severity.PARK, JOINTS[i], message, _COOL))
        for i in self._since.lasting("warm", warm, limits.temperature_s):
            message = f"{JOINTS[i]} is warm: {temperature_c[i]:.0f} C"
            found.append(Finding("warm", Severity.SLOW, JOINTS[i], message, _COOL))
        return found

    def _voltage(self, state: ArmState) -> list[Finding]:
        """One finding for the whole arm, which has one supply; it names the joint that is worst off."""
        supplied, volts, time_s = self._supply, state.voltage_v, self._limits.voltage_s
        lowest, highest = int(volts.argmin()), int(volts.argmax())
        low = self._since.lasting("voltage_low", volts < supplied.low_v, time_s)
        sag = self._since.lasting("voltage_sag", volts < supplied.sag_v, time_s)
        high = self._since.lasting("voltage_high", volts > supplied.high_v, time_s)
        found = []
        if low or sag:
            code, severity = ("voltage_low", Severity.HOLD) if low else ("voltage_sag", Severity.WARN)
            message = f"{JOINTS[lowest]} has only {volts[lowest]:.1f} V of {supplied.nominal_v:.1f} V"
            found.append(Finding(code, severity, None, message, _SUPPLY))
        if high:
            message = f"{JOINTS[highest]} has {volts[highest]:.1f} V instead of {supplied.nominal_v:.1f} V"
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
            if bit in (StatusBit.CURRENT, StatusBit.OVERLOAD):
                joints = self._since.repeated(code, reported)
            else:
                joints = self._since.lasting(code, reported, self._limits.status_s)
            for i in joints:
                finding = Finding(code, Severity.HOLD, JOINTS[i], f"{JOINTS[i]} says that {message}", remedy)
                strain = code in ("over_current", "overload")
                found.append(self._unless_grasp(finding) if strain else finding)
        return found

    def _current(self, state: ArmState) -> list[Finding]:
        limits, current_ma = self._limits, state.current_ma
        found = []
        over = self._since.lasting("measured", current_ma > limits.over_current_ma, limits.over_current_s)
        high = self._since.lasting("current_high", current_ma > limits.current_high_ma, limits.current_high_s)
        for i in {*over, *high}:
            code, severity = ("over_current", Severity.HOLD) if i in over else ("current_high", Severity.WARN)
            message = f"{JOINTS[i]} draws {current_ma[i] / 1000:.1f} A"
            found.append(self._unless_grasp(Finding(code, severity, JOINTS[i], message, _JAM)))
        return found

    def _unless_grasp(self, finding: Finding) -> Finding:
        """A gripper that closes on something is strained by design: it holds what it holds."""
        if finding.joint != JOINTS[GRIPPER] or not self._grasps:
            return finding
        strained = f"{finding.message}, closing on something"
        remedy = "none needed: it gets its force back when the next run begins"
        return Finding("gripper_strained", Severity.WARN, finding.joint, strained, remedy)

    def _motion(self, state: ArmState) -> list[Finding]:
        """Joints that do not go where they are sent."""
        limits = self._limits
        if not self._goals:
            self._since.forget("following_error", "stalled")
            return []
        goals = np.array(self._goals)
        lowest, highest = goals.min(axis=0), goals.max(axis=0)
        error = np.maximum(np.maximum(lowest - state.position, state.position - highest), 0.0)
        error[GRIPPER] = 0.0  # whatever it holds keeps it from closing
        found = []
        astray, placed = error > limits.following_deg, self._placed
        for i in self._since.lasting("following_error", astray, limits.following_s, judged=placed):
            message = f"{JOINTS[i]} is {error[i]:.0f} deg away from where its goals were"
            found.append(Finding("following_error", Severity.HOLD, JOINTS[i], message, _JAM))
        for i in self._since.lasting("stalled", self._pushes(state), limits.stall_s, judged=placed):
            message = f"{JOINTS[i]} pushes with {abs(state.load_pct[i]):.0f} % of its drive and does not move"
            found.append(Finding("stalled", Severity.HOLD, JOINTS[i], message, _JAM))
        return found

    def _pushes(self, state: ArmState) -> Flags:
        """Joints that stand although they push towards a goal that is away."""
        limits, away = self._limits, self._goals[-1] - state.position
        pushes: Flags = (
            (np.abs(state.load_pct) > limits.stall_load_pct)
            & (np.abs(away) > limits.stall_away)
            & (np.abs(state.velocity) < limits.stall_speed)
        )
        pushes[GRIPPER] &= away[GRIPPER] > 0.0  # closing, it holds something
        return pushes
