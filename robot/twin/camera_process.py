"""The cameras' process as the live gait has it: started, started again when it has died, ended."""

from __future__ import annotations

import sys
import threading
import time
from urllib.parse import urlsplit

from robot.twin import child

START_S = 60.0
AGAIN_S = 2.0
"""A process that dies sooner than this after its start waits so long for the next."""


class CameraProcess:
    """A process of :mod:`robot.twin.camera_server`.

    Args:
        arguments: its options but the port.
        port: TCP port on the loopback address, 0 for any free one.
    """

    def __init__(self, arguments: list[str], port: int) -> None:
        self._arguments, self._port = arguments, port
        self._start()

    def urls(self, ended: threading.Event) -> dict[str, str]:
        """Wait until it can render: camera name -> address, which a later process keeps.

        Raises:
            TwinError: it cannot, or ``ended`` was set meanwhile.
        """
        urls: dict[str, str] = child.read_json_line(self._process, START_S, ended)["cameras"]
        self._port = max(urlsplit(url).port or 0 for url in urls.values())
        return urls

    def keep_alive(self) -> None:
        """Start another one where it has died; to be called now and then, never waits."""
        status = self._process.poll()
        if status is None or time.monotonic() - self._started_s < AGAIN_S:
            return
        sys.stderr.write(f"the cameras' process ended with exit status {status}; it is started again\n")
        sys.stderr.flush()
        self.close()
        self._start()

    def close(self) -> None:
        """End it. Safe to call twice."""
        child.stop(self._process)

    def _start(self) -> None:
        arguments = [*self._arguments, "--port", str(self._port)]
        self._process = child.start_module("robot.twin.camera_server", arguments)
        self._started_s = time.monotonic()
