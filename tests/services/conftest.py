"""A service whose controller, worker and cameras are scripted behind the real sockets and segments."""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import uvicorn

from robot.config import RobotConfig
from robot.frame_ring import FrameRing
from robot.mailbox import Mailbox, from_json, to_json
from robot.runtime import Runtime
from robot.seams import ByteArray
from robot.seqlock import SharedBlock
from robot.telemetry import MODES, SOURCES, TelemetryRing, empty_record
from services.api.app import create_app, make_context
from services.evidence import EvidenceConfig
from services.status_board import BOARD_BYTES, ProcessInfo, StatusBoard
from services.supervisor import remove_leftovers
from tests.services.recorder_samples import Recording

HZ = 100
PX_PER_M = 800.0
BOWL = (0.18, -0.26)
PICKUP = (0.24, 0.03)
# u along -y, v along -x; pixel (320, 240) looks at (0.2, -0.05).
TABLE_MAP = ((0.0, -1 / PX_PER_M, 0.5), (-1 / PX_PER_M, 0.0, 0.35), (0.0, 0.0, 1.0))
EVIDENCE = EvidenceConfig(hold_s=0.12, still_s=0.15, limit_s=1.8)

# seconds, tool, gripper goal, gripper opening, load
Phase = tuple[float, tuple[float, float, float], float, float, float]
APPROACH: Phase = (0.15, (*PICKUP, 0.10), 60.0, 60.0, 1.0)
GRASP: Phase = (0.1, (*PICKUP, 0.015), 5.0, 27.0, -20.0)
LIFT: Phase = (0.3, (*PICKUP, 0.09), 5.0, 27.0, -18.0)
CARRY: Phase = (0.15, (0.20, -0.15, 0.13), 5.0, 27.0, -18.0)
RELEASE: Phase = (0.15, (*BOWL, 0.12), 60.0, 55.0, 2.0)
RETREAT: Phase = (3.0, (0.20, 0.0, 0.15), 60.0, 60.0, 1.0)
GOOD_RUN: tuple[Phase, ...] = (APPROACH, GRASP, LIFT, CARRY, RELEASE, RETREAT)


def robot_config() -> RobotConfig:
    joints = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
    flat = dict.fromkeys(joints, 0.0)
    return RobotConfig.model_validate(
        {
            "name": "scripted",
            "kind": "twin",
            "calibration": "none.json",
            "control_hz": HZ,
            "cameras": [
                {"name": "overhead", "width_px": 640, "height_px": 480, "table_map": TABLE_MAP},
                {"name": "wrist", "width_px": 320, "height_px": 240},
            ],
            "gate": {
                "min_position": dict.fromkeys(joints, -100.0),
                "max_position": dict.fromkeys(joints, 100.0),
                "max_velocity": dict.fromkeys(joints, 180.0),
                "max_acceleration": dict.fromkeys(joints, 900.0),
            },
            "ready_pose": flat,
            "park_pose": flat,
            "bowl": {"x_m": BOWL[0], "y_m": BOWL[1], "radius_m": 0.06},
            "workspace": {"min_radius_m": 0.12, "max_radius_m": 0.34, "max_pan_deg": 75.0},
        }
    )


def picture(cube: tuple[float, float] | None) -> ByteArray:
    image = np.full((480, 640, 3), (196, 176, 148), dtype=np.uint8)

    to_pixel = np.linalg.inv(np.array(TABLE_MAP))

    def at(point: tuple[float, float]) -> tuple[int, int]:
        u, v, w = to_pixel @ np.array([*point, 1.0])
        return round(u / w), round(v / w)

    cv2.circle(image, at(BOWL), round(0.06 * PX_PER_M), (214, 214, 216), -1)
    if cube is not None:
        u, v = at(cube)
        half = round(0.014 * PX_PER_M)
        cv2.rectangle(image, (u - half, v - half), (u + half, v + half), (40, 60, 190), -1)
    return image


