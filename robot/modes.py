"""What the arm is doing and why: the controller's state machine.

::

    off ──start──► starting ──► ready ──run──► running ──end──► hold ──► starting ──► ready
     ▲                                            │
     │              (stop hold, from anywhere) ──► hold
     └── released ◄── parking ◄── stop park

``fault`` is what ``hold`` and ``off`` are called while a fault of severity hold or more is latched. Nothing
leaves it but a person's clear. Commands are called between two ticks, by the loop itself.

``off`` means that the arm is not driven, not that it is limp: after a failure halfway some servos may hold by
themselves. That is ``energised``, and a park takes such an arm over again first. A release that fails is
tried again in each tick until every servo says that its torque is off, or another stop or start comes.

A stop interrupts a park that a fault asked for, it does not cancel it: while the cause lasts, the arm parks
again ``PARK_AGAIN_S`` after it has come to rest, or after the last stop.
"""

from __future__ import annotations

import logging
import math
import reprlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from robot.config import RobotConfig
from robot.errors import BusError, CommandError
from robot.joints import JOINTS, N_JOINTS
from robot.link import ArmLink
from robot.safety.faults import FaultBook, Finding, Severity
from robot.safety.gate import Gate, GateResult
from robot.seams import ArmState, FloatArray, Source
from robot.sources import Aged, Closable, Ending, Height, RampSource, safe_way

SourceFactory = Callable[[dict[str, Any]], Source]
"""Makes a run's source from the arguments of the command. Raises So101Error."""

STALL_S = 0.5
"""A source that has had nothing to say for so long has stalled."""
REJECTED_S = 0.1
"""A source whose targets have been no numbers for so long is broken: two chunks, not one bad value."""
SETTLE_S = 2.0
"""Longest wait for the gate to come to rest at the end of a ramp, beyond the time its remaining way takes."""
PARK_AGAIN_S = 5.0
"""How long a stop holds up a park that a fault asks for."""
ARRIVED = 2.0
"""User units from its goal within which a ramp counts as arrived."""
SLOW_SHARE = 0.4
"""Speed while a fault asks for slow motion."""
_YIELDING = frozenset({"overload", "over_current", "following_error"})
"""Faults of a joint that pushes against something: it takes its present place as its goal."""
_GLANCES = 3
"""Readings of which a yielding joint takes the middle one: one wrong reading must not become its goal."""
_LONGEST_TEXT = 200
"""Characters of an error of a source that are passed on; what publishes and answers has limited room."""

_T = TypeVar("_T")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """The run in progress."""

    name: str
    source: Source
    ends_s: float
    silent_ticks: int = 0
    rejected_ticks: int = 0


