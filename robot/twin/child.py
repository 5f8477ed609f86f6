"""Starting the twin's processes, hearing that they are ready, and not outliving a parent."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from robot.errors import TwinError

_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
_ROOT = Path(__file__).resolve().parents[2]
_PARENT = "SO101_PARENT_PID"
"""Variable in which a child finds who started it: a parent that has died meanwhile cannot be asked."""

PATIENCE_S = 5.0
"""Time that a child without children of its own has to end by itself."""
LOOK_S = 0.1


def start_module(
    module: str,
    arguments: list[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stderr: IO[bytes] | None = None,
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Run ``python -m module`` with this interpreter and these packages; its stdout is a pipe.

    Args:
        module: its name.
        arguments: of its command line.
        stdin: ``subprocess.PIPE`` for a child that is talked to.
        stderr: where its last words go; this process's stderr if not given.
        variables: of the environment, beside this process's.
        folder: where it works; where this process does if not given.
    """
    environment = os.environ | dict(variables or {}) | {_PARENT: str(os.getpid())}
    environment["PYTHONPATH"] = os.pathsep.join([str(_ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment,
        cwd=folder,
        # Ctrl-C goes to the parent alone, which may want the arm parked before the twin ends.
        start_new_session=True,
    )


def read_json_line(
    process: subprocess.Popen[bytes], timeout_s: float, ended: threading.Event | None = None
) -> dict[str, Any]:
    """The JSON object that a child prints as its first line when it is ready.

    Args:
        process: the child.
        timeout_s: how long to wait.
        ended: ends the waiting where it is set, for instance by a signal handler.

    Raises:
        TwinError: it ended, said something else, said nothing in time, or is not wanted any more.
    """
    stdout = process.stdout
    if stdout is None:
        raise TwinError("a child without a pipe cannot say that it is ready")
    deadline_s = time.monotonic() + timeout_s
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(LOOK_S):
                if ended is not None and ended.is_set():
                    raise TwinError(f"{_title(process)} is not wanted any more")
                if time.monotonic() > deadline_s:
                    raise TwinError(f"{_title(process)} said nothing for {timeout_s:.0f} s")
                continue
            data = os.read(stdout.fileno(), 1)
            if not data:
                raise TwinError(f"{_title(process)} ended with exit status {process.wait()}")
            line += data
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise TwinError(f"{_title(process)} said {line!r}, which is no JSON") from error
    if not isinstance(value, dict):
        raise TwinError(f"{_title(process)} said {line!r}, which is no JSON object")
    return value


def stop(process: subprocess.Popen[bytes], patience_s: float = PATIENCE_S) -> None:
    """Ask a child to end, make it end if it does not, and reap it."""
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def die_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent ends, however that happens.

    Raises:
        TwinError: who called :func:`start_module` has ended already.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.environ.get(_PARENT, str(os.getppid())) != str(os.getppid()):  # it died before the call
        raise TwinError("the process that started this one has ended")


def be_prompt() -> None:
    """Ask the kernel for waits that end on time, and for the processor before others where that is allowed.

    Real servos do not share a processor with the host; emulated ones should not be late because it is busy. A
    lower nice value does not do: what matters is to run at once, not to get a larger share. The kernel's
    limit on real-time processes (95 % by default) keeps the machine usable whatever happens here.
    """
    _prctl(_PR_SET_TIMERSLACK, 1000)
    if sys.platform == "linux":
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def announce(value: dict[str, Any]) -> None:
    """Print one line of JSON on stdout, at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _title(process: subprocess.Popen[bytes]) -> str:
    return f"`{' '.join(map(str, process.args))}`" if isinstance(process.args, list) else "the child"
