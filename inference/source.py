"""The controller's side of a policy: chunks come as datagrams, targets go to the gate.

A datagram is a header (``HEADER``: magic, version, run, tick of the observation, steps, numbers in a step,
steps per second) and steps x numbers float32, little endian, in the units of the run's action space. No steps
mean: forget what came before, the arm is to hold until the next chunk.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from inference.action_space import ACTION_WIDTHS, ActionSpace
from inference.ensembler import ExecutionConfig, make_executor
from inference.follower import ChunkFollower, executor_width
from inference.tool_space import DrivenArm
from robot.config import JointValues
from robot.errors import CommandError, ConfigError
from robot.joints import N_JOINTS
from robot.mailbox import Mailbox
from robot.seams import ArmState, Float32Array, FloatArray

log = logging.getLogger(__name__)

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
    """(K, width of the action space), user units or metres; may hold what is not finite: such a chunk is
    dropped whole."""


def pack_chunk(message: ChunkMessage) -> bytes:
    """The datagram of a chunk."""
    steps, width = message.actions.shape
    header = HEADER.pack(MAGIC, VERSION, message.run_id, message.tick, steps, width, message.fps)
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
    magic, version, run_id, tick, steps, width, fps = HEADER.unpack_from(payload)
    if magic != MAGIC or version != VERSION:
        raise malformed(f"magic {magic!r} version {version}, expected {MAGIC!r} version {VERSION}")
    if width not in ACTION_WIDTHS.values() or not 0 <= steps <= MAX_STEPS:
        raise malformed(f"{steps} steps of {width} numbers")
    if not (np.isfinite(fps) and 0.1 <= fps <= 1000.0):
        raise malformed(f"{fps} steps per second")
    if len(payload) != HEADER.size + 4 * steps * width:
        raise malformed(f"{len(payload)} bytes for {steps} steps of {width} numbers")
    actions = np.frombuffer(payload, "<f4", offset=HEADER.size).reshape(steps, width).astype(np.float32)
    return ChunkMessage(run_id, tick, fps, actions)


class RunArguments(ExecutionConfig):
    """What the source of a policy is told with a run."""

    run_id: int = Field(ge=0, strict=True)
    """Whose chunks are taken."""
    action_space: ActionSpace = "joint_position"
    start_pose: JointValues | None = None
    """Where the arm goes before it follows chunks, and how the hand is held while these move the tool."""
    resume: bool = False
    """The run has been going and is handed back: the arm goes on from where it is."""


@dataclass
class ChunkCounters:
    """What became of the datagrams of a run."""

    taken: int = 0
    dropped: int = 0
    """Not finite, over when they came, stamped with a tick that has not been, or seen before the arm was at
    its start pose."""
    foreign: int = 0
    """Of another run, rate or action space, or no chunks at all."""


class PolicySource:
    """A Source that executes the chunks which a policy worker sends.

    Attributes:
        counters: what became of the datagrams.
    """

    def __init__(self, socket: Path, arguments: dict[str, Any], arm: DrivenArm) -> None:
        """Bind the socket.

        Args:
            socket: where chunks come.
            arguments: the fields of ``RunArguments``.
            arm: what is driven.

        Raises:
            ConfigError: an argument is missing, unknown or of the wrong type.
            CommandError: the socket is in use.
        """
        try:
            run = RunArguments.model_validate(arguments)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
            raise ConfigError(f"run of the policy: {problems}") from error
        self._run = run
        self._follower = ChunkFollower(
            arm,
            run.action_space,
            lambda fps: make_executor(run, arm.control_hz, fps, executor_width(run.action_space)),
            start_pose=None if run.start_pose is None else run.start_pose.array(),
            resume=run.resume,
        )
        self._tick: int | None = None
        self.counters = ChunkCounters()
        self._mailbox = Mailbox(socket)

    def target(self, tick: int, state: ArmState) -> FloatArray | None:
        """See Source. Takes what has come, never waits.

        Raises:
            ConfigError: the tool cannot be led from the pose where the run begins.
            SourceError: the arm is kept from its start pose, or the tool is to move as no arm can.
        """
        self._tick = tick
        self._follower.begin_tick(tick)
        for payload, _ in self._mailbox.drain(DRAIN_LIMIT):
            self._take(payload, tick)
        return self._follower.target(tick, state)

    @property
    def chunk_age_ticks(self) -> int:
        """Ticks since the observation of the newest chunk; -1 without one."""
        newest = self._follower.newest
        return -1 if newest is None or self._tick is None else self._tick - newest

    def close(self) -> None:
        """Let go of the socket."""
        self._mailbox.close()
        if self._follower.unreached:
            log.warning(
                "run %d: in %d ticks the tool could not be where the policy wanted it",
                self._run.run_id,
                self._follower.unreached,
            )

    def _take(self, payload: bytes, now: int) -> None:
        try:
            message = unpack_chunk(payload)
        except CommandError:
            self.counters.foreign += 1
            return
        follower, run = self._follower, self._run
        if message.run_id != run.run_id:
            self.counters.foreign += 1
        elif not len(message.actions):
            follower.pause()
        elif message.actions.shape[1] != ACTION_WIDTHS[run.action_space] or (
            follower.fps is not None and follower.fps != message.fps
        ):
            self.counters.foreign += 1
        elif follower.take(message.tick, now, message.actions, message.fps):
            self.counters.taken += 1
        else:
            self.counters.dropped += 1
