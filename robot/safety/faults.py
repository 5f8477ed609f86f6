"""Faults: latched, ordered by severity, cleared by a person once their cause is gone.

Torque-off is not the safe state, the arm would fall, so it is the last in the order. Of several faults the
most severe decides. A mere warning asks nothing of anybody and goes away with its cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from robot.errors import CommandError


class Severity(IntEnum):
    """What a fault asks for; a later one includes and outranks those before it."""

    WARN = 0
    """Tell somebody."""
    SLOW = 1
    """Go on at reduced speed."""
    HOLD = 2
    """Brake, stay, torque on."""
    PARK = 3
    """Move slowly to the park pose, then torque off."""
    RELEASE = 4
    """Torque off now: holding on would do more harm than falling."""

    @property
    def label(self) -> str:
        """Name as users see it, for instance ``hold``."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong at this moment, before it becomes a fault."""

    code: str
    """For instance ``servo_lost``."""
    severity: Severity
    joint: str | None
    """The joint concerned, if it is one."""
    message: str
    """What is wrong, with the numbers."""
    remedy: str
    """What a person should do."""

    @property
    def key(self) -> tuple[str, str | None]:
        """Faults with the same code and joint are one fault."""
        return self.code, self.joint


@dataclass(frozen=True, slots=True)
class Fault:
    """A latched finding."""

    id: int
    finding: Finding
    raised_s: float
    """Monotonic time."""
    active: bool
    """Whether the cause is still there."""

    def as_json(self) -> dict[str, Any]:
        """For the status block and the API."""
        return {
            "id": self.id,
            "code": self.finding.code,
            "severity": self.finding.severity.label,
            "joint": self.finding.joint,
            "message": self.finding.message,
            "remedy": self.finding.remedy,
            "raised_s": self.raised_s,
            "active": self.active,
        }


@dataclass(slots=True)
class FaultBook:
    """The faults of one arm."""

    _faults: dict[tuple[str, str | None], Fault] = field(default_factory=dict)
    _raised: int = 0

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._faults.values()))

    @property
    def worst(self) -> Severity | None:
        """The most severe of all latched faults; ``None`` without any."""
        return max((fault.finding.severity for fault in self._faults.values()), default=None)

    def stops(self) -> bool:
        """Whether a latched fault forbids motion on command."""
        worst = self.worst
        return worst is not None and worst >= Severity.HOLD

    def raise_(self, finding: Finding, now_s: float) -> bool:
        """Latch a finding; whether it is new, was inactive, or has become more severe."""
        known = self._faults.get(finding.key)
        if known is not None and known.active and known.finding.severity >= finding.severity:
            return False
        self._raised += 1
        severity = finding.severity if known is None else max(known.finding.severity, finding.severity)
        self._faults[finding.key] = Fault(
            self._raised, replace(finding, severity=severity), now_s, active=True
        )
        return True

    def settle(self, code: str, joint: str | None = None) -> bool:
        """Note that a cause is gone; whether anything changed. A warning is forgotten."""
        known = self._faults.get((code, joint))
        if known is None or not known.active:
            return False
        if known.finding.severity == Severity.WARN:
            del self._faults[code, joint]
        else:
            self._faults[code, joint] = replace(known, active=False)
        return True

    def update(self, findings: Iterable[Finding], codes: frozenset[str], now_s: float) -> bool:
        """Take over one look of a supervisor; whether anything changed.

        Args:
            findings: all that the supervisor sees.
            codes: the codes that it looks for: latched ones among them that it no longer sees are settled.
            now_s: monotonic time.
        """
        seen = {finding.key: finding for finding in findings}
        changed = [self.raise_(finding, now_s) for finding in seen.values()]
        gone = [key for key in self._faults if key[0] in codes and key not in seen]
        changed += [self.settle(*key) for key in gone]
        return any(changed)

    def clear(self) -> None:
        """Forget the faults whose cause is gone, on a person's word; what only warns or slows may last on.

        Raises:
            CommandError: (``fault_active``) the cause of one that stops the arm is still there; nothing is
                cleared then.
        """
        active = [fault.finding for fault in self._faults.values() if fault.active]
        blocking = [finding for finding in active if finding.severity >= Severity.HOLD]
        if blocking:
            causes = "; ".join(f"{finding.message} ({finding.remedy})" for finding in blocking)
            raise CommandError(f"still there: {causes}", code="fault_active")
        self._faults = {fault.finding.key: fault for fault in self._faults.values() if fault.active}
