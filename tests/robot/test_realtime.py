"""What the loop asks of the kernel: asked for real in a process of its own, and told as it is."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robot import realtime
from robot.realtime import COLLECT_LATEST_S, COLLECT_PERIOD_S, Housekeeping, RealTime, _isolated, _own_core

ASK = """
import json, os, resource
from robot.realtime import favour_this_process
{before}
got = favour_this_process().as_json()
lines = open("/proc/self/status").read().splitlines()
locked_kb = next(int(line.split()[1]) for line in lines if line.startswith("VmLck:"))
policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
print(json.dumps([got, policy == os.SCHED_FIFO, os.nice(0), locked_kb, sorted(os.sched_getaffinity(0))]))
"""


@pytest.mark.parametrize("before", ["", "resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))"])
def test_what_is_told_is_what_the_kernel_says(before: str) -> None:
    command = [sys.executable, "-c", ASK.format(before=before)]
    got, fifo, nice, locked_kb, cores = json.loads(subprocess.check_output(command, timeout=60))
    assert (got["scheduling"] == "fifo 10") == fifo
    assert (got["scheduling"] == "nice -10") == (not fifo and nice == -10)
    assert got["memory_locked"] == (locked_kb > 0)
    assert got["core"] is None or cores == [got["core"]]
    for what, told in (
        ("locked memory", got["memory_locked"]),
        ("a core of its own", got["core"] is not None),
        ("real-time scheduling", fifo),
    ):
        assert told or any(what in reason for reason in got["refused"])


def test_a_session_gives_way_as_a_whole_although_the_kernel_is_busy_with_the_wishes_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes one in a tenth of a second from all ordinary users' processes, and several start at once."""
    group, asked = tmp_path / "autogroup", []

    def write(descriptor: int, data: bytes) -> int:
        asked.append(data)
        if len(asked) < 4:
            raise BlockingIOError
        return len(data)

    group.touch()
    monkeypatch.setattr(realtime, "_AUTOGROUP", group)
    monkeypatch.setattr(realtime, "_AUTOGROUP_PAUSE_S", 0.0)
    monkeypatch.setattr(os, "nice", lambda levels: levels)
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "getsid", lambda pid: os.getpid() + 1)
    realtime.give_way(3)
    assert asked == [], "the session is somebody else's"
    monkeypatch.setattr(os, "getsid", lambda pid: os.getpid())
    realtime.give_way(3)
    assert asked == [b"3"] * 4
    monkeypatch.setattr(realtime, "_AUTOGROUP", tmp_path / "absent" / "autogroup")
    realtime.give_way(3)  # a kernel without such groups


@pytest.mark.parametrize(
    ("allowed", "isolated", "core"),
    [({0, 1}, set(), None), ({0}, set(), None), ({0, 1, 2, 3}, set(), 3), ({0, 1}, {1}, 1),
     ({0, 1, 2, 3}, {2}, 2), ({0, 1}, {3}, None)],
)  # fmt: skip
def test_core_is_taken_only_where_others_keep_two_or_the_kernel_set_it_aside(
    allowed: set[int], isolated: set[int], core: int | None
) -> None:
    refused: list[str] = []
    assert _own_core(allowed, isolated, refused) == core
    assert bool(refused) == (core is None)


def test_isolated_cores_are_read_as_the_kernel_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "isolated"
    monkeypatch.setattr("robot.realtime._ISOLATED", path)
    for text, cores in (("\n", set()), ("3\n", {3}), ("1-2,5\n", {1, 2, 5}), ("odd", set())):
        path.write_text(text)
        assert _isolated() == cores


def test_it_can_be_said_in_a_line() -> None:
    said = str(RealTime("ordinary", memory_locked=False, core=None, refused=("locked memory: no",)))
    assert "ordinary scheduling" in said
    assert "locked memory: no" in said


@pytest.fixture
def collected_s(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float, float], list[float]]]:
    """When a loop at a rate, whose ticks leave so much time, has collected; in the first three minutes."""
    now_s = 0.0

    def three_minutes(control_hz: float, slack_s: float) -> list[float]:
        nonlocal now_s
        now_s = 0.0
        dt_s, times_s = 1.0 / control_hz, []
        housekeeping = Housekeeping(dt_s)
        monkeypatch.setattr("gc.collect", lambda: times_s.append(now_s))
        for tick in range(round(180.0 * control_hz)):
            now_s = tick * dt_s
            housekeeping.after_tick(slack_s)
        return times_s

    monkeypatch.setattr("time.monotonic", lambda: now_s)
    yield three_minutes
    gc.enable()
    gc.unfreeze()


@pytest.mark.parametrize("control_hz", [60, 200, 500])
def test_memory_is_collected_every_few_seconds_whatever_the_rate(
    collected_s: Callable[[float, float], list[float]], control_hz: int
) -> None:
    times_s = collected_s(control_hz, 0.5 / control_hz)
    assert len(times_s) == pytest.approx(180.0 / COLLECT_PERIOD_S, abs=1.5)


def test_memory_of_a_loop_that_is_always_late_is_collected_in_the_end(
    collected_s: Callable[[float, float], list[float]],
) -> None:
    times_s = collected_s(60, -0.001)
    assert len(times_s) == 2
    assert times_s[0] == pytest.approx(COLLECT_PERIOD_S + COLLECT_LATEST_S, abs=0.1)
