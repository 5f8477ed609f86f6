"""``python -m services.processes.api RUNTIME_FOLDER``: the API's process."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import mink  # noqa: F401  kinematics imports it where it first solves: not in the middle of a request
import uvicorn

from robot.errors import So101Error
from robot.runtime import Runtime
from services.api.app import app_of, read_description

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM. Exit status 1 where the service cannot be described."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s api %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    runtime = Runtime(Path(arguments[0]))
    try:
        address = read_description(runtime).get("api", {})
        app = app_of(runtime)
    except So101Error as error:
        log.error("%s", error)
        return 1
    uvicorn.run(
        app,
        host=str(address.get("host", "127.0.0.1")),
        port=int(address.get("port", 8000)),
        log_level="warning",
        ws="websockets-sansio",
        # Pictures and telemetry never end by themselves: do not wait for them.
        timeout_graceful_shutdown=1,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
