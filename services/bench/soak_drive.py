"""What the arm does during a soak: one working day a minute, through the controller's own commands.

Off, start, a run that is fed with chunks as a policy worker would, back to ready, park, off again.
"""

from __future__ import annotations

import time

import numpy as np

from inference.source import ChunkMessage, pack_chunk
from robot.errors import CommandError
from robot.seams import Float32Array, FloatArray
from robot.telemetry import Record
from services.bench.soak_rig import SoakRig

FPS = 30.0
CHUNK_STEPS = 40
CHUNK_EVERY_S = 0.25
RUN_S = 40.0
REST_S = 2.0
BLEND_S = 3.0
HEARTBEAT_S = 0.5
PATIENCE_S = 20.0
"""Longest that the arm may take to a pose before that counts as a failure."""

CENTRE = np.array([0.0, -75.0, 35.0, 55.0, 0.0, 40.0])
SWING = np.array([45.0, 15.0, 20.0, 20.0, 60.0, 30.0])
FREQUENCY_HZ = np.array([0.11, 0.17, 0.13, 0.19, 0.07, 0.23])


def pose_at(elapsed_s: FloatArray, ready: FloatArray) -> FloatArray:
    """All joints swing at once, well above the table; from the ready pose in the first seconds.

    Args:
        elapsed_s: time since the run began, shape (n,).
        ready: the ready pose, user units, shape (6,).

    Returns:
        User units, shape (n, 6).
    """
    phase = 2.0 * np.pi * FREQUENCY_HZ * elapsed_s[:, None]
    share = np.clip(elapsed_s / BLEND_S, 0.0, 1.0)[:, None]
    share = share * share * (3.0 - 2.0 * share)
    pose: FloatArray = (1.0 - share) * ready + share * (CENTRE + SWING * np.sin(phase))
    return pose


class Day:
    """The commander: looks at the mode and asks for what comes next.

    Args:
        rig: what is commanded.
        ready: the ready pose, user units.
        control_hz: ticks per second.

    Attributes:
        days: parks that were reached.
        refusals: commands that were refused, with the reason.
    """

    def __init__(self, rig: SoakRig, ready: FloatArray, control_hz: int) -> None:
        self._rig, self._ready, self._hz = rig, ready, control_hz
        self._wanted = "ready"
        self._run_id = 0
        self._run_tick = 0
        self._since_s = 0.0
        self._heartbeat_s = 0.0
        self._chunk_s = 0.0
        self.days = 0
        self.refusals: list[str] = []

    def step(self, mode: str, record: Record, now_s: float) -> None:
        """Do what is due.

        Args:
            mode: of the controller.
            record: its newest telemetry.
            now_s: monotonic time.
        """
        if now_s - self._heartbeat_s >= HEARTBEAT_S:
            self._heartbeat_s = now_s
            self._ask("heartbeat")
        rested = now_s - self._since_s >= REST_S
        match (mode, self._wanted):
            case ("off" | "hold", "ready") if rested:
                self._go(now_s, "ready", "start")
            case ("ready", "ready") if rested:
                self._run_id += 1
                self._run_tick = int(record["tick"])
                self._go(
                    now_s,
                    "running",
                    "run",
                    run_id=self._run_id,
                    source="policy",
                    args={"run_id": self._run_id},
                    max_duration_s=2.0 * RUN_S,
                )
            case ("running", "running"):
                self._feed(record, now_s)
                if now_s - self._since_s >= RUN_S:
                    self._go(now_s, "ready again", "end_run", run_id=self._run_id)
            case ("ready", "ready again") if rested:
                self._go(now_s, "off", "stop", level="park")
            case ("off", "off"):
                self.days += 1
                self._wanted, self._since_s = "ready", now_s
            case _ if now_s - self._since_s > PATIENCE_S:
                self.refusals.append(f"{mode} instead of {self._wanted} for {PATIENCE_S:.0f} s")
                self._wanted, self._since_s = "ready", now_s

    def begin_anew(self) -> None:
        """A fault has stopped the arm: from its clearing on, another day."""
        self._wanted = "ready"
        self._since_s = time.monotonic()

    def _go(self, now_s: float, wanted: str, op: str, **values: object) -> None:
        self._since_s = now_s
        if self._ask(op, **values):
            self._wanted = wanted

    def _ask(self, op: str, **values: object) -> bool:
        refusal = self._rig.ask(op, **values)
        if refusal is not None:
            self.refusals.append(f"{op}: {refusal}")
        return refusal is None

    def _feed(self, record: Record, now_s: float) -> None:
        if now_s - self._chunk_s < CHUNK_EVERY_S:
            return
        self._chunk_s = now_s
        tick = int(record["tick"])
        elapsed_s = (tick - self._run_tick) / self._hz + np.arange(CHUNK_STEPS) / FPS
        actions: Float32Array = pose_at(elapsed_s, self._ready).astype(np.float32)
        try:
            self._rig.chunks.send(pack_chunk(ChunkMessage(self._run_id, tick, FPS, actions)))
        except CommandError as error:
            self.refusals.append(f"chunk: {error}")
