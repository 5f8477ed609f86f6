"""A thread that is there before it is needed: starting one waits for it, and a control loop must not."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


class StandingThread:
    """Does what it is given, one thing after the other, for as long as the process lives.

    The thread is a daemon: whatever it is at does not keep the process from ending.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        """Let it be done; does not wait. The future has what it returned or raised."""
        future: Future[_T] = Future()

        def work() -> None:
            try:
                result = call()
            except Exception as error:  # noqa: BLE001  whoever asked for it gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        self._work.put(work)
        return future

    def _serve(self) -> None:
        while True:
            self._work.get()()
