"""Opening an arm takes tens of milliseconds: a thread does it, and the control loop keeps time meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from robot.seams import Arm
from robot.standing_thread import StandingThread


class InBackground:
    """Calls what opens an arm in a thread of its own, which is started at once.

    Args:
        open_arm: opens it, or raises So101Error.
    """

    def __init__(self, open_arm: Callable[[], Arm]) -> None:
        self._open_arm = open_arm
        self._worker = StandingThread("reopening")
        self._opening: Future[Arm] | None = None

    def __call__(self) -> Arm | None:
        """The arm, once; ``None`` while it is being opened. Raises what opening it raised."""
        if self._opening is None:
            self._opening = self._worker.submit(self._open_arm)
        if not self._opening.done():
            return None
        opening, self._opening = self._opening, None
        return opening.result()
