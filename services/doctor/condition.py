"""Judges how the servos are at rest: supply, temperature, alarms; and how well the bus carries answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robot.bus import JOINT_OF_ID
from robot.fingerprint import Servo
from robot.registers import StatusBit
from robot.safety.limits import SUPPLIES, SupervisionLimits, Supply, supply
from robot.seams import FloatArray
from services.doctor.report import Scope
from services.doctor.survey import Samples

LATE_MS = 8.0
"""By so much the quickest reads may take longer than the wire: a USB adapter and a kernel need 1 to 2 ms, an
FTDI adapter with its factory timer 16."""
QUICKEST = 10
"""Percentile of the reads that counts as the quickest: what is slow in them is the adapter, not a machine
that was busy for a moment."""
SPOILT_SHARE = 0.02
"""Share of reads with a lost or broken answer from which a cable is bad; the controller lives with more."""
UNEVEN_V = 0.6
"""A servo that reads so much less than the others at rest has a bad plug: hardly any current flows.
"""

_ALARMS = (
    (StatusBit.ANGLE, "encoder_alarm", "its encoder fails", "replace the servo"),
    (
        StatusBit.CURRENT,
        "over_current_latched",
        "it has cut itself off after too much current",
        "free the joint, then switch its torque off and on: `POST /v1/stop` with release, then start",
    ),
    (
        StatusBit.OVERLOAD,
        "overload_latched",
        "it was overloaded and gives reduced force only",
        "free the joint, then switch its torque off and on: `POST /v1/stop` with release, then start; or "
        "switch the supply off and on",
    ),
)


def check_supply(scope: Scope, samples: Samples, nominal_v: float | None) -> Supply | None:
    """Voltage at rest against the nominal supply; without one, against the one that it is nearest to."""
    volts = _middle(samples.voltage_v)
    if not len(volts) or not np.isfinite(volts).any():
        return None
    row = supply(nominal_v) if nominal_v is not None else _likely(float(np.nanmedian(volts)))
    lowest, highest = int(np.nanargmin(volts)), int(np.nanargmax(volts))
    low, high = float(volts[lowest]), float(volts[highest])
    uneven = float(np.nanmedian(volts)) - low > UNEVEN_V
    ok = low >= row.sag_v and high <= row.high_v and not uneven
    assumed = "" if nominal_v is not None else ", assumed: no robot file says"
    measured = f"{low:.1f} to {high:.1f} V of {row.nominal_v:g} V nominal{assumed}"
    by_joint = _by_joint(samples.ids, volts)
    scope.measured("supply", ok, measured, volts=by_joint, nominal_v=row.nominal_v)
    if uneven:
        joint = JOINT_OF_ID[samples.ids[lowest]]
        message = f"{joint} has {low:.1f} V, the others have {float(np.nanmedian(volts)):.1f} V"
        scope.find("supply_uneven", message, f"check the plugs of {joint} and the cable to it", joint)
    elif low < row.sag_v:
        message = f"the servos have only {low:.1f} V of {row.nominal_v:g} V (at least {row.sag_v:.1f} V)"
        remedy = "use a supply of the right voltage that gives 5 A, and check its plug; charge a battery"
        scope.find("supply_low", message, f"{remedy}; supply_v in the robot's file says what is right")
    elif high > row.high_v:
        message = f"the servos have {high:.1f} V instead of {row.nominal_v:g} V (at most {row.high_v:.1f} V)"
        remedy = "take the supply off at once and use the right one; supply_v in the robot's file says which"
        scope.find("supply_high", message, remedy)
    return row


def _likely(volts: float) -> Supply:
    fitting = [row for row in SUPPLIES if row.sag_v <= volts <= row.high_v]
    return min(fitting or SUPPLIES, key=lambda row: abs(row.nominal_v - volts))


def check_heat(scope: Scope, samples: Samples, servos: Mapping[int, Servo], max_temperature_c: float) -> None:
    """Temperature at rest: warm where the controller would go slow. The median, as single readings lie."""
    heat_c, margin_c = _middle(samples.temperature_c), SupervisionLimits().warm_margin_c
    hot = []
    for servo_id, now_c in zip(samples.ids, heat_c, strict=True):
        limit_c = min(max_temperature_c, float(servos[servo_id].registers["max_temperature"])) - margin_c
        if now_c < limit_c or np.isnan(now_c):
            continue
        joint = JOINT_OF_ID[servo_id]
        hot.append(joint)
        remedy = (
            "let it cool down switched off; find out what it strains against, or what load it holds at rest"
        )
        scope.find("servo_hot", f"{joint} is at {now_c:.0f} C, {limit_c:.0f} C is warm", remedy, joint)
    if np.isfinite(heat_c).any():
        by_joint = _by_joint(samples.ids, heat_c)
        scope.measured("temperature", not hot, f"at most {np.nanmax(heat_c):.0f} C", celsius=by_joint)


def check_alarms(scope: Scope, samples: Samples) -> None:
    """Error bytes of the servos' answers, as far as nothing that was found already explains them."""
    wrong = 0
    for servo_id, said in zip(samples.ids, samples.status.T, strict=True):
        joint, seen = JOINT_OF_ID[servo_id], said[~np.isnan(said)].astype(int)
        rules = list(_ALARMS)
        if not scope.has("supply_low", "supply_high", "supply_uneven"):
            remedy = "compare min_voltage and max_voltage in the servo with its supply"
            rules.append((StatusBit.VOLTAGE, "voltage_alarm", "its supply is outside its own limits", remedy))
        if not any(f.code == "servo_hot" and f.joint == joint for f in scope.report.findings):
            remedy = "compare max_temperature in the servo with 70 C"
            rules.append((StatusBit.HEAT, "heat_alarm", "it is hotter than its own limit", remedy))
        for bit, code, what, remedy in rules:
            if len(seen) and ((seen & bit) != 0).mean() > 0.5:
                wrong += 1
                scope.find(code, f"{joint} says that {what}", remedy, joint)
    if len(samples.ids):
        scope.measured("alarms", wrong == 0, "none" if wrong == 0 else f"{wrong}")


