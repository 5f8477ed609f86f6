"""The recorder's real process on rings that a thread of the test writes: cameras and a controller."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from robot.config import load_robot
from robot.errors import SegmentError
from robot.frame_ring import FrameRing
from robot.mailbox import MailboxClient
from robot.runtime import Runtime
from robot.seqlock import SharedBlock
from robot.telemetry import TelemetryRing
from services.recording.options import RecordingOptions
from services.supervisor import remove_leftovers
from tests.services.recorder_samples import CAMERAS, HEIGHT, WIDTH, picture, record

SLOTS = 17
"""As the camera process makes them for a recorder: half a second."""
TASK = "pick up the cube"


class Feeder(threading.Thread):
    """Cameras at 30 pictures a second and a controller at 60 Hz, in shared memory."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(daemon=True)
        self.silent: set[str] = set()
        self.captured: dict[str, list[float]] = {name: [] for name in CAMERAS}
        self._rings = {
            name: FrameRing.create(runtime.frame_name(name), HEIGHT, WIDTH, SLOTS) for name in CAMERAS
        }
        self._telemetry = TelemetryRing.create(runtime.telemetry_name)
        self._ending = threading.Event()

    def run(self) -> None:
        step = round(time.monotonic() * 120)
        while not self._ending.is_set():
            step = max(step + 1, round(time.monotonic() * 120))
            time.sleep(max(0.0, step / 120 - time.monotonic()))
            now_s = time.monotonic()
            if step % 2 == 0 and "servos" not in self.silent:
                self._telemetry.append(record(now_s))
            for place, name in enumerate(CAMERAS):
                if step % 4 == place and name not in self.silent:
                    times_s = self.captured[name]
                    times_s.append(now_s)
                    self._rings[name].write(picture(len(times_s)), now_s)

    def close(self) -> None:
        self._ending.set()
        self.join()
        for ring in (*self._rings.values(), self._telemetry):
            ring.close()


class RecorderRig:
    """A recorder's process that can be killed and started again, and what it says."""

    def __init__(self, parent: Path, **options: Any) -> None:
        self.runtime = Runtime.create(parent)
        self.options = RecordingOptions(out=parent / "out", task=TASK, **{"codec": "h264", **options})
        described = {"robot": small_robot(parent), "recording": self.options.model_dump(mode="json")}
        self.runtime.description.write_text(json.dumps(described))
        self.feeder = Feeder(self.runtime)
        self.feeder.start()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def out(self) -> Path:
        return self.options.out

    def launch(self, *, until_idle: bool = True) -> None:
        command = [sys.executable, "-m", "services.processes.recorder", str(self.runtime.folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, env=environment)
        if until_idle:
            self.until(lambda told: told["state"] == "idle", 60.0)

    def told(self) -> dict[str, Any]:
        """The status of the present process; empty before it has one."""
        try:
            with SharedBlock.attach(self.runtime.recorder_status_name) as block:
                told = json.loads(block.read() or b"{}")
        except SegmentError:
            return {}
        assert self.process is not None
        return dict(told) if told.get("pid") == self.process.pid else {}

    def until(self, condition: Callable[[dict[str, Any]], bool], longest_s: float = 20.0) -> dict[str, Any]:
        end_s = time.monotonic() + longest_s
        while True:
            told = self.told()
            if told and condition(told):
                return told
            assert time.monotonic() < end_s, told
            time.sleep(0.01)

    def ask(self, op: str, **body: Any) -> dict[str, Any]:
        return MailboxClient(self.runtime.recorder_socket).ask({"op": op, **body}, 5.0)

    def do(self, op: str, **body: Any) -> dict[str, Any]:
        answer = self.ask(op, **body)
        assert answer["ok"], answer
        return answer

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.send(number)
        return self.process.wait(20)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        self.feeder.close()
        remove_leftovers(self.runtime)


def small_robot(folder: Path) -> str:
    """Path of a copy of the twin's robot file with small pictures."""
    _, shipped = load_robot("twin")
    raw = yaml.safe_load((shipped / "twin.yaml").read_text(encoding="utf-8"))
    raw["calibration"] = str(shipped / raw["calibration"])
    raw["leader_calibration"] = str(shipped / raw["leader_calibration"])
    raw["cameras"] = [{"name": name, "width_px": WIDTH, "height_px": HEIGHT} for name in CAMERAS]
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return str(path)
