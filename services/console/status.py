"""What the screen shows, asked of the service a few times a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from robot.errors import CommandError
from services.console.client import ServiceClient

PERIOD_S = 0.2


@dataclass(frozen=True, slots=True)
class Status:
    """The service as it was a moment ago.

    Attributes:
        mode: of the controller, ``off`` before anything is known.
        faults: what is latched: code -> what it is and what to do.
        teleop: answer of ``GET /v1/teleop``.
        recording: answer of ``GET /v1/recording``; ``None`` where nothing is recorded.
        error: why the service could not be asked just now; the rest is what it said last.
    """

    mode: str = "off"
    faults: dict[str, str] = field(default_factory=dict)
    teleop: dict[str, Any] = field(default_factory=dict)
    recording: dict[str, Any] | None = None
    error: str | None = None

    @property
    def driving(self) -> bool:
        """Whether somebody drives by teleoperation now."""
        return self.error is None and bool(self.teleop.get("active"))


def look(client: ServiceClient, *, recording: bool) -> Status:
    """Ask once. Raises CommandError where the service does not answer."""
    state = client.get("/v1/state")
    severe = [fault for fault in state.get("faults", ()) if fault.get("severity") not in ("warn", "slow")]
    return Status(
        mode=str(state.get("mode", "off")),
        faults={str(fault["code"]): f"{fault['message']}: {fault['remedy']}" for fault in severe},
        teleop=client.get("/v1/teleop"),
        recording=_recording(client) if recording else None,
    )


def _recording(client: ServiceClient) -> dict[str, Any] | None:
    try:
        return client.get("/v1/recording")
    except CommandError as error:
        if error.code != "recorder_unavailable":  # which is being started, at first or again
            raise
        return None


class Watch:
    """Asks again and again, in a thread of its own.

    Args:
        client: the service.
        recording: whether a recorder is part of it.
        on_status: called with every answer, in that thread.
    """

    def __init__(
        self, client: ServiceClient, *, recording: bool, on_status: Callable[[Status], None]
    ) -> None:
        self._client, self._recording, self._on_status = client, recording, on_status
        self._end = threading.Event()
        self.newest = Status()
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        parked = False
        while not self._end.is_set():
            try:
                self.newest = look(self._client, recording=self._recording)
            except CommandError as error:
                mode = "parking" if parked else self.newest.mode  # parked, it is off at the very last
                self.newest = replace(self.newest, error=str(error), mode=mode)
            if self.newest.mode != "off":
                parked = self.newest.mode == "parking"
            self._on_status(self.newest)
            self._end.wait(PERIOD_S)
