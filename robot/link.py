"""The controller's side of the arm: reads and writes that turn bus errors into faults.

Packets get lost, so one failed tick is tolerated, in which the arm stands still. Failures in a row of the
same kind (reading, writing, asking for torque) are a fault that names the joint, and active until that kind
succeeds. A port that is gone is a fault at once; it is opened again, with growing pauses, but nothing moves
until a person has cleared the fault. What answers there must be the same arm: another one is refused and
told of.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from robot.bus import BusCounters
from robot.errors import (
    AlarmError,
    BusError,
    CalibrationError,
    OutsideError,
    OverloadError,
    PortError,
    ServoError,
    So101Error,
)
from robot.joints import GRIPPER, JOINTS
from robot.registers import ALARMS_AGAINST_TORQUE, STRAINED
from robot.safety.faults import FaultBook, Finding, Severity
from robot.seams import Arm, ArmState, FloatArray

CODES = frozenset({"servo_lost", "bus_error", "port_lost", "wrong_arm", "outside_range"})
"""Faults that this module raises, and settles once a read succeeds and nothing else has just failed."""

ALARM_CODES = frozenset({"servo_alarm"})
"""As ``CODES``, but settled once no servo reports an alarm that forbids torque."""

STRAIN_CODES = ("overload", "over_current")
"""Faults of a servo that has latched a strain; settled once it has been relieved."""

_LASTING_S = 0.015
"""Failures of one kind that have lasted so long are a fault: the second in a row at 60 Hz, the third at 100.
Until then the arm stands still (``doubtful``), so that waiting for a packet that got lost costs nothing.
"""
_ALL_SILENT_S = 0.25
"""As ``_LASTING_S``, where no servo at all answers: a machine that loads a browser from its disk can hold
everything back for longer than 0.1 s, which is no dead servo, and the arm stands still meanwhile.
"""
SQUEEZE = 1.0
"""Percent: a gripper that is open by so much more than it should holds something."""
REOPEN_S = 0.2
"""Pause before a lost port is opened again; it doubles with each failure."""
LONGEST_REOPEN_S = 5.0
_RECENT_S = 1.0
"""A failure that is older no longer counts: nothing of its kind has been tried since."""
_COLUMNS = ("position", "velocity", "load_pct", "current_ma", "voltage_v", "temperature_c", "status")

log = logging.getLogger(__name__)


@runtime_checkable
class NamesLimp(Protocol):
    """An arm that can say which of its servos have lost their torque."""

    def limp_joints(self) -> tuple[str, ...]:
        """Their joints. Raises BusError."""


@runtime_checkable
class Counts(Protocol):
    """An arm that counts what goes wrong on its bus."""

    @property
    def counters(self) -> BusCounters:
        """Only ever grow."""


@runtime_checkable
class Relieves(Protocol):
    """An arm that can release the overload of a servo."""

    def relieve(self, joint: str) -> float:
        """Cycle its torque where it is; returns the place that it holds. Raises BusError."""


class ArmLink:
    """Reads and writes an arm, counts and names what fails.

    Args:
        arm: the arm.
        faults: where failures are latched.
        reopen: makes a new arm after the port was lost, ``None`` while it is still at it, raises where it
            cannot (see :class:`robot.reopening.InBackground`); without it a lost port stays lost.
    """

    def __init__(self, arm: Arm, faults: FaultBook, reopen: Callable[[], Arm | None] | None = None) -> None:
        self.arm = arm
        self.errors = 0
        """Failed reads and writes since the start."""
        self.reopened = False
        """Set when the port has come back; whoever adopts the arm anew sets it back."""
        self.missing: tuple[str, ...] = ()
        """Joints that did not answer the newest read."""
        self.relieved: tuple[str, ...] = ()
        """Joints whose overload was released; whoever supervises forgets their strain and sets it back."""
        self._faults = faults
        self._reopen = reopen
        self._last: ArmState | None = None
        self.doubtful = False
        """Whether a joint was not read in this tick, and nobody knows yet whether it is lost."""
        self._failed: dict[str, tuple[float, float, float | None]] = {}
        """Kind of what fails -> since when without a success, when last, and since when some answer."""
        self._retry_s = 0.0
        self._pause_s = REOPEN_S
        self._told = ""

    @property
    def counters(self) -> BusCounters:
        """What went wrong on the bus since its port was opened; zeros where the arm does not count."""
        return self.arm.counters if isinstance(self.arm, Counts) else BusCounters()

    def read(self, now_s: float) -> ArmState | None:
        """One look at all joints; a failure is counted, and latched if it lasts.

        Returns:
            What they said. Where only some answered, the others are as in the last reading and named in
            ``missing``; ``None`` where nobody did.
        """
        try:
            state = self.arm.read()
        except BusError as error:
            self._note("read", error, now_s)
            self._last, seen = self._completed(error)
            return seen
        self._last, self.missing, self.doubtful = state, (), False
        self._failed.pop("read", None)
        if all(now_s - last_s > _RECENT_S for _, last_s, _ in self._failed.values()):
            self._faults.update((), CODES, now_s)
        if not (state.status & ALARMS_AGAINST_TORQUE).any():
            self._faults.update((), ALARM_CODES, now_s)
        for i in np.flatnonzero(state.status & STRAINED == 0).tolist():
            self._faults.settle("overload_latched", JOINTS[i])
        return state

    def write(self, goal: FloatArray, now_s: float) -> None:
        """Send one goal; a failure is counted, and latched if it lasts."""
        try:
            self.arm.write(goal)
        except BusError as error:
            self._note("write", error, now_s)
        else:
            self._failed.pop("write", None)

    def release(self, now_s: float) -> None:
        """Torque off, verified. Raises BusError; what it latches is active while this fails."""
        try:
            self.arm.release()
        except BusError:
            self._failed["release"] = (now_s, now_s, now_s)
            raise
        self._failed.pop("release", None)

    def limp(self) -> tuple[str | None, ...]:
        """Joints whose torque is off; ``(None,)`` where the arm cannot tell which. Raises BusError."""
        if isinstance(self.arm, NamesLimp):
            return self.arm.limp_joints()
        return () if self.arm.torque_enabled() else (None,)

    def limp_joints(self, now_s: float) -> tuple[str | None, ...] | None:
        """As :meth:`limp`; ``None`` where that failed, which is counted, and latched if it lasts."""
        try:
            limp = self.limp()
        except BusError as error:
            self._note("torque", error, now_s)
            return None
        self._failed.pop("torque", None)
        return limp

    def relieve(self, now_s: float, grip: float | None) -> Iterator[tuple[str, float]]:
        """Give the joints their force back that hold with less, or not at all, since they were strained.

        Not to a gripper that holds something and whose strain is no fault: it would let go of it.

        Args:
            now_s: the time.
            grip: what the gripper is told to close to, user units; ``None``: it is not driven.

        Yields:
            Each joint, and the place that is now its goal, user units.

        Raises:
            BusError: (also latched) a servo stays overloaded, or is silent.
        """
        if self._last is None or not isinstance(self.arm, Relieves):
            return
        latched = {fault.finding.key for fault in self._faults}
        for i in np.flatnonzero(self._last.status & STRAINED).tolist():
            joint = JOINTS[i]
            squeezes = i == GRIPPER and grip is not None and grip < self._last.position[i] - SQUEEZE
            if squeezes and not any((code, joint) in latched for code in STRAIN_CODES):
                continue
            try:
                place = self.arm.relieve(joint)
            except BusError as error:
                self.latch(error, now_s)
                raise
            self.relieved += (joint,)
            for code in STRAIN_CODES:
                self._faults.settle(code, joint)
            yield joint, place

    def latch(self, error: BusError, now_s: float) -> None:
        """Make a fault of a failure, at once; of a lost port, unless it is known what keeps it away."""
        if isinstance(error, PortError) and self._told:
            return
        cause = error.__cause__ if isinstance(error, PortError) else None  # what kept the arm from opening
        servo = cause if isinstance(cause, ServoError) else error
        joint = servo.joint if isinstance(servo, ServoError) else None
        if isinstance(cause, CalibrationError):
            code, remedy = "wrong_arm", "give the arm its own calibration and its own port, as it says"
        elif isinstance(cause, ServoError):
            code = "servo_lost"
            remedy = (
                "`so101 doctor` says what is wrong, `so101 setup-motors` mends ids and settings; then clear "
                "the fault"
            )
        elif isinstance(error, OverloadError):
            code, remedy = "overload_latched", "switch the arm's supply off and on, then clear the fault"
        elif isinstance(error, PortError):
            code, remedy = "port_lost", "put it right as it says, then clear the fault"
        elif isinstance(error, AlarmError):
            code, remedy = "servo_alarm", "put the supply right or let it cool down, then clear the fault"
        elif isinstance(error, OutsideError):
            code, remedy = "outside_range", "move the joint inside by hand, then clear the fault"
        elif _all_silent(error):
            joint, code = None, "bus_error"
            remedy = "check the supply and the cable to the first servo, then clear the fault"
        elif isinstance(error, ServoError):
            code, remedy = "servo_lost", "check its plug and the one before it, then clear"
        else:
            code, remedy = "bus_error", "check power and cables, then clear the fault"
        self._faults.raise_(Finding(code, Severity.HOLD, joint, str(error), remedy), now_s)

    def _completed(self, error: BusError) -> tuple[ArmState | None, ArmState | None]:
        """The newest state to go on from, and what of it was seen in this tick."""
        seen, last = error.seen if isinstance(error, ServoError) else None, self._last
        if not isinstance(error, ServoError) or seen is None or last is None:
            self.missing = JOINTS
            return last, None
        self.missing = error.missing
        absent = np.isin(JOINTS, self.missing)
        columns = {name: np.where(absent, getattr(last, name), getattr(seen, name)) for name in _COLUMNS}
        state = replace(seen, **columns)
        return state, state

    def _note(self, kind: str, error: BusError, now_s: float) -> None:
        self.errors += 1
        since_s, _, some_s = self._failed.get(kind, (now_s, now_s, now_s))
        if _all_silent(error):
            some_s = None
        elif some_s is None:  # what was held back comes now, piece by piece: that is no dead servo either
            some_s = now_s
        self._failed[kind] = (since_s, now_s, some_s)
        lasting = now_s - since_s >= _ALL_SILENT_S or (some_s is not None and now_s - some_s >= _LASTING_S)
        if kind == "read":
            self.doubtful = not lasting and not isinstance(error, PortError)
        if isinstance(error, PortError):
            self.latch(error, now_s)
            self._try_reopen(now_s)
        elif lasting:
            self.latch(error, now_s)

    def _try_reopen(self, now_s: float) -> None:
        if self._reopen is None or now_s < self._retry_s:
            return
        try:
            self.arm.close()
            arm = self._reopen()
        except Exception as error:  # noqa: BLE001  adapters that come and go fail in many ways; the loop goes on
            self._retry_s = now_s + self._pause_s
            self._pause_s = min(2.0 * self._pause_s, LONGEST_REOPEN_S)
            self._tell(error, now_s)
            return
        if arm is None:
            return
        self.arm, self.reopened = arm, True
        self._failed.clear()
        self._pause_s, self._told = REOPEN_S, ""

    def _tell(self, error: Exception, now_s: float) -> None:
        """Why the arm cannot be had, once for each reason; the fault says the newest one."""
        if str(error) == self._told:
            return
        log.warning("the arm cannot be opened again: %s", error)
        if isinstance(error, So101Error):
            refused = PortError(str(error))
            refused.__cause__ = error
            self._told = ""
            self._faults.update((), CODES, now_s)
            self.latch(refused, now_s)
        self._told = str(error)


def _all_silent(error: BusError) -> bool:
    """Whether no servo at all has answered."""
    return isinstance(error, ServoError) and error.missing == JOINTS
