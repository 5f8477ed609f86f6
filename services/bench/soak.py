"""Hours on the live twin with a bad bus: no fault, no late tick, no growth."""

from __future__ import annotations

import contextlib
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot.config import load_robot
from robot.errors import TwinError
from robot.telemetry import MODES, Record
from services.bench.growth import Growth
from services.bench.robot_file import twin_at
from services.bench.soak_drive import Day
from services.bench.soak_rig import SoakRig
from services.bench.witness import Witnesses

POLL_S = 0.05
SAMPLE_S = 5.0
REPORT_S = 60.0
GROWTH_MIB = 1.0
"""Memory that a process may seem to grow by over a soak: the noise of a slope through pages of 4 KiB."""
CLEAR_EVERY_S = 1.0
MOST_LATE = 100
SWITCHING_TICKS = 3
"""Ticks that may be missed each time torque comes or goes."""
SEEN_SHARE = 0.99
"""Of the ticks that there are in the time of a soak; a controller that hangs is not seen otherwise."""
QUANTILES = (0.5, 0.99, 0.999, 1.0)

Report = Callable[[float, str], None]
"""Takes the elapsed seconds and lines of text: empty between reports."""


@dataclass(frozen=True, slots=True)
class SoakOptions:
    """What is soaked.

    Attributes:
        seconds: how long.
        hz: control rate.
        lose_share: share of all answers of servos that get lost.
        corrupt_share: share of all answers that arrive with a wrong byte.
        seed: of what the twin draws.
    """

    seconds: float = 3600.0
    hz: int = 100
    lose_share: float = 0.01
    corrupt_share: float = 0.01
    seed: int = 0


def bench_soak(options: SoakOptions, report: Report) -> dict[str, Any]:
    """Start a twin and a controller, drive the arm for so long, and judge.

    ``ok`` in the result says whether no fault was latched, every tick began before the next was due, and
    neither process grew; ``failures`` say what did not hold. Ctrl-C ends it early: that is a failure too,
    beside what was found until then.

    Raises:
        TwinError: the twin or the controller did not start, or ended.
    """
    with twin_at(options.hz) as robot, Witnesses() as witnesses, SoakRig(robot, options.seed) as rig:
        shares = {"lose_share": options.lose_share, "corrupt_share": options.corrupt_share}
        rig.twin.fault("unreliable", **shares)
        soak = _Soak(rig, witnesses, options)
        return soak.run(report)