def check_bus(scope: Scope, samples: Samples, timer_ms: int | None) -> None:
    """Latency of a block read against the wire, and the share of answers that were lost or broken."""
    reads, spoilt = len(samples.voltage_v), len(samples.voltage_v) - len(samples.took_ms)
    if reads == 0 or not samples.ids:
        return
    if len(samples.took_ms):
        _latency(scope, samples, timer_ms)
    share = spoilt / reads
    measured = f"{spoilt} of {reads} reads spoilt, {samples.dropped} by broken bytes"
    ok = share < SPOILT_SHARE
    lost = {JOINT_OF_ID[i]: round(float(v), 4) for i, v in zip(samples.ids, samples.lost, strict=True)}
    scope.measured("reliability", ok, measured, share=share, lost=lost, broken=samples.dropped)
    if not ok:
        joint = _culprit(samples)
        remedy = (
            "push all plugs of the chain home, replace the cable, keep it away from motors and the supply"
        )
        whose = "" if joint is None else f", most of them of {joint}"
        scope.find("bus_unreliable", f"{100 * share:.0f} % of the reads are spoilt{whose}", remedy, joint)


def _latency(scope: Scope, samples: Samples, timer_ms: int | None) -> None:
    median, p99 = np.percentile(samples.took_ms, (50, 99))
    quickest = float(np.percentile(samples.took_ms, QUICKEST))
    ok = quickest <= samples.wire_ms + LATE_MS
    measured = f"median {median:.1f} ms, p99 {p99:.1f} ms, wire {samples.wire_ms:.1f} ms"
    values = {"median_ms": float(median), "p99_ms": float(p99), "wire_ms": samples.wire_ms}
    scope.measured("latency", ok, measured, **values, timer_ms=timer_ms)
    if not ok:
        message = f"a read takes {quickest:.0f} ms at best, the wire needs {samples.wire_ms:.1f} ms"
        remedy = "use another USB port or adapter, without a hub"
        if timer_ms is not None and timer_ms > 1:
            message += f": the adapter's latency timer is {timer_ms} ms"
            remedy = (
                "set it to 1: `echo 1 | sudo tee /sys/class/tty/ttyUSB*/device/latency_timer`; some "
                "adapters ignore it, a CH343 has no such timer"
            )
        scope.find("bus_slow", message, remedy)


def _culprit(samples: Samples) -> str | None:
    """The servo whose answers are the most of what is lost, if one stands out."""
    lost = samples.lost
    worst = int(np.argmax(lost))
    rest = float(np.delete(lost, worst).sum())
    return JOINT_OF_ID[samples.ids[worst]] if lost[worst] > 2 * rest else None


def _by_joint(ids: Sequence[int], values: FloatArray) -> dict[str, float | None]:
    """``None`` where nothing was read: JSON has no NaN."""
    return {
        JOINT_OF_ID[i]: round(float(v), 1) if np.isfinite(v) else None
        for i, v in zip(ids, values, strict=True)
    }


def _middle(values: FloatArray) -> FloatArray:
    """Median of each column over what was read; NaN where nothing was."""
    columns = [column[~np.isnan(column)] for column in values.T]
    return np.array([np.median(column) if len(column) else np.nan for column in columns])
