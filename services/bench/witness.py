"""What the machine does to processes that only want to be woken in time.

A tick can be late because of the control loop, or because nobody was run: a virtual machine whose host has
other things to do stands still for tens of milliseconds. One witness for each core sleeps from deadline to
deadline at a higher real-time priority than anything that is measured. When a witness is woken late, nothing
on its core ran.

``python -m services.bench.witness CORE`` prints a JSON list ``[began_s, ended_s]`` for each such time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from types import TracebackType

from robot.twin import child

PERIOD_S = 0.002
LATE_S = 0.001
"""A stall that is noted; waking takes 0.1 ms."""
PRIORITY = 60


class Witnesses:
    """A witness on each core that this process may use, ended with this object.

    Attributes:
        stalls: per core, the times ``(began_s, ended_s)`` in which nothing ran, oldest first.
    """

    def __init__(self) -> None:
        self.stalls: dict[int, list[tuple[float, float]]] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._rest: dict[int, bytes] = {}
        for core in sorted(os.sched_getaffinity(0)):
            process = child.start_module("services.bench.witness", [str(core)])
            self._processes[core], self._rest[core], self.stalls[core] = process, b"", []
            if process.stdout is not None:
                os.set_blocking(process.stdout.fileno(), False)

    def __enter__(self) -> Witnesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            child.stop(process)

    @property
    def pids(self) -> dict[int, int]:
        """Core -> its witness."""
        return {core: process.pid for core, process in self._processes.items()}

    @property
    def running(self) -> bool:
        """Whether every core is watched; a witness that may not have real-time priority ends at once."""
        return all(process.poll() is None for process in self._processes.values())

    def collect(self) -> None:
        """Take over what the witnesses have said."""
        for core, process in self._processes.items():
            data = b"" if process.stdout is None else process.stdout.read()
            *lines, self._rest[core] = (self._rest[core] + (data or b"")).split(b"\n")
            self.stalls[core] += [(began_s, ended_s) for began_s, ended_s in map(json.loads, lines)]

    def stalled_s(self, began_s: float, ended_s: float) -> float:
        """How much of this time the core that was worst off stood still."""
        return max((_overlap_s(stalls, began_s, ended_s) for stalls in self.stalls.values()), default=0.0)

    def figures(self) -> dict[str, float]:
        """For the result."""
        lengths_ms = [1e3 * (end - begin) for stalls in self.stalls.values() for begin, end in stalls]
        return {"count": len(lengths_ms), "total_ms": sum(lengths_ms), "max_ms": max(lengths_ms, default=0.0)}


def _overlap_s(stalls: list[tuple[float, float]], began_s: float, ended_s: float) -> float:
    total_s = 0.0
    for begin, end in reversed(stalls):  # in an hour there may be thousands, and only the newest matter
        if end <= began_s:
            break
        total_s += max(0.0, min(end, ended_s) - max(begin, began_s))
    return total_s


def main(arguments: list[str]) -> int:
    """Entry of a witness; without a real-time priority it ends, as it would only be late itself."""
    child.die_with_parent()
    os.sched_setaffinity(0, {int(arguments[0])})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        return 1
    due_s = time.monotonic()
    while True:
        due_s += PERIOD_S
        time.sleep(max(0.0, due_s - time.monotonic()))
        now_s = time.monotonic()
        if now_s - due_s > LATE_S:
            os.write(1, json.dumps([due_s, now_s]).encode() + b"\n")
            due_s = now_s


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
