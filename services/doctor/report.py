"""What the doctor found: findings, advice, and what was measured on the way."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Role = Literal["follower", "leader"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or that could be better, and the remedy; docs/doctor.md lists the codes.

    ``arm`` is ``None`` for what concerns the machine or a camera, ``joint`` for what concerns no single one.
    """

    code: str
    message: str
    remedy: str
    joint: str | None = None
    arm: Role | None = None
    camera: str | None = None

    def as_json(self) -> dict[str, Any]:
        """One entry of ``findings`` or ``advice``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: whether it is well, and what was measured."""

    name: str
    ok: bool
    measured: str
    arm: Role | None = None
    camera: str | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """One entry of ``checks``."""
        return asdict(self)


@dataclass(slots=True)
class Report:
    """Everything that was found. Only ``findings`` make the doctor say that something is wrong."""

    robot: str
    findings: list[Finding] = field(default_factory=list)
    advice: list[Finding] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def has(self, *codes: str, arm: Role | None = None) -> bool:
        """Whether one of these codes was found on an arm."""
        return any(finding.code in codes and finding.arm == arm for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "ok": self.ok,
            "robot": self.robot,
            "findings": [finding.as_json() for finding in self.findings],
            "advice": [finding.as_json() for finding in self.advice],
            "checks": [check.as_json() for check in self.checks],
        }


@dataclass(frozen=True, slots=True)
class Scope:
    """A report as seen from one arm, or from none: whatever is said through it is about this arm.

    Attributes:
        report: where it is told.
        arm: which one.
        port: of the arm.
        file: its calibration file, which need not exist.
    """

    report: Report
    arm: Role | None = None
    port: str | None = None
    file: Path | None = None

    @property
    def set_up(self) -> str:
        """The command that sets this arm's servos up, to be pasted."""
        return f"`so101 setup-motors {self._whose}`"

    @property
    def calibrate(self) -> str:
        """The command that calibrates this arm, to be pasted."""
        return (
            f"`so101 calibrate arm {self._whose} --out {shlex.quote(str(self.file or f'{self.arm}.json'))}`"
        )

    @property
    def _whose(self) -> str:
        port = "" if self.port is None else f" --port {shlex.quote(self.port)}"
        return f"--arm {self.arm}{port}"

    def find(self, code: str, message: str, remedy: str, joint: str | None = None) -> None:
        """Something is wrong."""
        self.report.findings.append(Finding(code, message, remedy, joint, self.arm))

    def advise(self, code: str, message: str, remedy: str, joint: str | None = None) -> None:
        """Something could be better; the robot works nevertheless."""
        self.report.advice.append(Finding(code, message, remedy, joint, self.arm))

    def measured(self, name: str, ok: bool, measured: str, **values: Any) -> None:
        """Something was looked at."""
        self.report.checks.append(Check(name, ok, measured, self.arm, values=values))

    def has(self, *codes: str) -> bool:
        """Whether one of these codes was found on this arm."""
        return self.report.has(*codes, arm=self.arm)
