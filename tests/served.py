"""The whole service as a person starts it, for tests: ``so101 serve`` with the shipped policy on the twin."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from robot.runtime import Runtime
from robot.telemetry import TelemetryRing
from robot.twin.client import TwinControl
from services.shipped import ROOT, policies_root

BUNDLE = Path(os.environ.get("SO101_TEST_POLICY", policies_root() / "pick_place"))
FINAL = ("succeeded", "failed", "cancelled")


class Served:
    """One running service.

    Args:
        folder: Of what it keeps while it runs.
        robot: Robot file, or the name of a shipped one.
        bundle: The policy.
    """

    def __init__(self, folder: Path, robot: str = "twin", bundle: Path = BUNDLE) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "services.cli",
            "serve",
            "--robot",
            robot,
            "--port",
            str(port),
            "--policy",
            str(bundle),
        ]
        self.log = (folder / "serve.log").open("w+")
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=self.log, stderr=subprocess.STDOUT, env=environment
        )
        self.folder = folder
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)

    def until(self, condition: Callable[[], Any], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if condition():
                    return
            except httpx.TransportError:
                pass
            assert self.process.poll() is None, self.words()
            assert time.monotonic() < deadline, f"{what}: not in {timeout_s} s\n{self.words()}"
            time.sleep(0.05)

    def words(self) -> str:
        self.log.flush()
        return (self.folder / "serve.log").read_text()[-3000:]

    def state(self) -> dict[str, Any]:
        return dict(self.http.get("/v1/state").json())

    def usable(self) -> bool:
        """Whether all is there; a machine busy elsewhere may have starved the twin's servos meanwhile."""
        answer = self.http.get("/readyz")
        if "faults" in answer.json().get("checks", {}) and answer.json()["checks"]["faults"] != "ok":
            self.http.post("/v1/faults/clear")
        return answer.status_code == 200

    def ready(self) -> None:
        """Start as a person would: look, clear what is gone, start."""

        def ready() -> bool:
            mode = self.state()["mode"]
            if mode not in ("ready", "starting") and self.http.post("/v1/start").status_code != 200:
                self.http.post("/v1/faults/clear")
            return bool(mode == "ready")

        self.until(ready, 30, "ready pose")
        self.until(lambda: self.http.get("/readyz").status_code == 200, 60, "readyz again")

    def pick(self, x_m: float, y_m: float) -> str:
        self.http.put("/v1/twin", json={"cube": {"x_m": x_m, "y_m": y_m}})
        answer = self.http.post("/v1/pickups", json={"x_m": x_m, "y_m": y_m})
        assert answer.status_code == 202, answer.text
        return str(answer.headers["Location"])

    @property
    def runtime(self) -> Runtime:
        (folder,) = self.folder.glob("so101-*")
        return Runtime(folder)

    def twin(self) -> TwinControl:
        return TwinControl(json.loads(self.runtime.description.read_text())["twin"]["control"])

    def ring(self) -> TelemetryRing:
        return TelemetryRing.attach(self.runtime.telemetry_name)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.http.close()
            self.log.close()


@contextlib.contextmanager
def served(robot: str = "twin", bundle: Path = BUNDLE) -> Iterator[Served]:
    """A service that has come up."""
    if not (bundle / "manifest.json").is_file():
        pytest.skip(f"no policy bundle at {bundle}: make policy")
    with tempfile.TemporaryDirectory(prefix="so101live") as folder:
        service = Served(Path(folder), robot, bundle)
        try:
            service.until(service.usable, 120, "readyz")
            yield service
        finally:
            service.close()
