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
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from robot.config import RobotConfig
from robot.errors import BusError, CommandError
from robot.joints import GRIPPER, JOINTS, N_JOINTS
from robot.link import ArmLink
from robot.reactions import Reactions
from robot.runs import Runs, SourceFactory
from robot.safety.clearance import Clearance
from robot.safety.faults import FaultBook, Finding, Severity
from robot.safety.gate import Gate, GateResult
from robot.seams import ArmState, FloatArray, Source
from robot.sources import TeleopStatus
from robot.travel import ARRIVED, Travel


class Modes:
    """The state machine; :meth:`react`, :meth:`target` and :meth:`after` once per tick, commands between."""

    def __init__(
        self,
        config: RobotConfig,
        link: ArmLink,
        gate: Gate,
        faults: FaultBook,
        clearance: Clearance,
        sources: Mapping[str, SourceFactory],
        heartbeat_timeout_s: float | None,
    ) -> None:
        self._config = config
        self._link = link
        self._gate = gate
        self._faults = faults
        self._clearance = clearance
        self._runs = Runs(config, faults, sources, heartbeat_timeout_s)
        self._reactions = Reactions(faults)
        self._base = "off"
        self._travel: Travel | None = None
        self._then_ready = False
        self._now_s = 0.0
        self._limp = frozenset(JOINTS)
        self._release_wanted = False
        self._silent: dict[str, float] = {}
        """Joints that do not answer -> their command when they answered last, user units."""
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
        return len(self._limp) < N_JOINTS

    @property
    def limp(self) -> frozenset[str]:
        """Joints whose servo had no torque when it was asked last."""
        return self._limp

    @property
    def releasing(self) -> bool:
        """Whether torque was to go off, and not every servo has said yet that it is."""
        return self._release_wanted

    @property
    def run_id(self) -> int:
        """The run in progress, or the last one."""
        return self._runs.run_id

    @property
    def source(self) -> Source | None:
        """The run's source."""
        return self._runs.source

    @property
    def source_name(self) -> str | None:
        """Name of the run's source."""
        return self._runs.source_name

    @property
    def chunk_age_ticks(self) -> int:
        """Age of the newest chunk of a policy; -1 without one."""
        age = self._runs.chunk_age_ticks
        self._follow_run()
        return age

    @property
    def teleop(self) -> TeleopStatus | None:
        """How a person's source stands; ``None`` for others."""
        status = self._runs.teleop
        self._follow_run()
        return status

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
        self._relieve()
        self._release_wanted = False
        self._reactions.hold_up(None)  # a stop before this start holds no park up
        if self._base == "off":
            self._energise("energised")
        self._begin_ramp("starting", self._config.ready_pose.array(), "start")

    def stop(self, level: str, now_s: float, reason: str = "stop") -> None:
        """Hold, park or release; from every mode.

        Raises:
            CommandError: (``malformed``) there is no such level; (``bus_error``) no servo answers, so a
                driven arm holds instead of parking.
            BusError: (also latched) a release is not verified, which is tried on, or an arm that is not
                driven could not be taken over for parking. A driven arm never raises on hold and park.
        """
        if level not in ("hold", "park", "release"):
            what = reprlib.repr(level)
            raise CommandError(f"level must be hold, park or release, not {what}", code="malformed")
        self._now_s, self._release_wanted = now_s, False
        self._reactions.hold_up(now_s if level == "hold" else None)
        if level == "park" and self.driven and self._blind:
            self._hold(reason)
            raise CommandError("no servo answers: the arm holds, park it once they do", code="bus_error")
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
            BusError: (also latched) a gripper that was strained by what it held stays without its force.
        """
        if self._base == "running":
            raise CommandError(f"run {self._runs.run_id} is still going: end it first", code="busy")
        self._refuse_faults()
        if self._base != "ready":
            raise CommandError(f"the arm is {self._base}: start it first", code="not_ready")
        self._relieve()
        self._runs.begin(run_id, source, args, max_duration_s, now_s)
        self._base, self._travel, self._then_ready = "running", None, False
        self.reason = f"run {run_id}"

    def switch(self, run_id: int, source: str, args: dict[str, Any]) -> None:
        """Let another source go on with a run, without a jump (see :class:`robot.teleop.blend.Blend`).

        Raises:
            CommandError: ``no_such_run``, ``unknown_source`` or ``source_failed``; what drove goes on.
        """
        if run_id != self._runs.run_id or self._base != "running":
            raise CommandError(f"run {run_id} is not going: nothing to take over", code="no_such_run")
        self._runs.switch(source, args, self._gate.motion)
        self.reason = f"run {run_id}, taken over by {source}"

    def end_run(self, run_id: int) -> None:
        """End a run and go back to ready; fine if it has ended already.

        Raises:
            CommandError: (``no_such_run``) it is not the present or last run.
        """
        if run_id != self._runs.run_id:
            raise CommandError(
                f"run {run_id} is not the present one ({self._runs.run_id})", code="no_such_run"
            )
        if self._base == "running":
            self._finish("ended by command")

    def clear_faults(self) -> None:
        """Forget faults whose cause is gone; overloaded servos get their force back first.

        Raises:
            CommandError: (``fault_active``) a cause is still there.
            BusError: the arm does not answer, or a servo stays overloaded.
        """
        self._relieve()
        self._faults.clear()
        if self._base == "hold":
            self._limp = _named(self._link.limp())
            if self._limp:
                self._base = "off"  # a servo that rebooted is limp until the next start
        self.reason = "faults cleared"

    def heartbeat(self, now_s: float) -> None:
        """The commander is alive."""
        self._runs.heartbeat(now_s)

    # -- the tick ------------------------------------------------------------------------------------------

    def react(self, state: ArmState | None, now_s: float) -> None:
        """Act on new faults and on what has run out, before the tick's target is asked for."""
        self._now_s = now_s
        if state is not None:
            self._reactions.saw(state.position)
        if self._link.reopened:
            self._link.reopened = False
            self._after_reopening(now_s)
        if self._release_wanted:
            self._try(lambda: self._release(self.reason), now_s)
        self._runs.watch(now_s)
        self._follow_run()
        self._gate.speed_scale = self._reactions.speed_scale
        self._act_on_faults(now_s)
        holds = self._gate.at_rest if self._base == "hold" else not self.driven and self.energised
        may = holds and not self._release_wanted and not self._blind
        if self._reactions.must_park_again(holds=may, now_s=now_s):
            self._try(lambda: self._park("fault: it must still park"), now_s)
        if self._travel is not None and self._blind:
            self._hold("no servo answers: the way is not gone on with blindly")

    def _act_on_faults(self, now_s: float) -> None:
        reaction = self._reactions.new(self._now_s)
        if reaction is None:
            return
        if self.driven:
            for joint, position in reaction.yielding.items():
                self._gate.yield_to(joint, position)
        if reaction.severity == Severity.RELEASE:
            if self.energised:
                self._try(lambda: self._release(reaction.reason), now_s)
        elif not self.driven:
            return  # what has torque holds; if it must park, react sees to it
        elif reaction.severity == Severity.PARK and not reaction.yielding:
            self._park(reaction.reason)
        else:  # a way that a joint is blocked on would pull it back at once: a later park takes a new one
            self._hold(reaction.reason)

    def target(self, tick: int, state: ArmState) -> FloatArray | None:
        """Where the arm should be at this tick; ``None``: brake and hold."""
        self._gate.top_speed = math.inf if self._travel is None else self._config.ramp_velocity_dps
        if self._travel is not None:
            return self._travel.target(tick, state)
        target = self._runs.target(tick, state)
        self._follow_run()
        return target

    def after(self, result: GateResult, now_s: float) -> None:
        """Follow up on what the gate made of the target."""
        self._runs.judged(rejected=result.rejected)
        if self._travel is not None:
            if self._travel.over():
                self._arrive(now_s)
        elif self._base == "hold" and self._then_ready and self._gate.at_rest and not self._faults.stops():
            self._begin_ramp("starting", self._config.ready_pose.array(), self.reason)

    def heard(self, missing: Collection[str], state: ArmState | None) -> None:
        """Which joints did not answer in this tick, and where those are that did.

        A silent servo keeps its last goal. If the arm was on its way meanwhile, the joint would leap to its
        present command at full speed when it hears again: it takes its place as its command, and the arm
        holds.
        """
        goals = dict(zip(JOINTS, self._gate.position.tolist(), strict=True))
        back = {joint: goal for joint, goal in self._silent.items() if joint not in missing}
        self._silent = {joint: self._silent.get(joint, goals[joint]) for joint in missing}
        if state is None or not self.driven:
            return
        astray = [joint for joint, goal in back.items() if abs(goals[joint] - goal) > ARRIVED]
        for i in map(JOINTS.index, astray):
            self._gate.yield_to(i, float(state.position[i]))
        if astray:
            self._hold(f"{', '.join(astray)}: silent on the way, and answers again")

    def lost_torque(self, joints: tuple[str | None, ...], now_s: float) -> None:
        """Which servos are limp. Those that should hold are not energised again; no goals until a start."""
        self._limp = _named(joints)
        if self.driven and joints:
            self._rebooted(joints, now_s)

    def _rebooted(self, joints: tuple[str | None, ...], now_s: float) -> None:
        remedy = "check the supply, clear the fault and start again"
        for joint in joints:
            message = f"{joint or 'a servo'} has lost its torque: it was reset, or its supply broke down"
            self._faults.raise_(Finding("servo_rebooted", Severity.HOLD, joint, message, remedy), now_s)
            self._faults.settle("servo_rebooted", joint)
        self._runs.close()
        self._base, self._travel, self._then_ready = "off", None, False
        self.reason = "fault: servo_rebooted"

    # -- inside --------------------------------------------------------------------------------------------

    def _follow_run(self) -> None:
        """A run may have ended by itself: the arm holds, and goes back to ready if that was as it should."""
        if self._base == "running" and not self._runs.active:
            self._hold(self._runs.ended)
            self._then_ready = self._runs.finished

    @property
    def _blind(self) -> bool:
        """Whether no servo at all answers, and that lasts."""
        return len(self._link.missing) == N_JOINTS and not self._link.doubtful

    def _adopt(self) -> None:
        self._limp = frozenset()  # until the arm has said otherwise
        limp = self._link.limp()
        self._limp = _named(limp)
        if not limp:
            self._energise("found with torque on, holding the present pose")
        elif self.energised:
            self._rebooted(limp, self._now_s)

    def _energise(self, reason: str) -> None:
        self._limp = frozenset()  # a failure halfway leaves some servos with torque
        self._gate.reset(self._link.arm.enable())
        self._reactions.forget_positions()
        self._base, self._travel, self._then_ready, self.reason = "hold", None, False, reason

    def _relieve(self) -> None:
        """Release latched overloads; a joint whose torque was cycled is held where it was then."""
        if not self.energised:
            return
        holding = float(self._gate.position[GRIPPER]) if self.driven else None
        for joint, position in self._link.relieve(self._now_s, holding):
            if self.driven:
                self._gate.yield_to(JOINTS.index(joint), position)

    def _begin_ramp(self, mode: str, goal: FloatArray, reason: str) -> None:
        self._runs.close()
        self._travel = Travel(self._config, self._gate, goal, self._clearance)
        self._base, self._then_ready, self.reason = mode, False, reason

    def _park(self, reason: str) -> None:
        """Go to the park pose; an arm that holds without being driven is taken over first."""
        if not self.driven:
            if self.energised:
                self._limp = _named(self._link.limp())
            if not self.energised:
                return
            self._energise(reason)
        if self._base != "parking":
            self._begin_ramp("parking", self._config.park_pose.array(), reason)

    def _arrive(self, now_s: float) -> None:
        travel, self._travel = self._travel, None
        off_by = 0.0 if travel is None else travel.off_by
        if self._base == "parking" and (off_by <= ARRIVED or self._reactions.must_park):
            self._try(lambda: self._release("parked"), now_s)
        elif off_by > ARRIVED:
            what = "something in its way (table, its own links, its box)"
            self._hold(f"{what} keeps the arm {off_by:.0f} deg from its pose")
        else:
            self._base = "ready"

    def _finish(self, reason: str) -> None:
        self._hold(reason)
        self._then_ready = True

    def _hold(self, reason: str) -> None:
        self._runs.close()
        self._base, self._travel, self._then_ready, self.reason = "hold", None, False, reason

    def _release(self, reason: str) -> None:
        self._base, self._travel, self._then_ready, self.reason = "off", None, False, reason
        self._release_wanted, self._limp = True, frozenset()  # until it is verified
        try:
            self._link.release(self._now_s)  # before all else: nothing may keep the arm from letting go
            self._release_wanted, self._limp = False, frozenset(JOINTS)
        finally:
            self._runs.close()

    def _refuse_faults(self) -> None:
        if self._faults.stops():
            codes = ", ".join(sorted({fault.finding.code for fault in self._faults}))
            raise CommandError(f"latched: {codes}. Remove the cause, then clear it", code="fault_latched")

    def _after_reopening(self, now_s: float) -> None:
        """The port is back: as after a restart, what holds goes on holding where it is."""
        self._runs.close()
        self._base, self._travel, self._then_ready = "off", None, False
        if not self._release_wanted:  # a person has asked for that meanwhile: the next lines of react do it
            self._try(self._adopt, now_s)

    def _try(self, action: Callable[[], None], now_s: float) -> None:
        try:
            action()
        except BusError as error:
            self._link.latch(error, now_s)


def _named(limp: tuple[str | None, ...]) -> frozenset[str]:
    """Limp joints by name; of an arm that cannot tell which they are, all are taken to be."""
    return frozenset(JOINTS) if None in limp else frozenset(joint for joint in limp if joint is not None)
