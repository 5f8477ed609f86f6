"""The controller's side of the arm: reads and writes that turn bus errors into faults.

One failed tick is tolerated, packets get lost. The second in a row is a fault that names the joint. A port
that is gone is a fault at once; it is opened again in the background of the loop, but nothing moves until a
person has cleared the fault.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from robot.errors import BusError, PortError, ServoError, So101Error
from robot.faults import FaultBook, Finding, Severity
from robot.seams import Arm, ArmState, FloatArray

CODES = frozenset({"servo_lost", "bus_error", "port_lost"})
"""Faults that this module raises, and settles once a read succeeds."""

_TOLERATED = 1
_REOPEN_S = 1.0

log = logging.getLogger(__name__)


@runtime_checkable
class NamesLimp(Protocol):
    """An arm that can say which of its servos have lost their torque."""

    def limp_joints(self) -> tuple[str, ...]:
        """Their joints. Raises BusError."""


class ArmLink:
    """Reads and writes an arm, counts and names what fails.

    Args:
        arm: the arm.
        faults: where failures are latched.
        reopen: makes a new arm after the port was lost; ``None``: a lost port stays lost.
    """

    def __init__(self, arm: Arm, faults: FaultBook, reopen: Callable[[], Arm] | None = None) -> None:
        self.arm = arm
        self.errors = 0
        """Failed reads and writes since the start."""
        self.reopened = False
        """Set when the port has come back; whoever adopts the arm anew sets it back."""
        self._faults = faults
        self._reopen = reopen
        self._failed_in_a_row = 0
        self._retry_s = 0.0

    def read(self, now_s: float) -> ArmState | None:
        """One look at all joints; ``None`` if it failed (which is then counted, and latched if it lasts)."""
        try:
            state = self.arm.read()
        except BusError as error:
            self._failed(error, now_s)
            return None
        self._failed_in_a_row = 0
        self._faults.update((), CODES, now_s)
        return state

    def write(self, goal: FloatArray, now_s: float) -> None:
        """Send one goal; a failure counts as a failed tick."""
        try:
            self.arm.write(goal)
        except BusError as error:
            self._failed(error, now_s)

    def limp_joints(self, now_s: float) -> tuple[str | None, ...]:
        """Joints that should hold and say that their torque is off; ``None`` for one whose name is not known.

        An unanswered question is no answer: it counts as a failed tick.
        """
        try:
            if isinstance(self.arm, NamesLimp):
                return self.arm.limp_joints()
            return () if self.arm.torque_enabled() else (None,)
        except BusError as error:
            self._failed(error, now_s)
            return ()

    def latch(self, error: BusError, now_s: float) -> None:
        """Make a fault of a failure, at once."""
        joint = None
        if isinstance(error, PortError):
            code, remedy = "port_lost", "put it right as it says, then clear the fault"
        elif isinstance(error, ServoError):
            code, remedy, joint = (
                "servo_lost",
                "check its plug and the one before it, then clear",
                error.joint,
            )
        else:
            code, remedy = "bus_error", "check power and cables, then clear the fault"
        self._faults.raise_(Finding(code, Severity.HOLD, joint, str(error), remedy), now_s)

    def _failed(self, error: BusError, now_s: float) -> None:
        self.errors += 1
        self._failed_in_a_row += 1
        if isinstance(error, PortError):
            self.latch(error, now_s)
            self._try_reopen(now_s)
        elif self._failed_in_a_row > _TOLERATED:
            self.latch(error, now_s)

    def _try_reopen(self, now_s: float) -> None:
        if self._reopen is None or now_s < self._retry_s:
            return
        self._retry_s = now_s + _REOPEN_S
        try:
            self.arm.close()
            self.arm = self._reopen()
        except So101Error as error:
            log.warning("the arm is still gone: %s", error)
            return
        self.reopened = True