class _Soak:
    """The loop that commands, watches and keeps account."""

    def __init__(self, rig: SoakRig, witnesses: Witnesses, options: SoakOptions) -> None:
        config, _ = load_robot("twin")
        self._rig, self._witnesses, self._options = rig, witnesses, options
        self._day = Day(rig, config.ready_pose.array(), options.hz)
        self._growth = {"controller": Growth(rig.pid), "twin": Growth(rig.twin.pid)}
        self._lateness_ms, self._busy_ms = array("d"), array("d")
        self._faults: list[dict[str, Any]] = []
        self._late: list[dict[str, Any]] = []
        self._skipped = {"driven": 0, "switching": 0, "machine": 0}
        self._own_max_ms = 0.0
        self._missed = 0
        self._modes: deque[str] = deque(maxlen=2)
        self._open: set[tuple[str, str | None]] = set()
        self._first: Record | None = None
        self._last: Record | None = None
        self._cleared_s = 0.0

    def run(self, report: Report) -> dict[str, Any]:
        """Until the time is over; ``report`` hears of every poll. Raises TwinError."""
        began_s = time.monotonic()
        elapsed_s, sampled_s, reported_s = 0.0, -SAMPLE_S, 0.0
        with contextlib.suppress(KeyboardInterrupt):
            while (elapsed_s := time.monotonic() - began_s) < self._options.seconds:
                lines = self._poll(elapsed_s)
                if elapsed_s - sampled_s >= SAMPLE_S:
                    sampled_s = elapsed_s
                    for growth in self._growth.values():
                        growth.sample(elapsed_s)
                if elapsed_s - reported_s >= REPORT_S:
                    reported_s = elapsed_s
                    lines.append(self._line(elapsed_s))
                report(elapsed_s, "\n".join(lines))
                time.sleep(POLL_S)
        for growth in self._growth.values():
            growth.sample(elapsed_s)
        report(elapsed_s, self._line(elapsed_s))
        return self._result(elapsed_s)

    def _poll(self, elapsed_s: float) -> list[str]:
        """Take in what has happened and command what is due; a line for each new fault."""
        records = self._rig.records(-1 if self._last is None else int(self._last["tick"]))
        status = self._rig.status()
        if not records:
            return []
        self._first = records[0] if self._first is None else self._first
        self._last = records[-1]
        self._lateness_ms.extend(float(record["lateness_ms"]) for record in records)
        self._witnesses.collect()
        self._note_late(records, elapsed_s)
        self._busy_ms.extend(float(record["busy_ms"]) for record in records)
        lines = self._note_faults(status["faults"], elapsed_s)
        if status["faults"]:
            if elapsed_s - self._cleared_s >= CLEAR_EVERY_S:
                self._cleared_s = elapsed_s
                self._rig.ask("clear_faults")
            self._day.begin_anew()
        else:
            self._day.step(status["mode"], self._last, time.monotonic())
        return lines

    def _note_late(self, records: list[Record], elapsed_s: float) -> None:
        """Count what was skipped, and keep what was late, with what the tick before it did.

        The servos are energised and released, with every register read back, inside one tick: that takes
        longer than a tick, and it happens to an arm at rest.
        """
        dt_s = 1.0 / self._options.hz
        for record in records:
            skipped = int(record["missed"]) - self._missed if self._modes else 0
            switching = len(set(self._modes)) > 1 and "off" in self._modes
            late_s = 1e-3 * float(record["lateness_ms"])
            # Without what the machine stood still, this tick would have begun before the next was due.
            began_s = float(record["time_s"]) - late_s - (skipped + 1) * dt_s
            stalled_s = self._witnesses.stalled_s(began_s, float(record["time_s"]))
            machine = stalled_s > 0.0 and late_s + skipped * dt_s - stalled_s < dt_s
            self._skipped["machine" if machine else "switching" if switching else "driven"] += skipped
            late = late_s > dt_s
            if not machine:
                self._own_max_ms = max(self._own_max_ms, float(record["lateness_ms"]))
            if (late or skipped) and len(self._late) < MOST_LATE:
                self._late.append(
                    {
                        "at_s": round(elapsed_s, 1),
                        "after_modes": list(self._modes),
                        "skipped": skipped,
                        "lateness_ms": float(record["lateness_ms"]),
                        "busy_ms": float(record["busy_ms"]),
                        "stalled_ms": 1e3 * stalled_s,
                        "machine": machine,
                    }
                )
            self._missed = int(record["missed"])
            self._modes.append(MODES[int(record["mode"])])

    def _note_faults(self, faults: list[dict[str, Any]], elapsed_s: float) -> list[str]:
        now = {(fault["code"], fault["joint"]): fault["message"] for fault in faults}
        new = [
            {"at_s": round(elapsed_s, 1), "code": code, "joint": joint, "message": now[code, joint]}
            for code, joint in sorted(now.keys() - self._open, key=str)
        ]
        self._faults += new
        self._open = set(now)
        return ["{at_s:8.1f} s    {code}: {message}".format(**fault) for fault in new]

    def _line(self, elapsed_s: float) -> str:
        first, last = self._ends()
        lateness = self._quantiles(self._lateness_ms)
        parts = [
            f"{elapsed_s / 60.0:6.1f} min",
            f"tick {last['tick'] - first['tick']}",
            f"{MODES[int(last['mode'])]:8s}",
            f"days {self._day.days}",
            f"faults {len(self._faults)}",
            "missed {driven}, switching torque {switching}, machine stood still {machine}".format(
                **self._skipped
            ),
            "lateness p99 {p99:.2f} p99.9 {p999:.2f} max {max:.2f} ms".format(**lateness),
            f"retries {last['bus_retries']} lost {last['bus_lost']} dropped {last['bus_dropped_bytes']} B",
            *(f"{name} {g.rss_mib[-1]:.2f} MiB {g.descriptors[-1]} fd" for name, g in self._growth.items()),
        ]
        return "  ".join(parts)

    def _ends(self) -> tuple[Record, Record]:
        if self._first is None or self._last is None:
            raise TwinError(f"no tick was seen: {self._rig.errors()}")
        return self._first, self._last

    @staticmethod
    def _quantiles(values: array[float]) -> dict[str, float]:
        found = np.quantile(values, QUANTILES)
        return dict(zip(("p50", "p99", "p999", "max"), map(float, found), strict=True))

    def _result(self, elapsed_s: float) -> dict[str, Any]:
        first, last = self._ends()
        result: dict[str, Any] = {
            "seconds": elapsed_s,
            "asked_s": self._options.seconds,
            "hz": self._options.hz,
            "lose_share": self._options.lose_share,
            "corrupt_share": self._options.corrupt_share,
            "ticks": int(last["tick"] - first["tick"]),
            "budget_ms": 1e3 / self._options.hz,
            "lateness_ms": self._quantiles(self._lateness_ms),
            "lateness_own_max_ms": self._own_max_ms,
            "busy_ms": self._quantiles(self._busy_ms),
            "witnesses": self._witnesses.running,
            "machine_stalls": self._witnesses.figures(),
            "missed": self._skipped,
            "late": self._late,
            "faults": self._faults,
            "days": self._day.days,
            "refusals": self._day.refusals,
            "bus": {
                "failed": int(last["bus_errors"]),
                "retries": int(last["bus_retries"]),
                "lost": int(last["bus_lost"]),
                "dropped_bytes": int(last["bus_dropped_bytes"]),
            },
            "skipped_s": float(self._rig.twin.truth()["skipped_s"]),
            **{name: growth.figures() for name, growth in self._growth.items()},
        }
        failures = judge(result)
        return {"ok": not failures, "failures": failures, **result}


