"""The controller's real process on a live twin: real signals, real sockets, a real bus."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from inference.source import ChunkMessage, pack_chunk
from robot.config import load_robot
from robot.errors import CommandError, SegmentError
from robot.mailbox import MailboxClient
from robot.runtime import Runtime
from robot.seqlock import SharedBlock
from robot.telemetry import MODES, Record, TelemetryRing
from robot.twin.client import TwinProcess
from services.supervisor import remove_leftovers

CONFIG, FOLDER = load_robot("twin")
DT_S = CONFIG.dt_s
FPS = 30.0


@dataclass
class Reaction:
    """How the arm answered something that went wrong; times in milliseconds after it happened."""

    latched_ms: float
    """Until the first tick in which the arm was stopped for a fault."""
    still_ms: float
    """Until the last goal that changed; 0 where none changed any more."""
    ticks: int
    """Ticks that began after it happened and before the last goal that changed."""
    codes: dict[str, str | None] = field(default_factory=dict)
    """Fault code -> joint."""


class Rig:
    """A twin, and a controller process that can be killed and started again.

    Args:
        parent: Where the runtime folder is made.
        twin: The twin that is driven.
        robot: Robot file, or the name of a shipped one.
    """

    def __init__(self, parent: Path, twin: TwinProcess, robot: str = "twin") -> None:
        self.runtime = Runtime.create(parent)
        self.twin = twin
        self.describe(twin.description, robot)
        self.client = MailboxClient(self.runtime.controller_socket)
        self.chunks = MailboxClient(self.runtime.chunk_socket)
        self.process: subprocess.Popen[bytes] | None = None
        self.runs = 0

    def describe(self, twin: dict[str, Any], robot: str = "twin") -> None:
        """Say what the next controller will find."""
        description = {"robot": robot, "policy": None, "execution": None, "twin": twin}
        self.runtime.description.write_text(json.dumps(description))

    def launch(self, environment: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "services.processes.controller", str(self.runtime.folder)]
        self.process = subprocess.Popen(command, env={**os.environ, **(environment or {})})
        pid = self.process.pid
        self.until(lambda: self.status().get("pid") == pid, 30.0, "a controller")

    def ask(self, **command: Any) -> dict[str, Any]:
        return self.client.ask(command, 5.0)

    def status(self) -> dict[str, Any]:
        try:
            with SharedBlock.attach(self.runtime.status_name) as block:
                return json.loads(block.read() or b"{}")
        except SegmentError:
            return {}

    @property
    def mode(self) -> str:
        return str(self.status().get("mode"))

    @property
    def codes(self) -> dict[str, str | None]:
        """Latched faults, code -> joint."""
        return {fault["code"]: fault["joint"] for fault in self.status().get("faults", [])}

    def until(self, condition: Callable[[], bool], longest_s: float, what: str) -> None:
        end_s = time.monotonic() + longest_s
        while not condition():
            assert time.monotonic() < end_s, f"no {what}: {self.status()}"
            time.sleep(0.02)

    def until_mode(self, mode: str, longest_s: float = 20.0) -> None:
        self.until(lambda: self.mode == mode, longest_s, mode)

    def start(self) -> None:
        """Clear what is gone, start, and wait for the ready pose, as a person does."""

        def ready() -> bool:
            if self.mode not in ("starting", "ready"):
                self.ask(op="clear_faults")
                self.ask(op="start")
            return self.mode == "ready"

        self.until(ready, 30.0, "ready pose")

    def park(self) -> None:
        """To the park pose, and torque off."""

        def parked() -> bool:
            if self.mode not in ("parking", "off"):
                self.start()
                assert self.ask(op="stop", level="park") == {"ok": True}
            return self.mode == "off"

        self.start()
        self.until(parked, 30.0, "park pose")

    def records(self, since: int = 0) -> list[Record]:
        ring = TelemetryRing.attach(self.runtime.telemetry_name)
        try:
            return ring.since(since)
        finally:
            ring.close()

    def newest(self) -> Record:
        return self.records()[-1]

    # -- a run of which the test is the policy worker --------------------------------------------------------

    def begin(self, execution: dict[str, Any] | None = None, longest_s: float = 60.0) -> int:
        """Begin a run whose chunks the test sends."""
        self.runs += 1
        args = {"run_id": self.runs, **(execution or {"mode": "open_loop"})}
        answer = self.ask(op="run", run_id=self.runs, source="policy", args=args, max_duration_s=longest_s)
        assert answer == {"ok": True}, answer
        return self.runs

    def send_chunk(self, actions: np.ndarray) -> None:
        """A chunk of so many steps at 30 a second, seen just now."""
        tick = int(self.newest()["tick"])
        self.chunks.send(pack_chunk(ChunkMessage(self.runs, tick, FPS, actions.astype(np.float32))))

    def wave(self, seconds: float = 6.0) -> None:
        """Begin a run that moves all joints to and fro."""
        self.begin()
        self.send_chunk(wave(seconds))
        self.until(lambda: self.mode == "running", 2.0, "run")
        time.sleep(0.4)

    @contextmanager
    def heartbeats(self) -> Iterator[None]:
        """A commander that lives."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(0.3):
                try:
                    MailboxClient(self.runtime.controller_socket).ask({"op": "heartbeat"}, 1.0)
                except CommandError:
                    continue

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    # -- what was done about it ------------------------------------------------------------------------------

    def goals_since(self, time_s: float, arm: str = "follower") -> list[dict[str, Any]]:
        """Goals that changed in the servos after a monotonic time, as the servos saw them."""
        return [goal for goal in self.twin.goal_log(time_s) if goal["arm"] == arm]

    def stopped(self, applied_s: float, longest_s: float = 5.0, settle_s: float = 0.3) -> Reaction:
        """Wait until the arm has stopped for a fault, and until nothing more may come."""
        self.until(lambda: self.mode == "fault", longest_s, "fault")
        time.sleep(settle_s)
        stopped = [r for r in self.records() if MODES[int(r["mode"])] == "fault" and r["time_s"] > applied_s]
        goals = self.goals_since(applied_s)
        still_s = max((goal["time_s"] for goal in goals), default=applied_s)
        ticks = sum(applied_s < record["time_s"] <= still_s for record in self.records())
        latched_ms = 1e3 * (float(stopped[0]["time_s"]) - applied_s)
        return Reaction(latched_ms, 1e3 * (still_s - applied_s), int(ticks), self.codes)

    def end(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        return process.wait(30)

    def close(self) -> None:
        if self.process is not None:
            self.end()
        remove_leftovers(self.runtime)


def quick_robot(folder: Path) -> str:
    """Path of a copy of the twin's robot file that comes to its poses three times as fast."""
    raw = yaml.safe_load((FOLDER / "twin.yaml").read_text(encoding="utf-8"))
    raw["ramp_velocity_dps"] = 180.0
    for part in (raw, *raw["cameras"]):  # paths in the copy start from elsewhere
        for key in {"calibration", "leader_calibration"} & part.keys():
            part[key] = str(FOLDER / part[key])
    path = folder / "quick.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return str(path)


def wave(seconds: float) -> np.ndarray:
    """Actions, shape (steps, 6), that swing every joint about the ready pose at up to 60 units per second."""
    t = np.arange(round(seconds * FPS)) / FPS
    swing = np.array([25.0, 12.0, 20.0, -20.0, 25.0, 20.0])
    middle = CONFIG.ready_pose.array() + np.array([0.0, 15.0, 0.0, -25.0, 0.0, 10.0])
    return middle + np.sin(2.2 * t)[:, None] * swing