class Modes:
    """The state machine; :meth:`react`, :meth:`target` and :meth:`after` once per tick, commands between."""

    def __init__(
        self,
        config: RobotConfig,
        link: ArmLink,
        gate: Gate,
        faults: FaultBook,
        height_m: Height,
        sources: Mapping[str, SourceFactory],
        heartbeat_timeout_s: float | None,
    ) -> None:
        self._config = config
        self._link = link
        self._gate = gate
        self._faults = faults
        self._height_m = height_m
        self._sources = sources
        self._heartbeat_timeout_s = heartbeat_timeout_s
        self._base = "off"
        self._ramp: RampSource | None = None
        self._settle_ticks = 0
        self._run: _Run | None = None
        self._then_ready = False
        self._heard_s = 0.0
        self._seen_fault = 0
        self._now_s = 0.0
        self._energised = False
        self._release_wanted = False
        self._waits_since_s: float | None = None
        self._settle_s = SETTLE_S
        self._positions: deque[FloatArray] = deque(maxlen=_GLANCES)
        self.run_id = 0
        """The run in progress, or the last one."""
        self.reason = "started"
        """Why the arm is in its mode."""

    # -- what others see -----------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """One of ``robot.telemetry.MODES``."""
        return "fault" if self._base in ("off", "hold") and self._faults.stops() else self._base

    @property
    def driven(self) -> bool:
        """Whether torque is on and goals are to be written."""
        return self._base != "off"

    @property
    def energised(self) -> bool:
        """Whether a servo has torque, or may have: also where the arm is not driven."""
        return self._energised

    @property
    def source(self) -> Source | None:
        """The run's source."""
        return None if self._run is None else self._run.source

    @property
    def source_name(self) -> str | None:
        """Name of the run's source."""
        return None if self._run is None else self._run.name

    @property
    def chunk_age_ticks(self) -> int:
        """Age of the newest chunk of a policy; -1 without one."""
        return self._ask(lambda source: source.chunk_age_ticks if isinstance(source, Aged) else -1, -1)

    # -- commands ------------------------------------------------------------------------------------------

    def adopt(self, now_s: float, *, ready: bool = False) -> None:
        """At start-up: if torque is on, hold the present pose; nothing moves. A failure is a fault.

        Args:
            now_s: the time.
            ready: take the pose that is held for one that a run may begin from, without a start. For
                simulated trials, which are put into their first pose; never for an arm that people are near.
        """
        self._now_s = now_s
        self._try(self._adopt, now_s)
        if ready and self._base == "hold":
            self._base = "ready"

    def start(self) -> None:
        """Energise without a snap and ramp to the ready pose.

        Raises:
            CommandError: (``fault_latched``).
            BusError: the arm did not take it.
        """
        if self._base in ("starting", "ready", "running"):
            return
        self._refuse_faults()
        self._release_wanted = False
        if self._base == "off":
            self._energise("energised")
        self._begin_ramp("starting", self._config.ready_pose.array(), "start")

    def stop(self, level: str, now_s: float, reason: str = "stop") -> None:
        """Hold, park or release; from every mode.

        Raises:
            CommandError: (``malformed``) there is no such level.
            BusError: (also latched) a release is not verified, which is tried on, or an arm that is not
                driven could not be taken over for parking. A driven arm never raises on hold and park.
        """
        if level not in ("hold", "park", "release"):
            what = reprlib.repr(level)
            raise CommandError(f"level must be hold, park or release, not {what}", code="malformed")
        self._now_s, self._release_wanted, self._waits_since_s = now_s, False, None
        try:
            if level == "release":
                self._release(reason)
            elif level == "park":
                self._park(reason)
            elif self.driven:
                self._hold(reason)
        except BusError as error:
            self._link.latch(error, now_s)
            raise

    def run(
        self, run_id: int, source: str, args: dict[str, Any], max_duration_s: float, now_s: float
    ) -> None:
        """Let a source drive the arm. Only from ``ready``: what has been stopped moves after a start alone.

        Raises:
            CommandError: ``busy``, ``fault_latched``, ``not_ready``, ``unknown_source`` or ``source_failed``.
        """
        if self._base == "running":
            raise CommandError(f"run {self.run_id} is still going: end it first", code="busy")
        self._refuse_faults()
        if self._base != "ready":
            raise CommandError(f"the arm is {self._base}: start it first", code="not_ready")
        factory = self._sources.get(source)
        if factory is None:
            known = ", ".join(sorted(self._sources)) or "none"
            raise CommandError(f"no source {reprlib.repr(source)}, there are: {known}", code="unknown_source")
        try:
            made = factory(args)
        except Exception as error:  # a source is not the loop's own code: whatever it raises is its failure
            raise CommandError(
                f"source {source} cannot be made: {_text(error)}", code="source_failed"
            ) from error
        self._run = _Run(source, made, now_s + max_duration_s)
        self._base, self._ramp, self._then_ready = "running", None, False
        self.run_id, self.reason, self._heard_s = run_id, f"run {run_id}", now_s

    def end_run(self, run_id: int) -> None:
        """End a run and go back to ready; fine if it has ended already.

        Raises:
            CommandError: (``no_such_run``) it is not the present or last run.
        """
        if run_id != self.run_id:
            raise CommandError(f"run {run_id} is not the present one ({self.run_id})", code="no_such_run")
        if self._base == "running":
            self._finish("ended by command")

    def clear_faults(self) -> None:
        """Forget faults whose cause is gone.

        Raises:
            CommandError: (``fault_active``) a cause is still there.
            BusError: the arm does not answer.
        """
        self._faults.clear()
        if self._base == "hold":
            limp = self._link.limp()
            if limp:
                self._base = "off"  # a servo that rebooted is limp until the next start
                self._energised = not _all_limp(limp)
        self.reason = "faults cleared"

    def heartbeat(self, now_s: float) -> None:
        """The commander is alive."""
        self._heard_s = now_s

    # -- the tick ------------------------------------------------------------------------------------------

    def react(self, state: ArmState | None, now_s: float) -> None:
        """Act on new faults and on what has run out, before the tick's target is asked for."""
        self._now_s = now_s
        if state is not None:
            self._positions.append(state.position)
        if self._link.reopened:
            self._link.reopened = False
            self._after_reopening(now_s)
        if self._release_wanted:
            self._try(lambda: self._release(self.reason), now_s)
        self._watch_run(now_s)
        self._gate.speed_scale = SLOW_SHARE if self._faults.worst == Severity.SLOW else 1.0
        self._act_on_faults(now_s)
        self._park_again(now_s)

    def _act_on_faults(self, now_s: float) -> None:
        newest = max((f.id for f in self._faults if f.finding.severity >= Severity.HOLD), default=0)
        if newest <= self._seen_fault:
            return
        fresh = [f.finding for f in self._faults if f.id > self._seen_fault]
        self._seen_fault = newest
        for finding in fresh:
            log.error("%s: %s", finding.code, finding.message)
            if finding.code in _YIELDING and finding.joint is not None and self._positions and self.driven:
                joint = JOINTS.index(finding.joint)
                self._gate.yield_to(joint, float(np.median([pose[joint] for pose in self._positions])))
        worst = self._faults.worst
        reason = f"fault: {max(fresh, key=lambda finding: finding.severity).code}"
        if worst == Severity.RELEASE:
            if self._energised:
                self._try(lambda: self._release(reason), now_s)
        elif not self.driven:
            return  # what has torque holds; if it must park, _park_again sees to it
        elif worst == Severity.PARK:
            self._park(reason)
        else:
            self._hold(reason)

    def target(self, tick: int, state: ArmState) -> FloatArray | None:
        """Where the arm should be at this tick; ``None``: brake and hold."""
        self._gate.top_speed = math.inf if self._ramp is None else self._config.ramp_velocity_dps
        if self._ramp is not None:
            return self._ramp.target(tick, state)
        target = self._ask(lambda source: source.target(tick, state), None)
        if self._run is not None:
            self._run.silent_ticks = self._run.silent_ticks + 1 if target is None else 0
        return target

    def after(self, result: GateResult, now_s: float) -> None:
        """Follow up on what the gate made of the target."""
        if self._run is not None:
            self._run.rejected_ticks = self._run.rejected_ticks + 1 if result.rejected else 0
        if self._ramp is not None and self._ramp.done:
            if self._settle_ticks == 0:
                way = float(abs(self._ramp.goal - self._gate.position).max())
                self._settle_s = SETTLE_S + way / self._config.ramp_velocity_dps
            self._settle_ticks += 1
            if self._gate.at_rest or self._settle_ticks * self._config.dt_s > self._settle_s:
                self._arrive(now_s)
        elif self._base == "hold" and self._then_ready and self._gate.at_rest and not self._faults.stops():
            self._begin_ramp("starting", self._config.ready_pose.array(), self.reason)

    def lost_torque(self, joints: tuple[str | None, ...], now_s: float) -> None:
        """Which servos are limp. Those that should hold are not energised again; no goals until a start."""
        self._energised = not _all_limp(joints)
        if self.driven and joints:
            self._rebooted(joints, now_s)

    def _rebooted(self, joints: tuple[str | None, ...], now_s: float) -> None:
        remedy = "check the supply, clear the fault and start again"
        for joint in joints:
            message = f"{joint or 'a servo'} has lost its torque: it was reset, or its supply broke down"
            self._faults.raise_(Finding("servo_rebooted", Severity.HOLD, joint, message, remedy), now_s)
            self._faults.settle("servo_rebooted", joint)
        self._close_run()
        self._base, self._ramp, self._then_ready = "off", None, False
        self.reason = "fault: servo_rebooted"

    # -- inside --------------------------------------------------------------------------------------------

    def _watch_run(self, now_s: float) -> None:
        run, dt_s = self._run, self._config.dt_s
        if run is None:
            return
        silent = self._heartbeat_timeout_s is not None and now_s - self._heard_s > self._heartbeat_timeout_s
        if silent:
            self._fault(
                "commander_lost", f"nobody has asked for run {self.run_id} to go on", "start anew", now_s
            )
        elif run.silent_ticks * dt_s > STALL_S:
            what = f"{run.name} has said nothing for {STALL_S} s"
            self._fault("inference_stalled", what, "look at the policy worker, then start anew", now_s)
        elif run.rejected_ticks * dt_s > REJECTED_S:
            what = f"{run.name} gives targets that are not finite numbers"
            self._fault("non_finite_target", what, "check the policy and its inputs", now_s)
        elif self._ask(lambda source: isinstance(source, Ending) and source.done, otherwise=False):
            self._finish("source finished")
        elif self._run is not None and now_s >= run.ends_s:
            self._finish("longest duration reached")

    def _fault(self, code: str, message: str, remedy: str, now_s: float) -> None:
        """Latch a fault whose cause is the run, which ends here: so the cause is gone at once."""
        self._hold(f"fault: {code}")
        self._faults.raise_(Finding(code, Severity.HOLD, None, message, remedy), now_s)
        self._faults.settle(code)

    def _ask(self, question: Callable[[Source], _T], otherwise: _T) -> _T:
        """Ask the run's source, if there is one; whatever it raises ends the run and not the loop."""
        if self._run is None:
            return otherwise
        try:
            return question(self._run.source)
        except Exception as error:  # noqa: BLE001  a source is not the loop's own code
            self._source_failed(self._run.name, error)
            self._hold("fault: source_failed")
            return otherwise

    def _source_failed(self, name: str, error: Exception) -> None:
        log.exception("source %s failed", name)
        message = f"source {name} failed: {_text(error)}"
        remedy = "see the log, then try again"
        self._faults.raise_(Finding("source_failed", Severity.HOLD, None, message, remedy), self._now_s)
        self._faults.settle("source_failed")

    def _adopt(self) -> None:
        self._energised = True  # until the arm has said otherwise
        limp = self._link.limp()
        self._energised = not _all_limp(limp)
        if not limp:
            self._energise("found with torque on, holding the present pose")
        elif self._energised:
            self._rebooted(limp, self._now_s)

    def _energise(self, reason: str) -> None:
        self._energised = True  # a failure halfway leaves some servos with torque
        self._gate.reset(self._link.arm.enable())
        self._positions.clear()
        self._base, self._ramp, self._then_ready, self.reason = "hold", None, False, reason

    def _begin_ramp(self, mode: str, goal: FloatArray, reason: str) -> None:
        self._close_run()
        low, high = self._config.gate.min_position.array(), self._config.gate.max_position.array()
        way = safe_way(self._gate.stop_position, goal, self._height_m, low, high)
        self._ramp = RampSource(way, self._config.ramp_velocity_dps, self._config.dt_s)
        self._base, self._settle_ticks, self._then_ready, self.reason = mode, 0, False, reason

    def _park(self, reason: str) -> None:
        """Go to the park pose; an arm that holds without being driven is taken over first."""
        if not self.driven:
            if self._energised:
                self._energised = not _all_limp(self._link.limp())
            if not self._energised:
                return
            self._energise(reason)
        if self._base != "parking":
            self._begin_ramp("parking", self._config.park_pose.array(), reason)

    def _park_again(self, now_s: float) -> None:
        """Park an arm that holds although the cause of a fault that asks for parking is still there."""
        asked = any(fault.active and fault.finding.severity == Severity.PARK for fault in self._faults)
        holds = self._gate.at_rest if self._base == "hold" else not self.driven and self._energised
        if not asked or not holds or self._release_wanted:
            self._waits_since_s = None
        elif self._waits_since_s is None:
            self._waits_since_s = now_s
        elif now_s - self._waits_since_s >= PARK_AGAIN_S:
            self._waits_since_s = None
            self._try(lambda: self._park("fault: it must still park"), now_s)

    def _arrive(self, now_s: float) -> None:
        ramp, self._ramp = self._ramp, None
        off_by = 0.0 if ramp is None else float(abs(ramp.goal - self._gate.position).max())
        must_release = self._base == "parking" and (self._faults.worst or 0) >= Severity.PARK
        if self._base == "parking" and (off_by <= ARRIVED or must_release):
            self._try(lambda: self._release("parked"), now_s)
        elif off_by > ARRIVED:
            self._hold(f"the table keeps the arm {off_by:.0f} deg from its pose")
        else:
            self._base = "ready"

    def _finish(self, reason: str) -> None:
        self._hold(reason)
        self._then_ready = True

    def _hold(self, reason: str) -> None:
        self._close_run()
        self._base, self._ramp, self._then_ready, self.reason = "hold", None, False, reason

    def _release(self, reason: str) -> None:
        self._base, self._ramp, self._then_ready, self.reason = "off", None, False, reason
        self._release_wanted = self._energised = True
        try:
            self._link.release(self._now_s)  # before all else: nothing may keep the arm from letting go
            self._release_wanted = self._energised = False
        finally:
            self._close_run()

    def _close_run(self) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        try:
            if isinstance(run.source, Closable):
                run.source.close()
        except Exception as error:  # noqa: BLE001  a source is not the loop's own code
            self._source_failed(run.name, error)

    def _refuse_faults(self) -> None:
        if self._faults.stops():
            codes = ", ".join(sorted({fault.finding.code for fault in self._faults}))
            raise CommandError(f"latched: {codes}. Remove the cause, then clear it", code="fault_latched")

    def _after_reopening(self, now_s: float) -> None:
        """The port is back: as after a restart, what holds goes on holding where it is."""
        self._close_run()
        self._base, self._ramp, self._then_ready = "off", None, False
        if not self._release_wanted:  # a person has asked for that meanwhile: the next lines of react do it
            self._try(self._adopt, now_s)

    def _try(self, action: Callable[[], None], now_s: float) -> None:
        try:
            action()
        except BusError as error:
            self._link.latch(error, now_s)


def _all_limp(joints: tuple[str | None, ...]) -> bool:
    """Whether no servo holds; of an arm that cannot tell which are limp, none is taken to."""
    return None in joints or len(joints) == N_JOINTS


def _text(error: Exception) -> str:
    """What an error says, or its beginning."""
    said = str(error) or type(error).__name__
    return said if len(said) <= _LONGEST_TEXT else said[:_LONGEST_TEXT] + "..."
