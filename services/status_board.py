"""What happened to the processes of the service: written by the supervisor, shown by the API.

The board is one JSON text in shared memory. Faults on it latch until a person clears them; events are a
short history in plain words.
"""

from __future__ import annotations

import datetime
import itertools
import json
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from robot.seqlock import SharedBlock

BOARD_BYTES = 32 * 1024
MAX_EVENTS = 40
Severity = Literal["info", "warn", "hold"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, for people to read. ``time`` is wall clock, ``at_s`` monotonic."""

    time: str
    at_s: float
    process: str
    severity: Severity
    message: str


@dataclass(slots=True)
class ServiceFault:
    """A fault of the service itself. ``active`` is false once its cause is gone; it stays until cleared."""

    id: str
    code: str
    severity: Severity
    message: str
    remedy: str
    raised_s: float
    active: bool = True
    joint: None = None


@dataclass(slots=True)
class ProcessInfo:
    """One child as the supervisor knows it."""

    state: Literal["starting", "running", "restarting", "stopped", "lost"] = "starting"
    pid: int | None = None
    restarts: int = 0
    last_exit: str | None = None


@dataclass(slots=True)
class StatusBoard:
    """The supervisor's side. Call ``publish`` after changes."""

    block: SharedBlock
    processes: dict[str, ProcessInfo] = field(default_factory=dict)
    faults: list[ServiceFault] = field(default_factory=list)
    _events: deque[Event] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def event(self, process: str, message: str, severity: Severity = "info") -> None:
        """Add to the history and publish."""
        stamp = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        self._events.append(Event(stamp, time.monotonic(), process, severity, message))
        self.publish()

    def raise_fault(self, code: str, message: str, remedy: str, severity: Severity = "hold") -> None:
        """Latch a fault; one with the same code becomes active again with the new message."""
        self.faults = [fault for fault in self.faults if fault.code != code]
        fault_id = f"service-{next(self._ids)}"
        self.faults.append(ServiceFault(fault_id, code, severity, message, remedy, time.monotonic()))
        self.publish()

    def settle(self, code: str) -> None:
        """Say that the cause of a fault is gone; it stays latched."""
        for fault in self.faults:
            if fault.code == code and fault.active:
                fault.active = False
                self.publish()

    def clear(self) -> list[str]:
        """Drop the faults whose cause is gone; returns the codes of those that stay."""
        self.faults = [fault for fault in self.faults if fault.active]
        self.publish()
        return [fault.code for fault in self.faults]

    def publish(self) -> None:
        """Write the board to shared memory."""
        self.block.write(json.dumps(self.as_dict(), allow_nan=False).encode())

    def as_dict(self) -> dict[str, Any]:
        """The board as it is published."""
        return {
            "processes": {name: asdict(info) for name, info in self.processes.items()},
            "faults": [asdict(fault) for fault in self.faults],
            "events": [asdict(event) for event in self._events],
        }
