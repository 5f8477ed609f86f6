"""Supervision of the twin's arm while it moves as fast as the gate lets it."""

from __future__ import annotations

from typing import Any

import pytest

from robot.config import load_robot
from robot.controller import Controller
from robot.safety.clearance import unlimited
from robot.seams import ArmState, FloatArray
from robot.twin.lockstep import LockstepArm, LockstepClock
from robot.twin.world import World

CONFIG = load_robot("twin")[0]
READY = CONFIG.ready_pose.array()


class Sweep:
    """To one side, and from there to the other at a steady speed, where it stops."""

    def __init__(self, speed_dps: float) -> None:
        self._speed_dps = speed_dps
        self._calls = 0

    def target(self, tick: int, state: ArmState) -> FloatArray:
        self._calls += 1
        target = READY.copy()
        target[0] = min(-100.0 + self._speed_dps * max(0, self._calls - 90) * CONFIG.dt_s, 100.0)
        return target


@pytest.mark.parametrize("speed_dps", [150.0, float(CONFIG.gate.max_velocity.shoulder_pan)])
def test_sweep_at_a_speed_that_the_gate_allows_is_no_fault(speed_dps: float) -> None:
    world = World()
    clock = LockstepClock(world)
    sources: dict[str, Any] = {"sweep": lambda args: Sweep(speed_dps)}
    controller = Controller(CONFIG, LockstepArm(world), clearance=unlimited, sources=sources, clock=clock)
    controller.adopt()
    assert controller.command({"op": "start"}) == {"ok": True}

    def tick() -> None:
        clock.sleep_until_s(world.time_s + CONFIG.dt_s)
        controller.tick()

    while controller.modes.mode == "starting":
        tick()
    run = {"op": "run", "run_id": 1, "source": "sweep", "args": {}, "max_duration_s": 60.0}
    assert controller.command(run) == {"ok": True}
    for _ in range(300):
        tick()
        assert not list(controller.faults)
    assert controller.modes.mode == "running"
    assert controller.gate.position[0] == pytest.approx(100.0)
