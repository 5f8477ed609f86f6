"""What a loop that must not be late asks of the kernel, and what of it it got.

Four things: to run before ordinary processes, memory that is never written out to disk, a core of its own,
and no garbage collection inside a tick. Each may be refused, none is needed for the loop to run; so nothing
here raises, and everything is said.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIFO_PRIORITY = 10
"""Before every ordinary process, below the kernel's own threads."""
NICE = -10
"""Asked for where real-time scheduling is not allowed."""
FEWEST_CORES = 3
"""With fewer, a loop that is bound to one of them waits more often than one that may change to the other."""
SWITCH_S = 0.0005
"""Longest time that another thread of Python keeps the interpreter from the loop; 5 ms by default."""
COLLECT_PERIOD_S = 5.0
COLLECT_SLACK_S = 0.005
"""A collection of what a few seconds leave behind takes well under a millisecond."""
COLLECT_SLACK_SHARE = 0.4
"""Part of a tick that is enough as well: at high rates no tick leaves ``COLLECT_SLACK_S``."""
COLLECT_LATEST_S = 60.0
"""After so long a collection no longer waits for a tick with time left: a loop that is always late needs its
memory too, and one more late tick costs it less."""

_AUTOGROUP = Path("/proc/self/autogroup")
_AUTOGROUP_TRIES = 20
_AUTOGROUP_PAUSE_S = 0.11
"""The kernel takes one such wish in a tenth of a second from all processes of ordinary users together."""
_ISOLATED = Path("/sys/devices/system/cpu/isolated")
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_PR_SET_TIMERSLACK = 29
_TIMER_SLACK_NS = 1000


@dataclass(frozen=True, slots=True)
class RealTime:
    """What this process got."""

    scheduling: str
    """``fifo 10``, ``nice -10`` or ``ordinary``."""
    memory_locked: bool
    core: int | None
    """The core that this thread is bound to; ``None``: whichever is free."""
    refused: tuple[str, ...] = ()
    """What was asked for in vain, and why."""

    def as_json(self) -> dict[str, Any]:
        """For the status block and the API."""
        return {
            "scheduling": self.scheduling,
            "memory_locked": self.memory_locked,
            "core": self.core,
            "gc": "between ticks",
            "refused": list(self.refused),
        }

    def __str__(self) -> str:
        memory = "locked memory" if self.memory_locked else "memory that may be swapped"
        core = "any core" if self.core is None else f"core {self.core}"
        refused = f" ({'; '.join(self.refused)})" if self.refused else ""
        return f"{self.scheduling} scheduling, {memory}, {core}, garbage collected between ticks{refused}"


def favour_this_process() -> RealTime:
    """Ask for all of it, for the calling thread and those that it starts; what is refused is told.

    Threads and processes that are started afterwards run on the same core. Under real-time scheduling they
    themselves have ordinary priority; the niceness that stands in for it they inherit.
    """
    refused: list[str] = []
    sys.setswitchinterval(SWITCH_S)
    scheduling = _scheduling(refused)
    locked = _lock_memory(refused)
    core = _own_core(os.sched_getaffinity(0), _isolated(), refused)
    if core is not None:
        try:
            os.sched_setaffinity(0, {core})
        except OSError as error:
            refused.append(f"core {core}: {error.strerror}")
            core = None
    return RealTime(scheduling, locked, core, tuple(refused))


def give_way(levels: int) -> None:
    """Let others go before this process, by so many levels of niceness; threads to come inherit it.

    Where the kernel makes a group of every session (autogroup, as desktops have it), niceness counts only
    within one. So a process that leads a session of its own asks for the same for its group.
    """
    os.nice(levels)
    if levels == 0 or os.getsid(0) != os.getpid():
        return
    with contextlib.suppress(OSError), _AUTOGROUP.open("wb", buffering=0) as group:  # no such groups here
        for _ in range(_AUTOGROUP_TRIES):
            try:
                os.write(group.fileno(), str(levels).encode())
                return
            except BlockingIOError:
                time.sleep(_AUTOGROUP_PAUSE_S)


class Housekeeping:
    """Garbage collection between ticks instead of inside them.

    Args:
        dt_s: length of a tick.
    """

    def __init__(self, dt_s: float) -> None:
        self._enough_s = min(COLLECT_SLACK_S, COLLECT_SLACK_SHARE * dt_s)
        gc.collect()
        gc.freeze()  # what start-up made stays: it need not be looked at again
        gc.disable()
        self._due_s = time.monotonic() + COLLECT_PERIOD_S

    def after_tick(self, slack_s: float) -> None:
        """Collect now and then, if there is time before the next deadline, and after a while at any rate."""
        now_s = time.monotonic()
        late_s = now_s - self._due_s
        if late_s >= 0.0 and (slack_s > self._enough_s or late_s >= COLLECT_LATEST_S):
            gc.collect()
            self._due_s = now_s + COLLECT_PERIOD_S


def _scheduling(refused: list[str]) -> str:
    with contextlib.suppress(OSError, AttributeError):  # waits of ordinary processes end up to 50 us late
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS)
    try:
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(FIFO_PRIORITY))
        return f"fifo {FIFO_PRIORITY}"
    except OSError as error:
        refused.append(f"real-time scheduling: {error.strerror}, give the user an rtprio limit")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        return f"nice {NICE}"
    except OSError as error:
        refused.append(f"nice {NICE}: {error.strerror}")
        return "ordinary"


def _lock_memory(refused: list[str]) -> bool:
    """Keep what is in memory there, and all that comes.

    Under a limit it is not tried: memory that comes later would be refused once the limit is reached, in the
    middle of a tick. Pages are locked as they are touched, so libraries that are mapped but hardly used cost
    a small machine nothing.
    """
    limit = resource.RLIMIT_MEMLOCK
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    soft, _ = resource.getrlimit(limit)
    if soft != resource.RLIM_INFINITY:
        refused.append(f"locked memory: the limit is {soft >> 10} KiB, give the user an unlimited memlock")
        return False
    try:
        done = ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    except (OSError, AttributeError) as error:
        refused.append(f"locked memory: {error}")
        return False
    if done != 0:
        refused.append(f"locked memory: {os.strerror(ctypes.get_errno())}")
    return bool(done == 0)


def _own_core(allowed: set[int], isolated: set[int], refused: list[str]) -> int | None:
    """A core to stay on: an isolated one, else the last of several; interrupts go to the first."""
    if allowed & isolated:
        return max(allowed & isolated)
    if len(allowed) >= FEWEST_CORES:
        return max(allowed)
    refused.append(f"a core of its own: there are only {len(allowed)}")
    return None


def _isolated() -> set[int]:
    """Cores that the kernel gives nothing to by itself (``isolcpus``), from a list such as ``2-3,7``."""
    try:
        text = _ISOLATED.read_text(encoding="ascii").strip()
        spans = [span.split("-") for span in text.split(",") if span]
        return {core for span in spans for core in range(int(span[0]), int(span[-1]) + 1)}
    except (OSError, ValueError):
        return set()