def judge(result: dict[str, Any]) -> list[str]:
    """What of a soak's promises did not hold, in words."""
    failures = [f"fault {fault['code']} {fault['joint']} at {fault['at_s']} s" for fault in result["faults"]]
    if result["seconds"] < result["asked_s"]:
        failures.append(f"stopped after {result['seconds']:.1f} of {result['asked_s']:g} s")
    if result["ticks"] < SEEN_SHARE * result["seconds"] * result["hz"]:
        failures.append(f"only {result['ticks']} ticks of {result['hz']} Hz in {result['seconds']:.1f} s")
    if result["missed"]["driven"]:
        failures.append(f"{result['missed']['driven']} ticks were missed while the arm was driven")
    if result["missed"]["switching"] > SWITCHING_TICKS * (2 * result["days"] + 2):
        failures.append(f"{result['missed']['switching']} ticks were missed when torque came or went")
    if result["lateness_own_max_ms"] > result["budget_ms"]:
        failures.append(f"a tick was {result['lateness_own_max_ms']:.1f} ms late, the budget is one tick")
    if result["refusals"]:
        failures.append(
            f"{len(result['refusals'])} commands were refused, the first: {result['refusals'][0]}"
        )
    for name in ("controller", "twin"):
        process = result[name]
        if process["rss_growth_mib"] > GROWTH_MIB:
            failures.append(f"the {name} grew by {process['rss_growth_mib']:.1f} MiB")
        if process["descriptors"]["second_half"] > process["descriptors"]["first_half"]:
            failures.append(f"the {name} opened descriptors and did not close them")
    return failures
