"""A controller on a scripted arm, ticked by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from robot.config import RobotConfig, load_robot
from robot.controller import Controller
from robot.errors import CommandError, ServoError
from robot.joints import JOINTS
from robot.mailbox import Mailbox
from robot.safety.clearance import unlimited
from robot.seams import ArmState, FloatArray

from scripted_arm import HandClock, ScriptedArm  # isort: skip

CONFIG: RobotConfig = load_robot("twin")[0]
DT_S = CONFIG.dt_s
READY, PARK = CONFIG.ready_pose.array(), CONFIG.park_pose.array()
SPEED, ACCELERATION = CONFIG.gate.max_velocity.array(), CONFIG.gate.max_acceleration.array()


def lost(joint: int) -> ServoError:
    return ServoError(f"{JOINTS[joint]} is silent", servo_id=joint + 1, joint=JOINTS[joint])


class Wave:
    """A source that moves the pan to and fro, and can be told to fail."""

    def __init__(self, args: dict[str, Any]) -> None:
        self.calls = 0
        self.answer: Callable[[FloatArray], Any] = lambda target: target
        self.chunk_age_ticks = 3
        self.done = False
        self.closed = False

    def target(self, tick: int, state: ArmState) -> FloatArray | None:
        self.calls += 1
        target = READY.copy()
        target[0] = 40.0 * np.sin(self.calls * DT_S * 2.0)
        answer: FloatArray | None = self.answer(target)
        return answer

    def close(self) -> None:
        self.closed = True


class Rig:
    """A controller with everything by hand."""

    def __init__(self, *, torque: bool = False, mailbox: Mailbox | None = None, reopen: Any = None) -> None:
        self.clock = HandClock()
        self.arm = ScriptedArm(self.clock, torque=torque)
        self.records: list[Any] = []
        self.statuses: list[dict[str, Any]] = []
        self.wave: Wave | None = None
        self.controller = Controller(
            CONFIG,
            self.arm,
            clearance=unlimited,
            tool_position_m=lambda pose: pose[:3],
            sources={"wave": self.make_wave, "broken": self.make_broken},
            clock=self.clock,
            commands=mailbox,
            telemetry=lambda record: self.records.append(record.copy()),
            status=lambda text: self.statuses.append(json.loads(text)),
            heartbeat_timeout_s=2.0,
            reopen=reopen,
        )
        self.controller.adopt()

    def make_wave(self, args: dict[str, Any]) -> Wave:
        self.wave = Wave(args)
        return self.wave

    @staticmethod
    def make_broken(args: dict[str, Any]) -> Wave:
        raise CommandError("no chunks here", code="x")

    def ticks(self, count: int, beat: bool = True) -> None:
        for _ in range(count):
            if beat:
                self.ask(op="heartbeat")
            self.clock.time_s += DT_S
            self.controller.tick()

    def until(self, mode: str, at_most: int = 1200) -> int:
        for count in range(at_most):
            if self.mode == mode:
                return count
            self.ticks(1)
        raise AssertionError(f"still {self.mode} ({self.reason}), not {mode}")

    def ask(self, **command: Any) -> dict[str, Any]:
        return self.controller.command(command)

    def run(self, run_id: int = 1, source: str = "wave", longest_s: float = 60.0) -> dict[str, Any]:
        return self.ask(op="run", run_id=run_id, source=source, args={}, max_duration_s=longest_s)

    def go(self, to: str) -> Rig:
        """Bring a new arm into a mode."""
        if to in ("starting", "ready", "running", "parking", "hold"):
            assert self.ask(op="start") == {"ok": True}
            self.ticks(5)
        if to in ("ready", "running"):
            self.until("ready")
        if to == "running":
            assert self.run() == {"ok": True}
            self.ticks(60)
        if to in ("parking", "hold"):
            assert self.ask(op="stop", level={"parking": "park"}.get(to, to)) == {"ok": True}
            self.ticks(10)
        if to == "fault":
            self.arm.voltage_v[:] = 3.0
            self.ticks(60)
        assert self.mode == to
        return self

    @property
    def mode(self) -> str:
        return self.controller.modes.mode

    @property
    def reason(self) -> str:
        return self.controller.modes.reason

    @property
    def faults(self) -> dict[str, Any]:
        return {fault.finding.code: fault for fault in self.controller.faults}

    def check_smooth(self) -> None:
        """No goal that was ever written is faster or jerkier than allowed."""
        if len(self.arm.goals) < 3:
            return
        velocity = np.diff(np.array(self.arm.goals), axis=0) / DT_S
        assert (np.abs(velocity) <= SPEED + 1e-6).all()
        assert (np.abs(np.diff(velocity, axis=0)) / DT_S <= ACCELERATION + 1e-3).all()
