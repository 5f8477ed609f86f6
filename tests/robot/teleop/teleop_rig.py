"""A teleop source on a gate, ticked by hand: intents go through the real socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robot.model import load_arm
from robot.safety.clearance import ArmClearance
from robot.safety.gate import Gate, GateResult
from robot.seams import FloatArray
from robot.teleop.intents import TeleopClient
from robot.teleop.jog import HandJog
from robot.teleop.source import TeleopSource

from controller_rig import CONFIG, DT_S, READY  # isort: skip
from scripted_arm import HandClock, ScriptedArm  # isort: skip

LOW, HIGH = CONFIG.gate.min_position.array(), CONFIG.gate.max_position.array()


class TeleopRig:
    """What the controller would make of a person's intents, without servos."""

    def __init__(self, folder: Path) -> None:
        self.clock = HandClock()
        self.socket = folder / "teleop.sock"
        self.state = ScriptedArm(self.clock, position=READY.copy()).read()
        self.clearance = ArmClearance(load_arm(), CONFIG.gate)
        self.gate = Gate(CONFIG.gate, DT_S, self.clearance)
        self.jog = HandJog(load_arm(), self.clearance, LOW, HIGH, DT_S)
        self.source = TeleopSource(
            self.socket, self.jog, lambda: self.gate.motion, LOW, HIGH, DT_S, self.clock
        )
        self.client = TeleopClient(self.socket)
        self.result: GateResult | None = None
        self.goals: list[FloatArray] = []
        self.put(READY)

    def put(self, pose: FloatArray) -> None:
        """Begin from rest in another pose."""
        self.send(kind="halt")
        self.source.target(0, self.state)
        self.gate.reset(pose)
        self.goals = [pose.copy()]

    def send(self, **intent: Any) -> None:
        self.client.send(intent)

    def ticks(self, count: int, **intent: Any) -> None:
        """So many ticks, with the same intent in each."""
        for _ in range(count):
            if intent:
                self.send(**intent)
            self.clock.time_s += DT_S
            self.result = self.gate.check(self.source.target(0, self.state))
            self.goals.append(self.gate.position)

    @property
    def tool_m(self) -> FloatArray:
        return self.jog.tool_m(self.gate.position)

    @property
    def limited(self) -> str | None:
        return self.source.teleop.limited

    def ways_m(self) -> FloatArray:
        """Tool points of all goals, shape (n, 3)."""
        return np.array([self.jog.tool_m(goal) for goal in self.goals])
