"""Opening an arm takes tens of milliseconds: a thread does it, and the control loop keeps time meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from robot.seams import Arm


class InBackground:
    """Calls what opens an arm in a thread of its own.

    Args:
        open_arm: opens it, or raises So101Error.
    """

    def __init__(self, open_arm: Callable[[], Arm]) -> None:
        self._open_arm = open_arm
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reopening")
        self._opening: Future[Arm] | None = None

    def __call__(self) -> Arm | None:
        """The arm, once; ``None`` while it is being opened. Raises what opening it raised."""
        if self._opening is None:
            self._opening = self._worker.submit(self._open_arm)
        if not self._opening.done():
            return None
        opening, self._opening = self._opening, None
        return opening.result()
