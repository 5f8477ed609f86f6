"""The policy worker: the newest observation to a chunk, as often as there is something new to see."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from inference.history import ObservationHistory
from inference.manifest import Manifest
from inference.runtime import Latency
from inference.source import ChunkMessage, pack_chunk, pack_pause
from robot.errors import CommandError, So101Error
from robot.mailbox import Mailbox, from_json, to_json
from robot.seams import Clock, Float32Array, Frame, Observation
from robot.telemetry import MODES, Record, person_drives

FRAME_LIMIT_S = 0.2
"""A picture older than this is not what the arm is in front of: six frames at 30 per second. The arm waits
where it is until a newer one comes.
"""
LOST_S = 0.5
"""A picture older than this means that the camera is gone, and the run is over. Between the two lies what a
busy machine does to pictures now and then.
"""
STATE_LIMIT_S = 0.1
"""Age of the newest telemetry beyond which the controller is taken for gone."""
ORPHAN_S = 2.0
"""A run that the controller has not been executing for so long is given up: whoever began it has died."""
PERSON_DRIVES = "a person drives; the policy goes on when it is handed back"
MAX_OFFSET_M = 2.0
"""No pickup point of this arm is further from its base in either coordinate."""


class TimedPolicy(Protocol):
    """A Policy that says how long it takes."""

    def chunk(self, observation: Observation) -> Float32Array:
        """See Policy."""

    def latency(self) -> Latency:
        """Latency of the last runs."""


@dataclass(frozen=True)
class Trouble:
    """Why a camera's pictures must not be acted on."""

    code: str
    message: str


@dataclass(frozen=True)
class Eyes:
    """Where the worker looks.

    Attributes:
        record: newest telemetry record, ``None`` without controller.
        frame: newest picture of a camera, ``None`` without one.
        trouble: what the camera process knows against a camera's pictures.
    """

    record: Callable[[], Record | None]
    frame: Callable[[str], Frame | None]
    trouble: Callable[[str], Trouble | None] = lambda camera: None


@dataclass(frozen=True)
class _Run:
    run_id: int
    pickup_xy_m: Float32Array


