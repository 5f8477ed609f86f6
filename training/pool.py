"""Jobs that are shared by workers: said in JSON, done in any order, by whoever is free.

A worker is a process of this machine (``training.worker``) or of a cluster's (``training.cluster``). What a
job does depends on its description alone, so the results do not depend on how many workers there are.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from pydantic import Field

from robot.config import StrictModel
from robot.errors import ConfigError, So101Error

log = logging.getLogger(__name__)

Tell = Callable[[str], None]
"""Takes one line that a job says while it is being done."""


class Job(StrictModel):
    """What a worker is to do, as JSON."""

    name: str
    """For people: errors begin with it."""
    entry: str
    """``module:function``; the function takes the job and a ``Tell`` and returns something that is JSON."""
    given: dict[str, Any]
    """What else it must know, JSON."""
    folders: dict[str, Path] = Field(default_factory=dict)
    """Folders that it reads; where the worker has them when it does the job."""
    out: Path | None = None
    """Folder for the files that it writes, which does not exist yet."""


class WorkerLostError(So101Error):
    """A worker ended before its job was done."""


class Worker(Protocol):
    """Does one job at a time."""

    def do(self, job: Job, tell: Tell) -> Any:
        """What the job's function returns. Raises what it raises, and WorkerLostError."""

    def stop(self) -> None:
        """End it; a job that is being done is lost. May be called from any thread, and twice."""


class Pool:
    """Workers, each started when it is first needed; they end with the ``with`` block.

    Args:
        workers: how many.
        start: makes one.
    """

    def __init__(self, workers: int, start: Callable[[], Worker]) -> None:
        if workers < 1:
            raise ConfigError(f"there must be at least 1 worker, not {workers}")
        self.workers = workers
        self._start = start
        # A worker is bound to the thread that started it, see robot.twin.child.die_with_parent.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="pool")
        self._own = threading.local()
        self._lock, self._telling = threading.Lock(), threading.Lock()
        self._running: list[Worker] = []
        self._stopping = False

    def map(
        self, jobs: Sequence[Job], tell: Callable[[int, str], None] = lambda number, line: None
    ) -> Iterator[tuple[int, Any]]:
        """Do all jobs; their numbers and answers as they come.

        A job whose worker was lost is done once more, by another.

        Args:
            jobs: what to do.
            tell: is given the number of a job and a line that it says.

        Raises:
            So101Error: what a job raised, or its worker was lost twice.
        """
        futures = {self._threads.submit(self._do, job, k, tell): k for k, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:  # ctrl-C too: nobody waits for what is not wanted any more
            self.stop()
            raise

    def _do(self, job: Job, number: int, tell: Callable[[int, str], None]) -> Any:
        def told(line: str) -> None:
            with self._telling:
                tell(number, line)

        for again in (True, False):
            worker = self._worker()
            try:
                return worker.do(job, told)
            except WorkerLostError as error:
                self._forget(worker)
                if self._stopping:
                    raise
                if not again:
                    raise So101Error(f"{job.name}: lost twice, {error}") from error
                log.warning("%s: %s; it is done again", job.name, error)
                if job.out is not None:
                    shutil.rmtree(job.out, ignore_errors=True)
        raise WorkerLostError(job.name)

    def _worker(self) -> Worker:
        """The worker of this thread."""
        worker: Worker | None = getattr(self._own, "worker", None)
        if worker is None:
            worker = self._start()
            with self._lock:
                self._running.append(worker)
            self._own.worker = worker
        if self._stopping:  # asked after it is among those that are stopped
            worker.stop()
            raise WorkerLostError("nobody waits for it any more")
        return worker

    def _forget(self, worker: Worker) -> None:
        worker.stop()
        self._own.worker = None
        with self._lock:
            self._running.remove(worker)

    def stop(self) -> None:
        """End all workers; what is being done is lost."""
        self._stopping = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            running = list(self._running)
        for worker in running:
            worker.stop()
        self._threads.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
