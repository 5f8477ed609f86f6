"""What latched faults ask of the arm: each new one once, and a park for as long as its cause lasts.

A stop interrupts a park that a fault asked for, it does not cancel it, and nor does a joint that something
blocks on the way: while the cause lasts, the arm parks again ``PARK_AGAIN_S`` after it has come to rest, or
after the last stop.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from robot.joints import JOINTS
from robot.safety.faults import FaultBook, Finding, Severity
from robot.seams import FloatArray

PARK_AGAIN_S = 5.0
"""How long a stop holds up a park that a fault asks for."""
SLOW_SHARE = 0.4
"""Speed while a fault asks for slow motion."""
_YIELDING = frozenset({"overload", "over_current", "following_error", "stalled"})
"""Faults of a joint that pushes against something: it takes its present place as its goal."""
_GLANCES = 3
"""Readings of which a yielding joint takes the middle one: one wrong reading must not become its goal."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reaction:
    """What the newest faults ask for."""

    severity: Severity
    """The worst of those that are new and those whose cause is still there: hold or more."""
    reason: str
    yielding: dict[int, float]
    """Joints that must stop pushing -> where they are, user units."""


class Reactions:
    """Reads the book of faults for whoever moves the arm."""

    def __init__(self, faults: FaultBook) -> None:
        self._faults = faults
        self._seen_fault = 0
        self._waits_since_s: float | None = None
        self._stopped_s = -math.inf
        self._positions: deque[FloatArray] = deque(maxlen=_GLANCES)

    @property
    def must_park(self) -> bool:
        """Whether the cause of a fault that asks for a park is still there."""
        return any(fault.active and fault.finding.severity >= Severity.PARK for fault in self._faults)

    @property
    def speed_scale(self) -> float:
        """Share of the full speed that the faults allow."""
        return SLOW_SHARE if self._faults.worst == Severity.SLOW else 1.0

    def saw(self, position: FloatArray) -> None:
        """Where the joints are in this tick."""
        self._positions.append(position)

    def forget_positions(self) -> None:
        """The arm has been taken over anew: where it was no longer counts."""
        self._positions.clear()

    def new(self, now_s: float) -> Reaction | None:
        """What faults ask for that were latched since the last call; ``None`` where none stops the arm.

        Soon after a person's stop that is a hold at most: a park that is owed waits.
        """
        newest = max((f.id for f in self._faults if f.finding.severity >= Severity.HOLD), default=0)
        if newest <= self._seen_fault:
            return None
        fresh = [f.finding for f in self._faults if f.id > self._seen_fault]
        severity = max(f.finding.severity for f in self._faults if f.active or f.id > self._seen_fault)
        if now_s - self._stopped_s < PARK_AGAIN_S:
            severity = min(severity, Severity.HOLD)
        self._seen_fault = newest
        for finding in fresh:
            log.error("%s: %s", finding.code, finding.message)
        reason = f"fault: {max(fresh, key=lambda finding: finding.severity).code}"
        return Reaction(severity, reason, self._yielding(fresh))

    def must_park_again(self, *, holds: bool, now_s: float) -> bool:
        """Whether an arm has held long enough while a cause that asks for a park is still there."""
        if not self.must_park or not holds:
            self._waits_since_s = None
        elif self._waits_since_s is None:
            self._waits_since_s = now_s
        elif now_s - self._waits_since_s >= PARK_AGAIN_S:
            self._waits_since_s = None
            return True
        return False

    def hold_up(self, stopped_s: float | None) -> None:
        """A person has said what the arm should do: a park that is owed waits from now on.

        Args:
            stopped_s: when that was, if it was to hold; ``None``: to park or to let go.
        """
        self._waits_since_s = None
        self._stopped_s = -math.inf if stopped_s is None else stopped_s

    def _yielding(self, findings: list[Finding]) -> dict[int, float]:
        if not self._positions:
            return {}
        blocked = {f.joint for f in findings if f.code in _YIELDING and f.joint is not None}
        joints = [JOINTS.index(joint) for joint in blocked]
        return {i: float(np.median([pose[i] for pose in self._positions])) for i in joints}
