"""When which servo was told a new goal: the witness of tests that nothing moves after a fault."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CAPACITY = 4096
PAGE = 400
"""Entries in one answer; with these it stays well inside a datagram."""


@dataclass(frozen=True, slots=True)
class GoalChange:
    """A write of a goal position that differs from what the servo had.

    ``time_s`` is monotonic and ``goal`` in ticks, as the bus has it.
    """

    arm: str
    servo_id: int
    time_s: float
    goal: int


class GoalLog:
    """The newest goal changes of both arms; older ones fall out."""

    def __init__(self) -> None:
        self._changes: deque[GoalChange] = deque(maxlen=CAPACITY)
        self._count = 0

    def recorder(self, arm: str) -> Callable[[int, float, int], None]:
        """A function for an arm's emulator: servo id, monotonic time and new goal."""

        def record(servo_id: int, time_s: float, goal: int) -> None:
            self._changes.append(GoalChange(arm, servo_id, time_s, goal))
            self._count += 1

        return record

    def page(self, after: int = 0) -> dict[str, Any]:
        """Changes from number ``after`` on, as far as kept, and the number where the next page begins."""
        first = self._count - len(self._changes)
        start = max(0, after - first)
        entries = list(self._changes)[start : start + PAGE]
        goals = [{"arm": c.arm, "servo_id": c.servo_id, "time_s": c.time_s, "goal": c.goal} for c in entries]
        return {"goals": goals, "next": first + start + len(entries), "count": self._count}
