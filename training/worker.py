"""A process that does jobs: one a line on stdin, what becomes of it in lines on stdout, all of it JSON."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot import errors
from robot.errors import So101Error
from robot.twin import child
from training.pool import Job, Pool, Tell, WorkerLostError

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Workers share processors by their number, not by threads that wait for each other."""
LAST_WORDS = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """What a job's function has returned."""

    value: Any


def heard(line: bytes | str, tell: Tell) -> Answer | None:
    """Take in a line of a worker; ``None`` where it only tells something.

    Raises:
        So101Error: what the job raised, of the same class.
        WorkerLostError: the line is of a worker elsewhere, whose process has ended.
    """
    kind, value = json.loads(line)
    if kind == "told":
        tell(value)
        return None
    if kind == "lost":
        raise WorkerLostError(value)
    if kind == "error":
        name, message = value
        raise getattr(errors, name, So101Error)(message)
    return Answer(value)


class ProcessWorker:
    """A worker process of this machine.

    Args:
        variables: of its environment, beside this process's.
        folder: where it works; where this process does if not given.
    """

    def __init__(self, variables: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self._stopped = threading.Lock()
        self._process = child.start_module(
            __name__,
            [],
            stdin=subprocess.PIPE,
            stderr=self._words,
            variables={**ONE_THREAD, **(variables or {})},
            folder=folder,
        )

    def lines(self, job: str) -> Any:
        """Hand a job over and yield the lines about it. Raises WorkerLostError."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise WorkerLostError("a worker without pipes")
        try:
            process.stdin.write(job.encode() + b"\n")
            process.stdin.flush()
            for line in process.stdout:
                yield line.decode()
        except (OSError, ValueError):  # its pipes are closed
            pass
        raise WorkerLostError(f"its process ended with exit status {process.wait()}{self._last_words()}")

    def do(self, job: Job, tell: Tell) -> Any:
        """See ``Worker``."""
        for line in self.lines(job.model_dump_json()):
            answer = heard(line, tell)
            if answer is not None:
                return answer.value
        raise WorkerLostError(job.name)

    def end(self) -> None:
        """Ask for an end, as SIGTERM does; a job may have one for this."""
        self._process.terminate()

    def stop(self) -> None:
        """See ``Worker``."""
        with self._stopped:
            child.stop(self._process)
            self._words.close()

    def _last_words(self) -> str:
        if self._words.closed:
            return ""
        self._words.seek(0)
        text = self._words.read().decode(errors="replace").strip()
        return f": {text[-LAST_WORDS:]}" if text else ""


def processes(workers: int) -> Pool:
    """Workers of this machine."""
    return Pool(workers, ProcessWorker)


def main() -> int:
    """Entry of ``python -m training.worker``."""
    child.die_with_parent()
    # Whatever else writes on stdout is not an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(kind: str, value: object) -> None:
        answers.write(json.dumps([kind, value]) + "\n")

    with answers:
        for line in sys.stdin:
            job = Job.model_validate_json(line)
            try:
                say("answer", pkgutil.resolve_name(job.entry)(job, lambda told: say("told", told)))
            except So101Error as error:
                say("error", [type(error).__name__, str(error)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