class Thread(ABC):
    def __init__(self) -> None:
        self._quit = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._quit.is_set():
            self.step()
            time.sleep(1 / HZ)

    @abstractmethod
    def step(self) -> None:
        """One period's work."""

    def join(self) -> None:
        self._quit.set()
        self._thread.join()


class ScriptedController(Thread):
    """The controller's end of the process boundary: takes commands, writes telemetry and status."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self.mailbox = Mailbox(runtime.controller_socket)
        self.ring = TelemetryRing.create(runtime.telemetry_name)
        self.block = SharedBlock.create(runtime.status_name, 32 * 1024)
        self.status: dict[str, Any] = {
            "mode": "off", "run_id": 0, "source": None, "faults": [], "pid": 4711, "control_hz": HZ,
            "reason": "",
        }  # fmt: skip
        self.commands: list[dict[str, Any]] = []
        self.script: tuple[Phase, ...] = GOOD_RUN
        self.silent = False
        self.deaf = False
        self.status_lag_s = 0.0
        """How long after a command the status of before stays to be seen."""
        self.chunk_age = 2
        self.on_release: Callable[[], None] = lambda: None
        self._tick = 0
        self._until = 0.0
        self._then = ""
        self._run_began = 0.0
        self._shown_from = 0.0

    def moving(self) -> list[dict[str, Any]]:
        return [c for c in self.commands if c["op"] not in ("heartbeat",)]

    def fault(self, code: str, severity: str = "hold", active: bool = True) -> None:
        self.status["faults"].append(
            {"id": 9, "code": code, "severity": severity, "joint": "elbow_flex",
             "message": f"{code} happened", "remedy": "mend it", "raised_s": 1.0, "active": active}
        )  # fmt: skip
        if severity == "hold":
            self.status["mode"] = "fault"

    def step(self) -> None:
        now = time.monotonic()
        if self._then and now >= self._until:
            self.status["mode"], self._then = self._then, ""
        if not self.deaf:
            for payload, sender in self.mailbox.drain():
                command = from_json(payload)
                self.commands.append(command)
                self.mailbox.reply(sender, to_json(self.answer(command)))
        self.publish(now)

    def now(self, mode: str) -> None:
        """Be in a mode, and forget what was to come next."""
        self._then = ""
        self.status["mode"] = mode

    def later(self, mode: str, then: str, seconds: float = 0.1) -> None:
        self.status["mode"], self._then, self._until = mode, then, time.monotonic() + seconds

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        op, mode = command["op"], self.status["mode"]
        if op != "heartbeat" and self.status_lag_s > 0:
            self._shown_from = time.monotonic() + self.status_lag_s
        if op == "stop":
            self._then = ""
            if command["level"] == "park":
                self.later("parking", "off")
            else:
                self.status["mode"] = {"hold": "hold", "release": "off"}[command["level"]]
            self.status["reason"] = f"stopped ({command['level']})"
        elif op == "clear_faults":
            stays = [fault for fault in self.status["faults"] if fault["active"]]
            if any(fault["severity"] == "hold" for fault in stays):
                return {"ok": False, "code": "fault_active", "message": "still there"}
            self.status["faults"] = stays
            self.status["mode"] = "hold"
        elif op == "start":
            if self.status["faults"]:
                return {"ok": False, "code": "fault_latched", "message": "a fault is latched"}
            if mode not in ("ready", "starting", "running"):
                self.later("starting", "ready")
        elif op == "run":
            if mode != "ready":
                return {"ok": False, "code": "not_ready", "message": f"mode is {mode}"}
            self._run_began = time.monotonic()
            self.status.update(mode="running", run_id=command["run_id"], source=command["source"])
        elif op == "switch":
            if mode != "running" or command["run_id"] != self.status["run_id"]:
                return {"ok": False, "code": "no_such_run", "message": "it is not going"}
            self.status["source"] = command["source"]
        elif op == "end_run" and mode == "running":
            self.later("hold", "ready")
        return {"ok": True}

    def publish(self, now: float) -> None:
        if now >= self._shown_from:
            self.block.write(json.dumps(self.status).encode())
        if self.silent:
            return
        self._tick += 1
        record = empty_record()
        record["tick"], record["time_s"] = self._tick, now
        record["mode"] = MODES.index(self.status["mode"])
        record["run_id"] = self.status["run_id"]
        record["voltage_v"], record["temperature_c"] = 7.4, 31.0
        record["lateness_p99_ms"] = 0.8
        record["chunk_age_ticks"] = -1
        if self.status["mode"] == "running":
            source = self.status["source"] or "policy"
            record["source"] = SOURCES.index(source)
            record["chunk_age_ticks"] = self.chunk_age if source == "policy" else -1
            elapsed = now - self._run_began
            for phase in self.script:
                if elapsed < phase[0] or phase is self.script[-1]:
                    break
                elapsed -= phase[0]
            _, tool, goal, opening, load = phase
            record["tool_m"] = tool
            record["goal"][5], record["position"][5], record["load_pct"][5] = goal, opening, load
            record["velocity"][0] = 60.0
            if phase == RELEASE:
                self.on_release()
        self.ring.append(record)


class ScriptedWorker(Thread):
    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self.mailbox = Mailbox(runtime.worker_socket)
        self.block = SharedBlock.create(runtime.worker_status_name, 32 * 1024)
        self.status: dict[str, Any] = {
            "pid": 12, "state": "idle", "provider": "CPUExecutionProvider", "chunks": 5,
            "latency_ms": {"median": 4.0, "p99": 6.0}, "error": None,
        }  # fmt: skip
        self.commands: list[dict[str, Any]] = []
        self.on_begin: Callable[[], None] = lambda: None
        """Called before ``begin`` is answered."""

    def step(self) -> None:
        for payload, sender in self.mailbox.drain():
            command = from_json(payload)
            self.commands.append(command)
            if command["op"] == "begin":
                self.on_begin()
            self.mailbox.reply(sender, to_json({"ok": True}))
        self.block.write(json.dumps(self.status).encode())


class ScriptedCameras(Thread):
    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self.overhead = FrameRing.create(runtime.frame_name("overhead"), 480, 640)
        self.wrist = FrameRing.create(runtime.frame_name("wrist"), 240, 320)
        self.cube: tuple[float, float] | None = PICKUP
        self._shown: tuple[Any, ByteArray] = (object(), picture(None))
        self.stopped = False
        self.block = SharedBlock.create(runtime.cameras_status_name, 8192)
        self.error: str | None = None

    def step(self) -> None:
        told = {"state": "reconnecting" if self.error else "streaming", "error": self.error}
        states = dict.fromkeys(("overhead", "wrist"), told)
        self.block.write(json.dumps({"pid": 13, "cameras": states}).encode())
        if self.stopped:
            return
        if self._shown[0] != self.cube:
            self._shown = (self.cube, picture(self.cube))
        self.overhead.write(self._shown[1], time.monotonic())
        self.wrist.write(np.zeros((240, 320, 3), dtype=np.uint8), time.monotonic())


class ScriptedTwin(Thread):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.mailbox = Mailbox(path)
        self.commands: list[dict[str, Any]] = []
        self.confuser: dict[str, float] | None = None
        self.cube = {"x_m": 0.24, "y_m": 0.03, "z_m": 0.014}

    def step(self) -> None:
        for payload, sender in self.mailbox.drain():
            command = from_json(payload)
            self.commands.append(command)
            if command["op"] == "place_cube":
                self.cube.update(x_m=command["x_m"], y_m=command["y_m"])
            elif command["op"] == "place_confuser":
                self.confuser = {"x_m": command["x_m"], "y_m": command["y_m"], "z_m": 0.014}
            elif command["op"] == "remove_confuser":
                self.confuser = None
            bowl = {"x_m": BOWL[0], "y_m": BOWL[1]}
            truth = {"cube": self.cube, "confuser": self.confuser, "bowl": bowl, "cube_in_bowl": False}
            self.mailbox.reply(sender, to_json(truth if command["op"] == "truth" else {"ok": True}))


class Service:
    """All scripted parts and a real HTTP server over them."""

    def __init__(self, parent: Path) -> None:
        self.runtime = Runtime.create(parent)
        self.config = robot_config()
        self.controller = ScriptedController(self.runtime)
        self.worker = ScriptedWorker(self.runtime)
        self.cameras = ScriptedCameras(self.runtime)
        self.controller.on_release = lambda: setattr(self.cameras, "cube", BOWL)
        self.board = StatusBoard(SharedBlock.create(self.runtime.service_status_name, BOARD_BYTES))
        self.board.processes = {
            "controller": ProcessInfo("running", 4711),
            "worker": ProcessInfo("running", 12),
            "cameras": ProcessInfo("running", 13),
        }
        self.board.publish()
        self.supervisor = ScriptedSupervisor(self.runtime, self.board)
        self.twin = ScriptedTwin(self.runtime.folder / "twin.sock")
        self.description = {
            "robot": "scripted",
            "policy": "policies/pick_place",
            "execution": {"mode": "ensemble", "m": 0.01, "actions_per_inference": 16},
            "twin": {"control": str(self.twin.mailbox.path)},
        }
        self.threads: list[Thread] = [self.controller, self.worker, self.cameras, self.twin, self.supervisor]
        for thread in self.threads:
            thread.start()
        self._server: uvicorn.Server | None = None
        self._serving: threading.Thread | None = None
        self.http = httpx.Client(timeout=10)

    def serve(self) -> None:
        context = make_context(self.runtime, self.description, self.config, EVIDENCE)
        config = uvicorn.Config(
            create_app(context),
            port=0,
            log_level="warning",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._serving = threading.Thread(target=self._server.run, daemon=True)
        self._serving.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.http.base_url = httpx.URL(f"http://127.0.0.1:{self.port}")

    def end_serving(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            self._serving.join(10)
            self._server = None

    def start(self) -> None:
        assert self.http.post("/v1/start").status_code == 200
        self.until(lambda: self.mode() == "ready")

    def mode(self) -> str:
        return str(self.http.get("/v1/state").json()["mode"])

    def pick(self, **body: Any) -> httpx.Response:
        return self.http.post("/v1/pickups", json=body or {"x_m": PICKUP[0], "y_m": PICKUP[1]})

    def ended(self, location: str, timeout_s: float = 10.0) -> dict[str, Any]:
        self.until(
            lambda: self.http.get(location).json()["status"] in ("succeeded", "failed", "cancelled"),
            timeout_s,
        )
        return dict(self.http.get(location).json())

    def until(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not come to that in time"
            time.sleep(0.02)

    def close(self) -> None:
        self.end_serving()
        self.http.close()
        for thread in self.threads:
            thread.join()
        for mailbox in (
            self.controller.mailbox,
            self.worker.mailbox,
            self.twin.mailbox,
            self.supervisor.mailbox,
        ):
            mailbox.close()
        for segment in (
            self.controller.ring, self.controller.block, self.worker.block, self.cameras.overhead,
            self.cameras.wrist, self.cameras.block, self.board.block,
        ):  # fmt: skip
            segment.close()
        remove_leftovers(self.runtime)


class ScriptedSupervisor(Thread):
    def __init__(self, runtime: Runtime, board: StatusBoard) -> None:
        super().__init__()
        self.mailbox = Mailbox(runtime.supervisor_socket)
        self.board = board

    def step(self) -> None:
        for _, sender in self.mailbox.drain():
            left = self.board.clear()
            answer = {"ok": not left, "code": "fault_active", "message": "still there"}
            self.mailbox.reply(sender, to_json(answer))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    try:
        made.serve()
        made.until(lambda: made.http.get("/readyz").status_code == 200)
        yield made
    finally:
        made.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def recording(out: Path) -> Iterator[Recording]:
    made = Recording(out).ready()
    yield made
    if made.state != "ended":
        made.end(8.0)
