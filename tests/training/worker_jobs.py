"""Jobs for tests of the pool: they run in worker processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from robot.errors import BundleError
from training.pool import Job, Tell


def double(job: Job, tell: Tell) -> Any:
    print("not an answer")
    tell(f"doubling {job.given['n']}")
    return {"twice": 2 * job.given["n"], "threads": os.environ["OMP_NUM_THREADS"]}


def refuse(job: Job, tell: Tell) -> Any:
    raise BundleError("no such bundle")


def die(job: Job, tell: Tell) -> Any:
    """Dies as often as it is told to, then answers."""
    mark = Path(job.given["marks"])
    mark.mkdir(exist_ok=True)
    times = len(list(mark.iterdir()))
    (mark / str(times)).touch()
    if times < job.given["deaths"]:
        os.write(2, b"the memory is full\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return times


def copy(job: Job, tell: Tell) -> Any:
    assert job.out is not None
    job.out.mkdir()
    text = (job.folders["given"] / "in.txt").read_text()
    (job.out / "sub").mkdir()
    (job.out / "sub" / "out.txt").write_text(text.upper())
    return None


def forever(job: Job, tell: Tell) -> Any:
    tell(str(os.getpid()))
    time.sleep(600)
