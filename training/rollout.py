"""A policy on the lockstep twin: the same controller and the same execution of chunks as on the arm."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from inference.ensembler import Executor, resample_chunk
from robot.controller import Controller
from robot.errors import TwinError
from robot.model import load_arm
from robot.safety.clearance import ArmClearance
from robot.seams import ArmState, Float32Array, FloatArray, Observation, Policy, Source
from robot.trajectory import Motion
from training.stage import Stage, enlarge


class InlinePolicySource:
    """A Source that asks the policy itself, with the delays that the live gait has.

    Args:
        stage: whose pictures the policy sees.
        policy: observation to chunk.
        executor: how chunks become targets.
        pickup_xy_m: the coordinates that the policy is told, shape (2,).
        fps: rate of the chunk's steps.
        latency_ticks: control ticks between an observation and the arrival of its chunk.
        camera_px: (height, width) that the policy wants; pictures of another size are enlarged.
    """

    def __init__(
        self,
        stage: Stage,
        policy: Policy,
        executor: Executor,
        pickup_xy_m: Float32Array,
        *,
        fps: float,
        latency_ticks: int = 2,
        camera_px: tuple[int, int] | None = None,
    ) -> None:
        self.stage, self.policy, self.executor = stage, policy, executor
        self.pickup_xy_m = pickup_xy_m
        self.fps, self.latency_ticks = fps, latency_ticks
        self.period_ticks = max(1, round(stage.robot.control_hz / fps))
        self._camera_px = camera_px or (stage.height_px, stage.width_px)
        self._as_is = self._camera_px == (stage.height_px, stage.width_px)
        self._due: deque[tuple[int, int, FloatArray]] = deque()

    def target(self, tick: int, state: ArmState) -> FloatArray | None:
        """See Source."""
        if tick % self.period_ticks == 0 and self.executor.wants(tick, self.latency_ticks):
            images = self.stage.images()
            if not self._as_is:
                images = {name: enlarge(image, *self._camera_px) for name, image in images.items()}
            observation = Observation(tick, state.position.astype(np.float32), self.pickup_xy_m, images)
            chunk = resample_chunk(self.policy.chunk(observation), self.fps, self.stage.robot.control_hz)
            self._due.append((tick + self.latency_ticks, tick, chunk))
        while self._due and self._due[0][0] <= tick:
            _, seen, chunk = self._due.popleft()
            self.executor.add(seen, tick, chunk)
        return self.executor.target(tick)


def drive(
    stage: Stage,
    source: Source,
    *,
    limit_s: float,
    stop: Callable[[], bool],
    on_tick: Callable[[int, ArmState, FloatArray], None] | None = None,
) -> Motion:
    """Let a source drive through the controller until ``stop``, the time limit or a fault.

    Args:
        stage: the twin, energised.
        source: what drives.
        limit_s: at most this long.
        stop: asked every tick.
        on_tick: given the tick, what was read, and what is commanded after it.

    Returns:
        How the command moved at the end.
    """
    controller = Controller(
        stage.robot,
        stage.arm,
        clearance=ArmClearance(load_arm(), stage.robot.gate),
        sources={"policy": lambda args: source},
        clock=stage.clock,
    )
    controller.adopt(ready=True)  # the trial begins where the stage has put the arm
    answer = controller.command(
        {"op": "run", "run_id": 1, "source": "policy", "args": {}, "max_duration_s": limit_s}
    )
    if not answer["ok"]:
        raise TwinError(f"the rollout did not start: {answer['message']}")
    before = controller.gate.position
    while controller.modes.mode == "running" and not stop():
        before = controller.gate.position
        controller.tick()
        if on_tick is not None:
            on_tick(controller.tick_index, stage.arm.read(), controller.gate.position)
        stage.advance()
    position = controller.gate.position
    return Motion(position, (position - before) / stage.robot.dt_s)
