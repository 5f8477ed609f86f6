"""The soak: what it says of a run, and a short one on the live twin."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import time
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from robot.config import load_robot
from robot.errors import TwinError
from robot.kinematics import Kinematics
from services.bench.growth import Growth
from services.bench.soak import SoakOptions, bench_soak, judge
from services.bench.soak_drive import RUN_S, pose_at
from services.bench.witness import Witnesses

GOOD: dict[str, Any] = {
    "seconds": 180.0,
    "asked_s": 180.0,
    "hz": 100,
    "ticks": 17_990,
    "faults": [],
    "missed": {"driven": 0, "switching": 2},
    "lateness_own_max_ms": 4.0,
    "budget_ms": 10.0,
    "refusals": [],
    "days": 3,
    "controller": {"rss_growth_mib": 0.1, "descriptors": {"first_half": 14, "second_half": 14}},
    "twin": {"rss_growth_mib": -0.1, "descriptors": {"first_half": 12, "second_half": 12}},
}
GROWN = {"rss_growth_mib": 5.0, "descriptors": {"first_half": 14, "second_half": 14}}
LEAKING = {"rss_growth_mib": 0.0, "descriptors": {"first_half": 14, "second_half": 15}}


def test_a_good_soak_has_no_failures() -> None:
    assert judge(GOOD) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"faults": [{"code": "servo_lost", "joint": "gripper", "at_s": 3.0}]},
            "servo_lost gripper at 3.0 s",
        ),
        ({"seconds": 170.5}, "stopped after 170.5 of 180 s"),
        ({"ticks": 9_000}, "only 9000 ticks of 100 Hz in 180.0 s"),
        ({"missed": {"driven": 1, "switching": 0}}, "1 ticks were missed while"),
        ({"missed": {"driven": 0, "switching": 100}}, "torque came or went"),
        ({"lateness_own_max_ms": 11.0}, "11.0 ms late"),
        ({"refusals": ["start: no"]}, "start: no"),
        ({"controller": GROWN}, "the controller grew by 5.0 MiB"),
        ({"twin": LEAKING}, "the twin opened descriptors"),
    ],
)
def test_each_promise_that_does_not_hold_is_named(wrong: dict[str, Any], words: str) -> None:
    (failure,) = judge({**GOOD, **wrong})
    assert words in failure


def test_a_witness_notes_when_its_core_did_not_run() -> None:
    with Witnesses() as witnesses:
        core = min(witnesses.stalls)
        pid = witnesses.pids[core]
        deadline_s = time.monotonic() + 10.0
        while witnesses.running and os.sched_getscheduler(pid) == os.SCHED_OTHER:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        if not witnesses.running:
            pytest.skip("no real-time priority for witnesses")
        time.sleep(0.05)
        began_s = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.2)
        os.kill(pid, signal.SIGCONT)
        ended_s = time.monotonic()
        time.sleep(0.3)
        witnesses.collect()
        assert witnesses.stalled_s(began_s, ended_s) > 0.15
        assert witnesses.stalled_s(began_s - 100.0, began_s - 99.0) == 0.0
        assert witnesses.figures()["max_ms"] > 150.0


def test_growth_tells_a_leak_from_what_comes_and_goes() -> None:
    growth = Growth(os.getpid())
    kept: list[mmap.mmap] = []
    with ExitStack() as stack:
        for number in range(40):
            growth.sample(10.0 * number)
            kept.append(mmap.mmap(-1, 2**20))  # what malloc gives may have been there already
            kept[-1].write(b"x" * 2**20)
            stack.enter_context(socket.socket())
        figures = growth.figures()
        assert figures["rss_mib_per_hour"] == pytest.approx(360.0, rel=0.2)
        assert figures["rss_growth_mib"] == pytest.approx(35.0, rel=0.2)
        assert figures["descriptors"]["second_half"] == figures["descriptors"]["first_half"] + 18
        assert figures["descriptors_per_hour"] == pytest.approx(360.0)
    steady = Growth(os.getpid())
    for number in range(40):
        with socket.socket():
            steady.sample(10.0 * number)
    figures = steady.figures()
    assert figures["descriptors"]["second_half"] == figures["descriptors"]["first_half"]


def test_a_process_that_has_ended_is_told() -> None:
    with pytest.raises(TwinError, match="has ended"):
        Growth(2**22 + 1).sample(0.0)


def test_the_motion_begins_at_ready_keeps_the_limits_and_stays_above_the_table() -> None:
    config, _ = load_robot("twin")
    ready = config.ready_pose.array()
    times_s = np.arange(0.0, 2.0 * RUN_S, 0.1)
    poses = pose_at(times_s, ready)
    np.testing.assert_allclose(poses[0], ready)
    assert (poses >= config.gate.min_position.array()).all()
    assert (poses <= config.gate.max_position.array()).all()
    assert (np.abs(np.diff(poses, axis=0)) / 0.1 < config.gate.max_velocity.array()).all()
    lowest_point_m = Kinematics().lowest_point_m
    assert min(lowest_point_m(pose) for pose in poses) > 0.03
    assert np.ptp(poses, axis=0).min() > 25.0  # everything moves


@pytest.mark.live
def test_a_short_soak_drives_the_arm_and_counts_what_the_bus_loses() -> None:
    lines: list[str] = []
    result = bench_soak(SoakOptions(seconds=6.0, hz=60), lambda _, line: lines.append(line))
    assert result["ticks"] > 150
    assert result["bus"]["retries"] > 0
    assert result["bus"]["dropped_bytes"] > 0
    assert result["controller"]["descriptors"]["first_half"] > 5
    assert "running" in lines[-1] or result["faults"]  # a busy machine may have stopped it
    assert result["failures"] == judge(result)
