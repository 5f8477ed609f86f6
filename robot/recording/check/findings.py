"""What a check has found: findings with a stable code and a remedy, and notes that are no fault.

``docs/datasets.md`` lists the codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Severity = Literal["error", "warning"]

REPAIR = "`so101 dataset repair` puts it right"
DELETE = "leave the episode out: `so101 dataset delete --episodes {}`"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a dataset, and what to do about it.

    ``episode`` is ``None`` for what concerns no single one. An *error* makes frames wrong or unreadable; a
    *warning* makes them suspect or needs a person's word.
    """

    code: str
    message: str
    remedy: str
    episode: int | None = None
    camera: str | None = None
    severity: Severity = "error"

    def as_json(self) -> dict[str, Any]:
        """One entry of ``findings``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth knowing that is no fault."""

    code: str
    message: str


@dataclass
class Report:
    """Everything a check says.

    Attributes:
        root: the dataset.
        episodes: how many were looked at.
        frames: in all of them.
    """

    root: str
    episodes: int = 0
    frames: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def find(
        self,
        code: str,
        message: str,
        remedy: str,
        *,
        episode: int | None = None,
        camera: str | None = None,
        severity: Severity = "error",
    ) -> None:
        """Something is wrong."""
        self.findings.append(Finding(code, message, remedy, episode, camera, severity))

    def note(self, code: str, message: str) -> None:
        """Something is worth knowing."""
        self.notes.append(Note(code, message))

    def has(self, episode: int | None, *codes: str) -> bool:
        """Whether one of these codes was found in an episode, or in the dataset as a whole."""
        return any(f.code in codes and f.episode in (None, episode) for f in self.findings)

    def settle(self) -> None:
        """Put what every episode has into one finding of the dataset, the gravest and first episodes
        first.
        """
        groups: dict[tuple[str, str | None], list[Finding]] = {}
        for found in self.findings:
            groups.setdefault((found.code, found.camera), []).append(found)
        settled: list[Finding] = []
        for group in groups.values():
            settled += self._together(group)
        self.findings = sorted(
            settled, key=lambda f: (f.severity, -1 if f.episode is None else f.episode, f.code)
        )

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "ok": self.ok,
            "root": self.root,
            "episodes": self.episodes,
            "frames": self.frames,
            "findings": [found.as_json() for found in self.findings],
            "notes": [asdict(note) for note in self.notes],
        }

    def _together(self, group: list[Finding]) -> list[Finding]:
        numbers = {found.episode for found in group if found.episode is not None}
        if self.episodes < 2 or len(numbers) < self.episodes:
            return group
        first = group[0]
        message = f"in all {self.episodes} episodes: {first.message}"
        return [f for f in group if f.episode is None] + [replace(first, episode=None, message=message)]


def several(things: Iterable[Any], most: int = 4) -> str:
    """A few of many, in words: ``3, 4, 5, 6 and 9 more``."""
    texts = [str(thing) for thing in things]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
