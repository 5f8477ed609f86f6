"""The controller's side of a policy: chunks come as datagrams, targets go to the gate.

A datagram is a header (``HEADER``: magic, version, run, tick of the observation, steps, joints, steps per
second) and steps x joints float32, little endian, user units. No steps mean: forget what came before, the arm
is to hold until the next chunk.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from inference.ensembler import ExecutionConfig, Executor, make_executor, resample_chunk
from robot.errors import CommandError, ConfigError
from robot.joints import N_JOINTS
from robot.mailbox import Mailbox
from robot.seams import ArmState, Float32Array, FloatArray

HEADER = struct.Struct("<4sIQqIId")
MAGIC = b"S1CK"
VERSION = 1
DRAIN_LIMIT = 8
"""Datagrams taken per tick: the worker sends at most one per policy step, so more than one is a backlog."""
MAX_STEPS = 1000


@dataclass(frozen=True)
class ChunkMessage:
    """A chunk on its way from the worker to the controller."""

    run_id: int
    tick: int
    """Control tick of the observation."""
    fps: float
    """Steps per second."""
    actions: Float32Array
    """(K, 6), user units; may hold what is not finite, which the executor drops."""


def pack_chunk(message: ChunkMessage) -> bytes:
    """The datagram of a chunk."""
    steps, joints = message.actions.shape
    header = HEADER.pack(MAGIC, VERSION, message.run_id, message.tick, steps, joints, message.fps)
    return header + np.ascontiguousarray(message.actions, dtype="<f4").tobytes()


def pack_pause(run_id: int, tick: int) -> bytes:
    """The datagram that makes the arm hold until the next chunk."""
    return pack_chunk(ChunkMessage(run_id, tick, 1.0, np.zeros((0, N_JOINTS), np.float32)))


def unpack_chunk(payload: bytes) -> ChunkMessage:
    """Inverse of ``pack_chunk``.

    Raises:
        CommandError: (``malformed``) it is not a chunk of this version; the message says why.
    """

    def malformed(why: str) -> CommandError:
        return CommandError(f"not a chunk: {why}", code="malformed")

    if len(payload) < HEADER.size:
        raise malformed(f"{len(payload)} bytes are less than a header")
    magic, version, run_id, tick, steps, joints, fps = HEADER.unpack_from(payload)
    if magic != MAGIC or version != VERSION:
        raise malformed(f"magic {magic!r} version {version}, expected {MAGIC!r} version {VERSION}")
    if joints != N_JOINTS or not 0 <= steps <= MAX_STEPS:
        raise malformed(f"{steps} steps of {joints} joints")
    if not (np.isfinite(fps) and 0.1 <= fps <= 1000.0):
        raise malformed(f"{fps} steps per second")
    if len(payload) != HEADER.size + 4 * steps * joints:
        raise malformed(f"{len(payload)} bytes for {steps} steps of {joints} joints")
    actions = np.frombuffer(payload, "<f4", offset=HEADER.size).reshape(steps, joints).astype(np.float32)
    return ChunkMessage(run_id, tick, fps, actions)


@dataclass
class ChunkCounters:
    """What became of the datagrams of a run."""

    taken: int = 0
    dropped: int = 0
    """Not finite, over when they came, or stamped with a tick that has not been."""
    foreign: int = 0
    """Of another run, or no chunks at all."""


class PolicySource:
    """A Source that executes the chunks which a policy worker sends.

    Attributes:
        counters: what became of the datagrams.
    """

    def __init__(self, socket: Path, arguments: dict[str, Any], *, control_hz: int) -> None:
        """Bind the socket.

        Args:
            socket: where chunks come.
            arguments: ``run_id``, whose chunks are taken, and any fields of ``ExecutionConfig``.
            control_hz: control ticks per second.

        Raises:
            ConfigError: an argument is missing, unknown or of the wrong type.
            CommandError: the socket is in use.
        """
        execution = dict(arguments)
        run_id = execution.pop("run_id", None)
        if not isinstance(run_id, int) or isinstance(run_id, bool) or run_id < 0:
            raise ConfigError(f"the policy source needs run_id, a whole number, got {run_id!r}")
        try:
            self._execution = ExecutionConfig.model_validate(execution)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
            raise ConfigError(f"execution of the policy: {problems}") from error
        self._run_id = run_id
        self._control_hz = control_hz
        self._executor: Executor | None = None
        self._fps = 0.0
        self._tick: int | None = None
        self.counters = ChunkCounters()
        self._mailbox = Mailbox(socket)

    def target(self, tick: int, state: ArmState) -> FloatArray | None:
        """See Source. Takes what has come, never waits."""
        self._tick = tick
        for payload, _ in self._mailbox.drain(DRAIN_LIMIT):
            self._take(payload, tick)
        return None if self._executor is None else self._executor.target(tick)

    @property
    def chunk_age_ticks(self) -> int:
        """Ticks since the observation of the newest chunk; -1 without one."""
        newest = None if self._executor is None else self._executor.newest
        return -1 if newest is None or self._tick is None else self._tick - newest

    def close(self) -> None:
        """Let go of the socket."""
        self._mailbox.close()

    def _take(self, payload: bytes, now: int) -> None:
        try:
            message = unpack_chunk(payload)
        except CommandError:
            self.counters.foreign += 1
            return
        pause = not len(message.actions)
        other_rate = self._executor is not None and message.fps != self._fps and not pause
        if message.run_id != self._run_id or other_rate:
            self.counters.foreign += 1
            return
        if pause:
            self._executor = None
            return
        if self._executor is None:
            self._fps = message.fps
            self._executor = make_executor(self._execution, self._control_hz, message.fps)
        # Nobody has seen the future: such a stamp comes from another clock and would stand in the way.
        taken = message.tick <= now and self._executor.add(
            message.tick, now, resample_chunk(message.actions, message.fps, self._control_hz)
        )
        if taken:
            self.counters.taken += 1
        else:
            self.counters.dropped += 1
