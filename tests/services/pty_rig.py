"""A person at a terminal: a real one, with a process in it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

from services.shipped import ROOT

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Person:
    """Types into a process's terminal and reads what stands there."""

    def __init__(self, command: list[str]) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.environ["TERM"] = "xterm"
            os.execvp(command[0], command)
        termios.tcsetwinsize(self._fd, (40, 120))
        self.seen = ""

    def types(self, *pieces: str) -> None:
        """Type pieces, with a moment between them, as a slow line would deliver them."""
        for piece in pieces:
            os.write(self._fd, piece.encode())
            self.look(0.02)

    def look(self, wait_s: float = 0.0) -> None:
        """Read what there is."""
        with contextlib.suppress(OSError):  # the process is gone
            while select.select([self._fd], [], [], wait_s)[0]:
                data = os.read(self._fd, 65536)
                if not data:
                    return
                self.seen += _ESCAPES.sub("", data.decode(errors="replace"))

    def until(self, text: str, timeout_s: float = 20.0) -> None:
        """Wait until a text stands there that was not read before, and forget everything up to it."""
        deadline_s = time.monotonic() + timeout_s
        while text not in self.seen:
            assert time.monotonic() < deadline_s, f"no {text!r} in:\n{self.seen[-3000:]}"
            self.look(0.05)
        self.seen = self.seen.partition(text)[2]

    @property
    def edits(self) -> bool:
        """Whether the terminal echoes and edits lines, as a shell's does."""
        flags = termios.tcgetattr(self._fd)[3]
        return bool(flags & termios.ECHO and flags & termios.ICANON)

    def gone(self, timeout_s: float = 20.0) -> int:
        """Wait for the end of the process; its exit status."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            self.look(0.02)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline_s, self.seen[-3000:]

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)


@contextlib.contextmanager
def at_terminal(*command: str) -> Iterator[Person]:
    """A person before a terminal in which a command runs; ``python`` is this interpreter."""
    person = Person([sys.executable if part == "python" else part for part in command])
    try:
        yield person
    finally:
        person.close()


def script(folder: Path, text: str) -> str:
    """A Python file with this text."""
    path = folder / "script.py"
    path.write_text(text)
    return str(path)