class Worker:
    """State and one step of the policy worker; the process around it only calls ``step``.

    Args:
        policy: the loaded policy.
        manifest: of its bundle.
        eyes: telemetry and pictures.
        send: takes each chunk's datagram; raises CommandError where nobody takes it.
        clock: monotonic time, the one in which frames and telemetry are stamped.
        control_hz: control ticks per second.
        hold: tells the controller to hold; raises CommandError where it does not listen.
        about: more keys of the status, for instance the bundle's name and provider.
    """

    def __init__(
        self,
        policy: TimedPolicy,
        manifest: Manifest,
        eyes: Eyes,
        send: Callable[[bytes], None],
        clock: Clock,
        control_hz: float,
        about: Mapping[str, Any] | None = None,
        hold: Callable[[], None] = lambda: None,
    ) -> None:
        self._policy = policy
        self._manifest = manifest
        self._eyes = eyes
        self._send = send
        self._clock = clock
        self._about = dict(about or {})
        self._hold = hold
        self._history = ObservationHistory.at_rate(manifest.observation_steps, manifest.fps, control_hz)
        self._run: _Run | None = None
        self._tick = -1
        self._next_s = 0.0
        self._executed_s = 0.0
        self._waiting: str | None = None
        self._error: str | None = None
        self._blind: Trouble | None = None
        self._blind_told = self._paused = False
        self.chunks = 0
        """Chunks sent since start."""
        self.undelivered = 0
        """Chunks that nobody took."""

    # -- commands ------------------------------------------------------------------------------------------

    def serve(self, mailbox: Mailbox) -> None:
        """Answer the commands that have come."""
        for payload, address in mailbox.drain():
            mailbox.reply(address, to_json(self.command(payload)))

    def command(self, payload: bytes) -> dict[str, Any]:
        """Carry out one command: ``begin`` (``run_id``, ``pickup_xy_m``) or ``end``; the answer as JSON."""
        try:
            command = from_json(payload)
            op = command.pop("op", None)
            if op == "begin":
                self._begin(command)
            elif op == "end":
                self._run = None
            else:
                raise CommandError(f"unknown op {op!r}: use begin or end", code="unknown_op")
        except CommandError as error:
            return {"ok": False, "code": error.code, "message": str(error)}
        return {"ok": True}

    def _begin(self, arguments: dict[str, Any]) -> None:
        run_id, pickup = arguments.pop("run_id", None), arguments.pop("pickup_xy_m", None)
        if arguments:
            raise CommandError(f"begin does not take {', '.join(sorted(arguments))}", code="bad_argument")
        if not isinstance(run_id, int) or isinstance(run_id, bool) or run_id < 0:
            raise CommandError(f"begin needs run_id, a whole number, got {run_id!r}", code="bad_argument")
        numbers = isinstance(pickup, list) and len(pickup) == 2
        if not numbers or not all(isinstance(v, int | float) and abs(v) <= MAX_OFFSET_M for v in pickup):
            raise CommandError(
                f"begin needs pickup_xy_m, [x, y] in metres, got {pickup!r}", code="bad_argument"
            )
        trouble = self._trouble()
        if trouble is not None:
            raise CommandError(trouble.message, code=trouble.code)
        self._run = _Run(run_id, np.array(pickup, np.float32))
        self._history.forget()
        self._tick, self._next_s, self._executed_s = -1, 0.0, self._clock.now_s()
        self._waiting = self._error = self._blind = None
        self._blind_told = self._paused = False

    # -- work ----------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Infer once if there is a run and something new to see; whether a chunk was sent.

        At most one chunk per policy step: more would only repeat the same pictures. A camera that cannot be
        trusted ends the run, in two steps: the arm holds and the status says why, then the controller hears.
        While a person drives the run nothing is inferred, and no camera ends it.
        """
        run, now_s = self._run, self._clock.now_s()
        if run is None or self._error is not None:
            return False
        if self._yields(run, now_s):
            return False
        if self._blind is not None:
            self._tell_blind(run)
            self._leave_orphan(now_s)
            return False
        trouble = self._trouble()
        if trouble is not None:
            self._go_blind(run, trouble)
            return False
        if now_s < self._next_s:
            return False
        observation = self._observe(run, now_s)
        if observation is None:
            self._leave_orphan(now_s)
            return False
        self._tick = observation.tick
        self._next_s = now_s + 1.0 / self._manifest.fps
        try:
            actions = self._policy.chunk(observation)
        except So101Error as error:
            self._error = str(error)
            return False
        try:
            self._send(pack_chunk(ChunkMessage(run.run_id, observation.tick, self._manifest.fps, actions)))
        except CommandError:
            self.undelivered += 1  # the run has ended on the controller's side; "end" is on its way
            return False
        self.chunks += 1
        self._paused = False
        return True

    def _yields(self, run: _Run, now_s: float) -> bool:
        """Whether a person drives the run; the policy then begins anew with what it sees afterwards."""
        record = self._eyes.record()
        if record is None or now_s - float(record["time_s"]) > STATE_LIMIT_S:
            return False
        if not (_goes_on(record, run) and person_drives(record)):
            return False
        self._executed_s, self._waiting, self._blind = now_s, PERSON_DRIVES, None
        self._blind_told = self._paused = False
        return True

    def _leave_orphan(self, now_s: float) -> None:
        if now_s - self._executed_s > ORPHAN_S:
            self._run = None

    def _trouble(self) -> Trouble | None:
        """What is known against one of the policy's cameras."""
        found = (self._eyes.trouble(camera.name) for camera in self._manifest.cameras)
        return next((trouble for trouble in found if trouble is not None), None)

    def _go_blind(self, run: _Run, trouble: Trouble) -> None:
        self._blind, self._waiting = trouble, trouble.message
        self._pause(run)

    def _tell_blind(self, run: _Run) -> None:
        """By now the status says why, so that whoever sees the arm stop also sees the reason."""
        if not self._blind_told and _executes(self._eyes.record(), run):
            self._blind_told = True
            with contextlib.suppress(CommandError):  # then the source's silence ends the run
                self._hold()

    def _pause(self, run: _Run) -> None:
        """Let the arm hold where it is; the next chunk goes on."""
        if not self._paused:
            with contextlib.suppress(CommandError):  # nobody executes the run
                self._send(pack_pause(run.run_id, max(self._tick, 0)))
                self._paused = True

    def _observe(self, run: _Run, now_s: float) -> Observation | None:
        """The newest observation; ``None`` where nothing is new or something is stale, which status says."""
        record = self._eyes.record()
        if record is None or now_s - float(record["time_s"]) > STATE_LIMIT_S:
            self._waiting = "no telemetry: the controller is not running"
            return None
        if not _executes(record, run):
            self._waiting = "the controller is not executing this run"
            return None
        self._executed_s = now_s
        if int(record["tick"]) <= self._tick:
            return None
        if int(record["state_age_ticks"]) != 0:
            self._waiting = "the arm was not read in this tick"
            return None
        images = {}
        for camera in self._manifest.cameras:
            frame = self._eyes.frame(camera.name)
            age_s = math.inf if frame is None else now_s - frame.time_s
            if frame is None or age_s > FRAME_LIMIT_S:
                self._wait_for(camera.name, age_s, run)
                return None
            images[camera.name] = frame.image
        self._waiting = None
        state = np.asarray(record["position"], np.float32)
        seen = Observation(int(record["tick"]), state, run.pickup_xy_m, images)
        if int(record["chunk_age_ticks"]) < 0:  # nothing of the policy's is being done: it has not begun
            self._history.forget()
        return self._history.add(seen)

    def _wait_for(self, camera: str, age_s: float, run: _Run) -> None:
        """No picture, or none that is new enough: the arm waits, and soon the run is over."""
        if age_s == math.inf:
            self._waiting = f"no picture from camera {camera}"
        else:
            self._waiting = f"camera {camera} is stale: its newest picture is {age_s:.1f} s old"
        self._pause(run)
        if age_s > LOST_S:
            self._go_blind(run, Trouble("camera_stale", self._waiting))

    def status(self) -> dict[str, Any]:
        """State, chunks and latency as JSON; ``waiting`` says why a run gets no chunks."""
        latency = self._policy.latency()
        state = "error" if self._error is not None else "idle" if self._run is None else "running"
        return {
            **self._about,
            "state": state,
            "error": self._error,
            "waiting": self._waiting if self._run is not None else None,
            "run_id": None if self._run is None else self._run.run_id,
            "blind": None if self._blind is None or self._run is None else asdict(self._blind),
            "cameras": [camera.name for camera in self._manifest.cameras],
            "policy_type": self._manifest.policy_type,
            "action_space": self._manifest.action_space,
            "conditioned": bool(self._manifest.conditioning),
            "task": self._manifest.task,
            "start_pose": self._manifest.start_pose,
            "chunk_size": self._manifest.chunk_size,
            "fps": self._manifest.fps,
            "latency_ms": {"median": latency.median_ms, "p99": latency.p99_ms},
            "chunks": self.chunks,
            "undelivered": self.undelivered,
        }


def _goes_on(record: Record, run: _Run) -> bool:
    """Whether the controller is in a run, whoever drives it."""
    return MODES[int(record["mode"])] == "running" and int(record["run_id"]) == run.run_id


def _executes(record: Record | None, run: _Run) -> bool:
    """Whether the controller is executing a run with the policy."""
    return record is not None and _goes_on(record, run) and not person_drives(record)
