"""Commands between processes: JSON in unix datagrams, which arrive whole, in order, or not at all.

The receiver never blocks: it drains what has come and answers without waiting for anybody. A full queue or a
slow reader is the sender's problem. Payloads are at most 64 KiB; numbers must be finite.
"""

from __future__ import annotations

import contextlib
import json
import math
import socket
from pathlib import Path
from typing import Any

from robot.errors import CommandError

MAX_PAYLOAD = 64 * 1024
"""Largest datagram in bytes."""

_MAX_PATH = 107
"""Bytes of a unix socket's path that the kernel takes."""


def to_json(value: dict[str, Any]) -> bytes:
    """One JSON object as bytes.

    Raises:
        CommandError: (``malformed``) it holds something that is not JSON or not finite, or is too large.
    """
    try:
        payload = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise CommandError(f"cannot be sent as JSON: {error}", code="malformed") from error
    _check_size(payload)
    return payload


def from_json(payload: bytes) -> dict[str, Any]:
    """The JSON object in a datagram.

    Raises:
        CommandError: (``malformed``) it is not a JSON object, or a number in it is not finite.
    """
    try:
        value = json.loads(payload, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"not a JSON command: {error}", code="malformed") from error
    if not isinstance(value, dict):
        raise CommandError("a command must be a JSON object", code="malformed")
    return value


class Mailbox:
    """The receiving end: a datagram socket at a path."""

    def __init__(self, path: Path) -> None:
        """Bind the socket; the file of a receiver that died is replaced.

        Raises:
            CommandError: (``address_in_use``) a live process listens there; (``bad_address``) the path is
                too long for a socket or its folder is absent.
        """
        self.path = path
        self._socket = _unix_socket()
        try:
            if path.exists():
                _remove_stale(path)
            self._socket.bind(str(_checked(path)))
        except OSError as error:
            self._socket.close()
            raise CommandError(f"no socket at {path}: {error.strerror}", code="bad_address") from error
        except CommandError:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Descriptor, for those who want to wait until something comes."""
        return self._socket.fileno()

    def drain(self, limit: int = 32) -> list[tuple[bytes, str | None]]:
        """What has come: payload and the address to answer to (``None`` where the sender wants no answer).

        Takes at most ``limit`` datagrams, so that a flood costs a bounded time. Never blocks.
        """
        received: list[tuple[bytes, str | None]] = []
        while len(received) < limit:
            try:
                payload, sender = self._socket.recvfrom(MAX_PAYLOAD)
            except BlockingIOError:
                break
            received.append((payload, _as_text(sender)))
        return received

    def reply(self, address: str | None, payload: bytes) -> bool:
        """Answer without waiting; whether the answer went out (``False``: nobody there, or queue full)."""
        if address is None:
            return False
        try:
            self._socket.sendto(payload, address)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the socket and remove its file."""
        self._socket.close()
        self.path.unlink(missing_ok=True)


class MailboxClient:
    """The sending end. Each request has a socket of its own, so a late answer is never taken for the next."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def send(self, payload: bytes) -> None:
        """Send without waiting for an answer.

        Raises:
            CommandError: (``unreachable``) nobody listens; (``busy``) the queue is full; (``malformed``) it
                is too large.
        """
        with contextlib.closing(_unix_socket()) as sender:
            sender.setblocking(False)
            self._send(sender, payload)

    def request(self, payload: bytes, timeout_s: float = 1.0) -> bytes:
        """Send and wait for the answer.

        Raises:
            CommandError: as :meth:`send`, or (``timeout``) no answer came in time.
        """
        with contextlib.closing(_unix_socket()) as sender:
            sender.bind("")  # Linux picks an abstract address: no file that a killed client would leave
            sender.settimeout(timeout_s)
            self._send(sender, payload)
            try:
                return sender.recv(MAX_PAYLOAD)
            except TimeoutError as error:
                raise CommandError(
                    f"{self.path.name} gave no answer in {timeout_s:g} s", code="timeout"
                ) from error

    def ask(self, command: dict[str, Any], timeout_s: float = 1.0) -> dict[str, Any]:
        """:meth:`request` with JSON objects on both ways. Raises CommandError as there."""
        return from_json(self.request(to_json(command), timeout_s))

    def tell(self, command: dict[str, Any]) -> None:
        """:meth:`send` with a JSON object. Raises CommandError as there."""
        self.send(to_json(command))

    def _send(self, sender: socket.socket, payload: bytes) -> None:
        _check_size(payload)
        try:
            sender.sendto(payload, str(_checked(self.path)))
        except (BlockingIOError, TimeoutError) as error:
            raise CommandError(
                f"{self.path.name} does not keep up: its queue is full", code="busy"
            ) from error
        except OSError as error:
            raise CommandError(
                f"nobody listens at {self.path} ({error.strerror}): is its process running?",
                code="unreachable",
            ) from error


def _unix_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def _checked(path: Path) -> Path:
    if len(str(path).encode()) > _MAX_PATH:
        raise CommandError(f"socket path longer than {_MAX_PATH} bytes: {path}", code="bad_address")
    return path


def _remove_stale(path: Path) -> None:
    with contextlib.closing(_unix_socket()) as probe:
        try:
            probe.connect(str(_checked(path)))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise CommandError(f"another process listens at {path}: stop it first", code="address_in_use")


def _as_text(address: str | bytes | None) -> str | None:
    """Abstract addresses come as bytes that begin with a zero; they are hexadecimal digits after it."""
    if isinstance(address, bytes):
        return address.decode("latin-1") or None
    return address or None


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_PAYLOAD:
        raise CommandError(f"{len(payload)} bytes are more than {MAX_PAYLOAD}", code="malformed")


def _refuse(token: str) -> float:
    raise ValueError(f"{token} is not a finite number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)
