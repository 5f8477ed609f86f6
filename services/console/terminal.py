"""A terminal that gives keys as they are pressed, and that is as it was when this is over.

Echo and line editing are off (cbreak) while it is open; Ctrl-C stays the signal that it is. The settings come
back at the end of the ``with``, at the interpreter's exit, and while the process is suspended by Ctrl-Z.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import termios
import threading
import tty
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from services.console.keys import ESCAPE_S, KeyDecoder

READ_BYTES = 1024


def usable(fd: int) -> bool:
    """Whether there is a terminal at ``fd`` and this process is in its foreground."""
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


class Terminal:
    """Reads keys in a thread of its own, so that no key waits for anything else.

    Args:
        fd: of the terminal.
        on_key: called in that thread with the name of each key, see ``KeyDecoder``; must return at once.
        on_suspend: called before the process is suspended: nobody can press a key any more.
        on_resume: called when it goes on.
    """

    def __init__(
        self,
        fd: int,
        on_key: Callable[[str], None],
        on_suspend: Callable[[], None] = lambda: None,
        on_resume: Callable[[], None] = lambda: None,
    ) -> None:
        self._fd, self._on_key = fd, on_key
        self._on_suspend, self._on_resume = on_suspend, on_resume
        self._before: list[Any] | None = None
        self._previous: Any = None
        self._wake = os.pipe()
        self._thread = threading.Thread(target=self._read, name="keys", daemon=True)

    def __enter__(self) -> Terminal:
        """Switch to cbreak and begin to read. Call it in the main thread: it handles a signal."""
        self._before = termios.tcgetattr(self._fd)
        atexit.register(self.restore)
        self._previous = signal.signal(signal.SIGTSTP, self._suspend)
        tty.setcbreak(self._fd)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._wake[1], b"x")
        self._thread.join()
        signal.signal(signal.SIGTSTP, self._previous)
        self.restore()
        atexit.unregister(self.restore)
        for end in self._wake:
            os.close(end)

    def restore(self) -> None:
        """Give the terminal its settings back; one that has gone away has none."""
        if self._before is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: as it was before, stop here until SIGCONT, and cbreak again."""
        self._on_suspend()
        self.restore()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here it goes on.
        signal.signal(signal.SIGTSTP, self._suspend)
        if usable(self._fd):
            tty.setcbreak(self._fd)
        self._on_resume()

    def _read(self) -> None:
        decoder = KeyDecoder()
        while True:
            wait_s = ESCAPE_S if decoder.waiting else None
            ready, _, _ = select.select([self._fd, self._wake[0]], [], [], wait_s)
            if self._wake[0] in ready:
                return
            try:
                data = os.read(self._fd, READ_BYTES) if ready else None
            except OSError:  # the terminal is gone; SIGHUP ends the service
                return
            if data == b"":
                return
            for key in decoder.silence() if data is None else decoder.feed(data):
                self._on_key(key)
