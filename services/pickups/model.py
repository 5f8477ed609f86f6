"""One pickup as it is shown and kept."""

from __future__ import annotations

import datetime
import secrets
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


def wall_clock() -> str:
    """Now, with the offset of the time zone, for metadata."""
    return datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")


class Refusal(Exception):  # noqa: N818  a refusal is an answer, not a failure of this service
    """What is not begun, and why. ``code`` is for programs, the text says why, ``remedy`` what to do."""

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.remedy = remedy


@dataclass(slots=True)
class Pickup:
    """A pickup from request to end. Times are wall clock, for people."""

    x_m: float
    y_m: float
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    status: Status = "queued"
    reason: str | None = None
    """``None`` while it runs and when it succeeded, else a short code."""
    detail: str = ""
    """The reason in words."""
    pixel: dict[str, Any] | None = None
    run_id: int = 0
    created: str = field(default_factory=wall_clock)
    finished: str | None = None
    duration_s: float | None = None
    intervened: bool = False
    """Whether a person took the arm over meanwhile."""
    intervened_s: float = 0.0
    """For how long, in all."""
    evidence: dict[str, Any] = field(default_factory=dict)
    conditioned: bool = True
    """Whether the policy is told the coordinates; one that is not finds its object by itself."""
    task: str | None = None
    """What the policy was made for, where its bundle says so."""

    @property
    def judged(self) -> bool:
        """Whether there is evidence for what the policy does: gripper and pictures know a pickup only."""
        return self.task is None or self.task.startswith("pick_place")

    @property
    def done(self) -> bool:
        """Whether its status is final."""
        return self.status in FINAL

    def finish(self, status: Status, reason: str | None = None, detail: str = "") -> None:
        """Set the final status; the first one stays."""
        if self.done:
            return
        self.status, self.reason, self.detail = status, reason, detail
        self.finished = wall_clock()

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Pickup:
        """From :meth:`as_dict`. Raises TypeError for anything else."""
        return cls(**value)
