"""What the controller tells the others: a record per tick, and its status whenever that changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robot.lateness import Lateness
from robot.link import ArmLink
from robot.mailbox import to_json
from robot.modes import Modes
from robot.realtime import RealTime
from robot.safety.faults import FaultBook
from robot.safety.gate import GateResult
from robot.seams import ArmState, FloatArray, Source
from robot.sources import TeleopStatus
from robot.telemetry import MODES, SOURCES, Record, empty_record

TELEOP_HZ = 10.0
"""How often a second the status tells how a person's source stands, if that changes."""

_STATE_FIELDS = ("position", "velocity", "load_pct", "current_ma", "voltage_v", "temperature_c", "status")
_LIMITED = ("clamped", "rate_limited", "table_limited", "self_limited", "box_limited")


@dataclass(frozen=True, slots=True)
class Tick:
    """One pass of the loop, as it is published."""

    index: int
    time_s: float
    state: ArmState | None
    """The newest reading; ``None`` before the first."""
    state_tick: int
    """When that reading was taken."""
    target: FloatArray | None
    result: GateResult | None
    goal: FloatArray | None
    """What was sent; ``None`` while torque is off."""


class Publisher:
    """Fills records and status texts and hands them to their sinks (``None``: nobody wants them)."""

    def __init__(
        self,
        modes: Modes,
        faults: FaultBook,
        link: ArmLink,
        lateness: Lateness,
        control_hz: int,
        tool_position_m: Callable[[FloatArray], FloatArray] | None,
        telemetry: Callable[[Record], None] | None,
        status: Callable[[bytes], None] | None,
        realtime: RealTime | None = None,
    ) -> None:
        self._modes, self._faults, self._link, self._lateness = modes, faults, link, lateness
        self._control_hz = control_hz
        self._realtime = None if realtime is None else realtime.as_json()
        self._tool_position_m = tool_position_m
        self._telemetry, self._status = telemetry, status
        self._record = empty_record()
        self._published: Any = None
        self._teleop: TeleopStatus | None = None
        self._teleop_period = max(1, round(control_hz / TELEOP_HZ))
        self._asked: Source | None = None
        self._age = 0

    @property
    def record(self) -> Record:
        """The newest record; it is filled anew each tick."""
        return self._record

    def publish(self, tick: Tick) -> None:
        """Tell of one tick."""
        if tick.result is not None:
            for name in _LIMITED:
                self._record[name] += getattr(tick.result, name)
            self._record["non_finite"] += tick.result.rejected
        if self._telemetry is not None:
            self._fill(self._record, tick)
            self._telemetry(self._record)
        if self._status is not None:
            self._tell_status(self._status)

    def _fill(self, record: Record, tick: Tick) -> None:
        modes, late, figures = self._modes, self._lateness, self._lateness.figures
        record["tick"], record["time_s"], record["run_id"] = tick.index, tick.time_s, modes.run_id
        record["mode"], record["source"] = MODES.index(modes.mode), _source(modes)
        record["state_age_ticks"] = -1 if tick.state is None else tick.index - tick.state_tick
        if tick.state is not None:
            for name in _STATE_FIELDS:
                record[name] = getattr(tick.state, name)
            if self._tool_position_m is not None:
                record["tool_m"] = self._tool_position_m(tick.state.position)
        record["goal"] = record["position"] if tick.goal is None else tick.goal
        usable = tick.target is not None and tick.result is not None and not tick.result.rejected
        record["target"] = tick.target if usable else record["goal"]
        record["chunk_age_ticks"] = modes.chunk_age_ticks
        record["lateness_ms"], record["missed"], record["busy_ms"] = late.last_ms, late.missed, late.busy_ms
        record["lateness_p50_ms"], record["lateness_p99_ms"] = figures.p50_ms, figures.p99_ms
        record["lateness_p999_ms"], record["lateness_max_ms"] = figures.p999_ms, figures.max_ms
        record["bus_errors"] = self._link.errors
        counters = self._link.counters
        record["bus_retries"], record["bus_lost"] = counters.retries, counters.lost
        record["bus_dropped_bytes"] = counters.dropped_bytes

    def _tell_status(self, status: Callable[[bytes], None]) -> None:
        modes = self._modes
        teleop = self._teleop_now()
        now = (modes.mode, modes.run_id, modes.source_name, modes.reason, tuple(self._faults), teleop)
        if now == self._published:
            return
        self._published = now
        mode, run_id, source, reason, faults, _ = now
        text = {
            "mode": mode,
            "run_id": run_id,
            "source": source,
            "faults": [fault.as_json() for fault in faults],
            "pid": os.getpid(),
            "control_hz": self._control_hz,
            "reason": reason,
            "realtime": self._realtime,
            "teleop": None if teleop is None else teleop.as_json(),
        }
        status(to_json(text))

    def _teleop_now(self) -> TeleopStatus | None:
        """How a person's source stands, looked at ``TELEOP_HZ`` times a second and when another drives."""
        source = self._modes.source
        self._age += 1
        if source is not self._asked or self._age >= self._teleop_period:
            self._asked, self._age = source, 0
            self._teleop = self._modes.teleop
        return self._teleop


def _source(modes: Modes) -> int:
    """Index into SOURCES of what drives the arm."""
    if modes.mode != "running":
        return 0
    name = modes.source_name
    return SOURCES.index(name if name in SOURCES[1:] else "other")
