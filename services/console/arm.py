"""What a session asks of the arm, with the waiting that each step takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from robot.errors import CommandError
from services.console.client import ServiceClient

READY_S = 30.0
"""Longest way to the ready pose that is waited for: from the park pose it takes some six seconds."""
LOOK_S = 0.1


class Arm:
    """The arm behind the API.

    Args:
        client: the service.
        source: what a person drives it with: ``leader`` or ``teleop``.
        ended: set when nothing is waited for any more.
    """

    def __init__(self, client: ServiceClient, source: str, ended: threading.Event) -> None:
        self.client, self.source, self._ended = client, source, ended
        self.stops = 0
        """How often a person has stopped the arm."""
        self._allowed = 0

    # -- what moves it ---------------------------------------------------------------------------------------

    def allow(self, stops: int) -> None:
        """What a person asked for when there had been so many ``stops`` may move the arm until the next."""
        self._allowed = stops

    def stopped(self) -> None:
        """A person has stopped the arm: what is still on its way there does not move it any more."""
        self.stops += 1

    def command(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """POST what may move the arm.

        Raises:
            CommandError: a refusal; (``stopped``) somebody has stopped the arm since. Where that was while
                this was on its way, the stop is sent once more, behind it.
        """
        self._check()
        try:
            return self.client.post(path, body)
        finally:
            if self.stops != self._allowed:
                self.client.stop()
                self._check()

    def _check(self) -> None:
        if self.stops != self._allowed:
            raise CommandError("the arm was stopped: Enter begins anew", code="stopped")

    # -- steps -----------------------------------------------------------------------------------------------

    def mode(self) -> str:
        """Of the controller. Raises CommandError."""
        return str(self.client.get("/v1/state").get("mode", "off"))

    def ready(self, *, start: bool = True) -> None:
        """Bring the arm to its ready pose; what has it is ended first.

        Args:
            start: whether it may be energised and started. Without, one that was stopped stays so.

        Raises:
            CommandError: a fault is latched, somebody stops the arm, or it does not come there in time.
        """
        mode = self.mode()
        if mode == "running":
            self.release()
            self.until(lambda: self.mode() != "running", "the run did not end")
            mode = self.mode()
        if start and mode not in ("ready", "starting"):
            self.command("/v1/start")
        deadline_s = time.monotonic() + READY_S
        while (mode := self.mode()) != "ready":
            if mode not in ("starting", "running", "off") or time.monotonic() > deadline_s:
                how = "k clears the fault once its cause is gone" if mode == "fault" else "see the dashboard"
                words = f"the arm did not come to its ready pose (mode {mode}): {how}"
                raise CommandError(words, code="not_ready")
            self.pause()

    def drive(self) -> None:
        """Let the person drive, from the ready pose on. No effect while they do. Raises CommandError."""
        if self.client.get("/v1/teleop").get("active"):
            return
        self.ready()
        self.command("/v1/teleop/start", {"source": self.source})

    def release(self) -> None:
        """End what drives: the arm goes back to its ready pose. Raises CommandError."""
        told = self.client.get("/v1/teleop")
        pickup = told.get("pickup") or self.client.get("/v1/state").get("run", {}).get("pickup")
        if pickup:
            self.client.post(f"/v1/pickups/{pickup}/cancel")
        elif told.get("active"):
            self.client.post("/v1/teleop/stop")

    def until(self, condition: Callable[[], bool], otherwise: str, timeout_s: float = READY_S) -> None:
        """Wait for something. Raises CommandError (``timeout``) with ``otherwise`` when it does not come."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                raise CommandError(otherwise, code="timeout")
            self.pause()

    def pause(self) -> None:
        """Wait a moment before the next look. Raises CommandError (``ended``) at the end of the session."""
        if self._ended.wait(LOOK_S):
            raise CommandError("the session ends", code="ended")
