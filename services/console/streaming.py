"""From speeds to a stream of intents: 50 a second while something moves, then one that says stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from services.console.client import IntentStream, ServiceClient

HZ = 50.0

Speeds = Callable[[float, float], dict[str, float]]
"""From the time and the length of a step to fields of a jog intent."""


class JogStream:
    """Sends what keys and sticks ask for, in a thread of its own.

    Args:
        client: the service.
        speeds: what is asked for now.
        driving: whether anybody listens; else nothing is sent.
        say: told what is refused.
    """

    def __init__(
        self, client: ServiceClient, speeds: Speeds, driving: Callable[[], bool], say: Callable[[str], None]
    ) -> None:
        self._speeds, self._driving = speeds, driving
        self._stream = IntentStream(client, say)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jog", daemon=True)

    def __enter__(self) -> JogStream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        moving, due_s = False, time.monotonic()
        try:
            while not self._end.wait(max(0.0, due_s - time.monotonic())):
                due_s = max(due_s + 1.0 / HZ, time.monotonic())
                wanted = self._speeds(time.monotonic(), 1.0 / HZ)
                if wanted and self._driving():
                    moving = self._stream.send({"kind": "jog", **wanted}) or moving
                elif moving:
                    self._stream.send({"kind": "halt"})
                    moving = False
        finally:
            self._stream.close()
