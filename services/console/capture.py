"""The terminal for the screen alone.

Children inherit stdout and stderr, and a log line of theirs would tear the screen. So both lead to a file
while the screen is up: a file never makes its writer wait, whatever becomes of its reader. What comes there
is said above the screen's lines.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import TextIO

from rich.console import Console

PERIOD_S = 0.2
PIECE_BYTES = 65536


class _Patient:
    """A text file whose terminal may go away: what cannot be written is dropped."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.encoding = file.encoding

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.flush()

    def isatty(self) -> bool:
        return self._file.isatty()

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.close()


class Capture:
    """While this is open, stdout and stderr of this process and its children lead to a file.

    Attributes:
        console: draws on the terminal that stdout was.
    """

    def __enter__(self) -> Capture:
        sys.stdout.flush()
        sys.stderr.flush()
        self._before = (os.dup(1), os.dup(2))
        self._caught = tempfile.TemporaryFile()
        for stream in (1, 2):
            os.dup2(self._caught.fileno(), stream)
        self._screen = _Patient(os.fdopen(os.dup(self._before[0]), "w"))
        self.console = Console(file=self._screen, force_terminal=True)  # type: ignore[arg-type]
        self._read = 0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, before in zip((1, 2), self._before, strict=True):
            os.dup2(before, stream)
            os.close(before)
        self._screen.close()
        with contextlib.suppress(OSError):
            os.write(2, self._rest())
        self._caught.close()

    def lead_to(self, say: Callable[[str], None]) -> None:
        """From now on lines that come are said."""
        self._thread = threading.Thread(target=self._tail, args=(say,), name="log", daemon=True)
        self._thread.start()

    def _tail(self, say: Callable[[str], None]) -> None:
        while not self._end.wait(PERIOD_S):
            for line in self._rest(whole=True).decode(errors="replace").splitlines():
                say(line)

    def _rest(self, *, whole: bool = False) -> bytes:
        """What has come since the last time; with ``whole`` up to the end of a line."""
        found = b""
        while piece := os.pread(self._caught.fileno(), PIECE_BYTES, self._read + len(found)):
            found += piece
        if whole:
            found = found[: found.rfind(b"\n") + 1]
        self._read += len(found)
        return found
