"""How a child of the service is asked to end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType


def end_on_signals(stop: Callable[[], None]) -> None:
    """Have SIGTERM and Ctrl-C call ``stop``, which must only take note: it runs in a signal handler."""

    def on_signal(number: int, stack: FrameType | None) -> None:
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
