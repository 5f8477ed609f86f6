"""The service from outside: HTTP calls whose refusals are errors of ours, and a stream of intents.

Every call has a connection of its own, so calls from several threads never wait for each other: a stop least
of all.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from robot.errors import CommandError, ConfigError
from robot.mailbox import from_json

TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 3.0
STOP_TRIES = 3
RECONNECT_S = 0.5
COMPLAIN_S = 1.0
"""A stream that is refused says so no more often than that."""


class ServiceClient:
    """One running service.

    Args:
        url: its address, for instance ``http://127.0.0.1:8000``.

    Raises:
        ConfigError: this is no address of a service.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        try:
            port = parts.port or 80
        except ValueError as error:
            raise ConfigError(f"--url {url}: its port is no port") from error
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ConfigError(f"--url {url}: give the address that the service printed, http://HOST:PORT")
        self._host, self._port = parts.hostname, port
        at = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http://{at}:{port}"
        self.ws_url = f"ws://{at}:{port}"

    def get(self, path: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """What there is at a path. Raises CommandError, see :meth:`call`."""
        return self.call("GET", path, None, timeout_s)

    def post(
        self, path: str, body: dict[str, Any] | None = None, timeout_s: float = TIMEOUT_S
    ) -> dict[str, Any]:
        """Command something. Raises CommandError, see :meth:`call`."""
        return self.call("POST", path, body, timeout_s)

    def call(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float = TIMEOUT_S
    ) -> dict[str, Any]:
        """One request and its JSON object.

        Raises:
            CommandError: the service refused (its own code, what is wrong and the remedy), or it does not
                answer (``unreachable``).
        """
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        payload = None if body is None else json.dumps(body, allow_nan=False)
        headers = {} if payload is None else {"Content-Type": "application/json"}
        try:
            with contextlib.closing(connection):
                connection.request(method, path, payload, headers)
                answer = connection.getresponse()
                raw = answer.read()
        except (OSError, http.client.HTTPException) as error:
            words = f"the service at {self.url} does not answer ({error}): is it running?"
            raise CommandError(words, code="unreachable") from error
        said = from_json(raw or b"{}")
        if answer.status >= 400:
            raise refusal(said, f"{method} {path}: {answer.status}")
        return said

    def stop(self) -> None:
        """Hold the arm where it is. Raises CommandError when that was not confirmed."""
        for attempt in range(STOP_TRIES):
            try:
                self.post("/v1/stop", {"level": "hold"}, STOP_TIMEOUT_S)
                return
            except CommandError:
                if attempt == STOP_TRIES - 1:
                    raise


def refusal(problem: dict[str, Any], otherwise: str) -> CommandError:
    """What the service refused, as an error that names the remedy."""
    detail, remedy = str(problem.get("detail") or otherwise), str(problem.get("remedy") or "")
    words = f"{detail}: {remedy}" if remedy else detail
    return CommandError(words, code=str(problem.get("code", "refused")))


class StopButton:
    """Stops the arm from a thread of its own: pressing it returns at once, and nothing is before it.

    Args:
        client: the service.
        say: told how it went.
    """

    def __init__(self, client: ServiceClient, say: Callable[[str], None]) -> None:
        self._client, self._say = client, say
        self._pressed = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        threading.Thread(target=self._run, name="stop", daemon=True).start()

    def press(self, wait_s: float = 0.0) -> bool:
        """Stop; whether it was over within ``wait_s``."""
        self._idle.clear()
        self._pressed.set()
        return self._idle.wait(wait_s) if wait_s > 0.0 else False

    def _run(self) -> None:
        while True:
            self._pressed.wait()
            self._pressed.clear()
            try:
                self._client.stop()
                self._say("STOP: the arm holds")
            except CommandError as error:
                self._say(f"STOP WAS NOT CONFIRMED, cut the arm's power if it moves: {error}")
            if not self._pressed.is_set():
                self._idle.set()


class IntentStream:
    """A WebSocket that takes intents, opened when the first one is sent and again when it was lost.

    One thread uses it. Intents that cannot go out are dropped: what the arm is to do is only ever the newest.

    Args:
        client: the service.
        say: told what it refuses.
    """

    def __init__(self, client: ServiceClient, say: Callable[[str], None]) -> None:
        self._url = f"{client.ws_url}/v1/teleop/intents"
        self._say = say
        self._stack = contextlib.ExitStack()
        self._socket: ClientConnection | None = None
        self._again_s = self._quiet_until_s = 0.0

    def send(self, intent: dict[str, Any]) -> bool:
        """Send one intent; whether it went out."""
        try:
            socket = self._open()
            if socket is None:
                return False
            socket.send(json.dumps(intent, allow_nan=False))
            self._listen(socket)
        except (OSError, WebSocketException) as error:
            self.close()
            self._again_s = time.monotonic() + RECONNECT_S
            self._complain(f"intents do not get through: {error}")
            return False
        return True

    def close(self) -> None:
        """Close the connection; the next intent opens another."""
        self._socket = None
        with contextlib.suppress(OSError, WebSocketException):
            self._stack.close()

    def _open(self) -> ClientConnection | None:
        if self._socket is None and time.monotonic() >= self._again_s:
            opening = connect(self._url, open_timeout=2.0, close_timeout=0.5, compression=None, proxy=None)
            self._socket = self._stack.enter_context(opening)
        return self._socket

    def _listen(self, socket: ClientConnection) -> None:
        """Take what has been answered; only refusals are worth a word."""
        with contextlib.suppress(TimeoutError):
            while True:
                answer = from_json(_bytes(socket.recv(timeout=0)))
                if "detail" in answer or answer.get("ok") is False:
                    self._complain(str(refusal(answer, str(answer.get("message", "an intent was refused")))))

    def _complain(self, words: str) -> None:
        now_s = time.monotonic()
        if now_s >= self._quiet_until_s:
            self._quiet_until_s = now_s + COMPLAIN_S
            self._say(words)


def _bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message
