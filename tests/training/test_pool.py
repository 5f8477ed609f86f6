"""Workers of this machine: answers, what is told, errors, deaths, and an end at any moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from robot.errors import BundleError, ConfigError, So101Error
from training.pool import Job, Pool
from training.worker import processes

JOBS = "tests.training.worker_jobs"


def job(entry: str, **given: Any) -> Job:
    return Job(name=f"job {entry}", entry=f"{JOBS}:{entry}", given=given)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with processes(1) as workers:
        yield workers


def test_answers_come_with_the_numbers_of_their_jobs(pool: Pool) -> None:
    told: list[tuple[int, str]] = []
    jobs = [job("double", n=n) for n in (5, 7)]
    answers = dict(pool.map(jobs, lambda number, line: told.append((number, line))))
    assert answers == {0: {"twice": 10, "threads": "1"}, 1: {"twice": 14, "threads": "1"}}
    assert told == [(0, "doubling 5"), (1, "doubling 7")]


def test_a_job_is_done_again_by_another_worker_but_only_once(
    pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert dict(pool.map([job("die", deaths=1, marks=str(tmp_path / "a"))])) == {0: 1}
    assert "done again" in caplog.text and "the memory is full" in caplog.text
    with (
        processes(1) as other,
        pytest.raises(So101Error, match=r"job die: lost twice.*-9: the memory is full"),
    ):
        list(other.map([job("die", deaths=2, marks=str(tmp_path / "b"))]))
    assert len(list((tmp_path / "b").iterdir())) == 2


def test_what_a_job_raises_is_raised() -> None:
    with processes(1) as pool, pytest.raises(BundleError, match="no such bundle"):
        list(pool.map([job("refuse")]))


def test_an_interruption_ends_all_workers() -> None:
    pids: list[int] = []

    def interrupt(number: int, line: str) -> None:
        pids.append(int(line))
        if len(pids) == 2:
            os.kill(os.getpid(), 2)  # ctrl-C, while the main thread waits

    with processes(2) as pool, pytest.raises(KeyboardInterrupt):
        list(pool.map([job("forever"), job("forever"), job("double", n=1)], interrupt))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_pool_has_workers() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        processes(0)
