"""An arm whose faults a test writes down, and a clock turned by hand: where the physical world ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from robot.errors import BusError, ServoError
from robot.joints import JOINTS
from robot.seams import ArmState, FloatArray


@dataclass
class HandClock:
    """A clock that moves when it is told to, or when somebody sleeps."""

    time_s: float = 100.0

    def now_s(self) -> float:
        return self.time_s

    def sleep_until_s(self, deadline_s: float) -> None:
        self.time_s = max(self.time_s, deadline_s)


@dataclass
class ScriptedArm:
    """Joints that are at their goal one tick later, unless a test says otherwise."""

    clock: HandClock
    position: FloatArray = field(default_factory=lambda: np.array([5.0, -50.0, 40.0, 30.0, 0.0, 20.0]))
    torque: bool = False
    goals: list[FloatArray] = field(default_factory=list)
    """Every goal that was written."""
    held: FloatArray | None = None
    """The goals that the servos have heard since they were energised."""
    calls: list[str] = field(default_factory=list)
    temperature_c: FloatArray = field(default_factory=lambda: np.full(6, 30.0))
    voltage_v: FloatArray = field(default_factory=lambda: np.full(6, 7.4))
    status: np.ndarray = field(default_factory=lambda: np.zeros(6, np.uint8))
    stuck: dict[int, float] = field(default_factory=dict)
    """Joint -> position that it does not leave."""
    read_error: BusError | None = None
    """A servo that it names is silent, and deaf: it stays where it is. Otherwise nobody answers."""
    write_error: BusError | None = None
    enable_error: BusError | None = None
    limp: bool = False
    on_read: Callable[[], None] = lambda: None

    def read(self) -> ArmState:
        self.on_read()
        error, silent = self.read_error, self._silent()
        if error is not None and silent == JOINTS:
            raise error
        if self.torque and self.held is not None:
            self.position = self.held.copy()
        for joint, value in self.stuck.items():
            self.position[joint] = value
        zeros = np.zeros(6)
        state = ArmState(
            self.clock.now_s(), self.position.copy(), zeros, zeros, zeros,
            self.voltage_v.copy(), self.temperature_c.copy(), self.status.copy(),
        )  # fmt: skip
        if isinstance(error, ServoError):
            error.seen, error.missing = state, silent
            raise error
        return state

    def _silent(self) -> tuple[str, ...]:
        error = self.read_error
        if isinstance(error, ServoError) and error.joint is not None:
            return error.missing or (error.joint,)
        return () if error is None else JOINTS

    def write(self, goal: FloatArray) -> None:
        if self.write_error is not None:
            raise self.write_error
        assert goal.shape == (6,)
        assert np.isfinite(goal).all()
        self.goals.append(goal.copy())
        if self.held is not None:
            self.held = np.where(np.isin(JOINTS, self._silent()), self.held, goal)

    def enable(self) -> FloatArray:
        self.calls.append("enable")
        if self.enable_error is not None:
            raise self.enable_error
        self.goals.append(self.position.copy())
        self.held = self.position.copy()
        self.torque, self.limp = True, False
        return self.position.copy()

    def release(self) -> None:
        self.calls.append("release")
        self.torque = False
        if self.read_error is not None:
            raise self.read_error

    def torque_enabled(self) -> bool:
        if self.read_error is not None:
            raise self.read_error
        return self.torque and not self.limp

    def limp_joints(self) -> tuple[str, ...]:
        if self.torque_enabled():
            return ()
        return ("elbow_flex",) if self.limp else JOINTS

    def close(self) -> None:
        self.calls.append("close")
