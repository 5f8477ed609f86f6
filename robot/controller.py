"""The one control loop.

Each tick: read the arm, look for faults, take commands, ask the active source, pass the gate, write, publish.
Ticks are counted by the clock, tick ``k`` is due at ``k dt``; one that was missed is skipped and never made
up for, so after a stall the arm goes on from where it is at its limited speed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from robot.commands import dispatch, serve
from robot.config import RobotConfig
from robot.lateness import Lateness
from robot.link import ArmLink
from robot.mailbox import Mailbox
from robot.modes import Modes
from robot.publisher import Publisher, Tick
from robot.realtime import RealTime
from robot.runs import SourceFactory
from robot.safety.clearance import Clearance
from robot.safety.encoder import EncoderWatch
from robot.safety.faults import FaultBook
from robot.safety.gate import Gate
from robot.safety.limits import SupervisionLimits
from robot.safety.supervision import Supervisor
from robot.seams import Arm, ArmState, Clock, FloatArray, MonotonicClock
from robot.telemetry import Record

BUSY_SHARE = 0.4
"""Part of a tick after which a read was no quick one: it leaves no time for a torque check that may wait."""
TORQUE_CHECK_S = 0.25
"""How often the servos are asked whether they still have torque; it takes half a millisecond of bus time."""


_WATCHED = Supervisor.CODES | EncoderWatch.CODES


class Controller:
    """Owner of the arm. :meth:`run` keeps real time; :meth:`tick` can be called by hand.

    Args:
        config: limits, poses, rate.
        arm: the arm; nobody else may use it.
        clearance: room that a pose in user units leaves, for the gate and for planning.
        tool_position_m: position of the tool for a pose, for telemetry; ``None``: zeros.
        sources: what runs can be made of, by name.
        clock: time.
        commands: where commands come from; ``None``: only from :meth:`command`.
        telemetry: takes each tick's record.
        status: takes the JSON status whenever it has changed.
        heartbeat_timeout_s: a run whose commander is silent for so long is ended; ``None``: never.
        reopen: makes a new arm after its port was lost; ``None`` while it is still at it.
        realtime: what the loop got of the kernel, to be told in the status.
    """

    def __init__(
        self,
        config: RobotConfig,
        arm: Arm,
        *,
        clearance: Clearance,
        tool_position_m: Callable[[FloatArray], FloatArray] | None = None,
        sources: Mapping[str, SourceFactory] | None = None,
        clock: Clock | None = None,
        commands: Mailbox | None = None,
        telemetry: Callable[[Record], None] | None = None,
        status: Callable[[bytes], None] | None = None,
        heartbeat_timeout_s: float | None = None,
        reopen: Callable[[], Arm | None] | None = None,
        realtime: RealTime | None = None,
    ) -> None:
        self.config, self.clock, self._dt_s = config, clock or MonotonicClock(), config.dt_s
        self.faults = FaultBook()
        self.gate = Gate(config.gate, config.dt_s, clearance)
        self._link = ArmLink(arm, self.faults, reopen)
        self.modes = Modes(
            config, self._link, self.gate, self.faults, clearance, sources or {}, heartbeat_timeout_s
        )
        limits = SupervisionLimits(max_temperature_c=config.max_temperature_c, supply_v=config.supply_v)
        self._supervisor = Supervisor(limits, config.dt_s)
        self._encoders = EncoderWatch(config.dt_s)
        self._commands = commands
        self.lateness = Lateness(config.control_hz)
        self.tick_index = int(self.clock.now_s() / self._dt_s)
        self._torque_period = max(1, round(TORQUE_CHECK_S / self._dt_s))
        self._torque_due = 0
        self._whole = True
        self._goal: FloatArray | None = None
        self._state: ArmState | None = None
        self._state_tick = 0
        self._publisher = Publisher(
            self.modes,
            self.faults,
            self._link,
            self.lateness,
            config.control_hz,
            tool_position_m,
            telemetry,
            status,
            realtime,
        )

    def adopt(self, *, ready: bool = False) -> None:
        """Before the first tick: what has torque goes on holding where it is. Nothing moves.

        ``ready``: runs may begin from there without a start (see :meth:`robot.modes.Modes.adopt`).
        """
        self.modes.adopt(self.clock.now_s(), ready=ready)

    def command(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carry out one command between two ticks, without a socket; answers as the socket does."""
        return dispatch(self.modes, command, self.clock.now_s())

    def run(self, keep_going: Callable[[], bool], after_tick: Callable[[float], None] | None = None) -> None:
        """Tick at absolute deadlines for as long as ``keep_going()``.

        Args:
            keep_going: asked once per tick.
            after_tick: called with the seconds that are left until the next deadline.
        """
        while keep_going():
            tick = max(self.tick_index + 1, int(self.clock.now_s() / self._dt_s))
            self.lateness.missed += tick - self.tick_index - 1
            self.clock.sleep_until_s(tick * self._dt_s)
            self.lateness.add(self.clock.now_s() - tick * self._dt_s)
            self.tick(tick)
            self.lateness.busy_ms = 1e3 * (self.clock.now_s() - tick * self._dt_s) - self.lateness.last_ms
            if after_tick is not None:
                after_tick((tick + 1) * self._dt_s - self.clock.now_s())

    def tick(self, tick: int | None = None) -> None:
        """One pass of the loop."""
        self.tick_index = tick = self.tick_index + 1 if tick is None else tick
        now_s = self.clock.now_s()
        state = self._look(tick, now_s)
        if self._commands is not None:
            serve(self._commands, self.modes, now_s)
        self.modes.react(state, now_s)
        target, result = None, None
        if self.modes.driven and self._state is not None:
            if self._link.doubtful:
                self.gate.freeze()
            else:
                target = self.modes.target(tick, self._state)
                result = self.gate.check(target)
            self._link.write(self.gate.position, now_s)
            if result is not None:
                self.modes.after(result, now_s)
        self._goal = self.gate.position if self.modes.driven else None
        self._publisher.publish(Tick(tick, now_s, self._state, self._state_tick, target, result, self._goal))

    def _look(self, tick: int, now_s: float) -> ArmState | None:
        """Read the arm and latch what is wrong with it; those that answer are watched while others do not."""
        state = self._link.read(now_s)
        whole = not self._link.missing
        recovered, self._whole = whole and not self._whole, whole
        if state is None:
            self.modes.heard(self._link.missing, None)
            return None
        state, jumped = self._encoders.screen(state, self._link.missing, limp=self.modes.limp)
        self.modes.heard(self._link.missing, state)
        self._state = state
        if whole and not jumped:
            self._state_tick = tick
        for joint in self._link.relieved:
            self._supervisor.forget_strain(joint)
        self._link.relieved = ()
        found = self._supervisor.look(state, self._goal, self._link.missing, jumped)
        self.faults.update([*found, *self._encoders.findings], _WATCHED, now_s)
        # A servo that was silent may have been reset: it must get no goal before it has been asked.
        if self.modes.energised and (recovered or self._torque_check_is_due(tick, now_s)):
            limp = self._link.limp_joints(now_s)
            again_soon = limp is None and whole
            self._torque_due = tick + (1 if again_soon else self._torque_period)
            if limp is not None:
                self.modes.lost_torque(limp, now_s)
        return state

    def _torque_check_is_due(self, tick: int, now_s: float) -> bool:
        """Not in a tick that has asked servos again already, while another one may come that has not."""
        late = tick - self._torque_due
        hurried = self.clock.now_s() - now_s > BUSY_SHARE * self._dt_s
        return late >= (self._torque_period if hurried else 0)

    def close(self) -> None:
        """Let go of the arm; torque stays as it is."""
        self._link.arm.close()
