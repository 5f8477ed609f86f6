"""The seams of the house: what is above one does not know what is below it.

``Arm``, ``Camera``, ``Source``, ``Policy`` and ``Clock`` each have one implementation for the real
thing and one for the twin's lockstep gait or for tests; all are a few lines wide.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
ByteArray = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ArmState:
    """What six servos said in one read of their block 56..70. All arrays have shape (6,)."""

    time_s: float
    """Monotonic time at which the read was finished."""
    position: FloatArray
    """User units: degrees, gripper percent."""
    velocity: FloatArray
    """User units per second."""
    load_pct: FloatArray
    """Signed PWM duty in percent of full drive."""
    current_ma: FloatArray
    voltage_v: FloatArray
    temperature_c: FloatArray
    status: ByteArray
    """Error byte of each status packet: 1 voltage, 2 angle, 4 heat, 8 over-current, 32 overload."""


class Arm(Protocol):
    """Six joints that can be read and told where to go, in user units."""

    def read(self) -> ArmState:
        """Read all joints. Raises BusError; a ServoError names the joint that did not answer."""

    def write(self, goal: FloatArray) -> None:
        """Send one goal for every joint, user units, shape (6,). Must be finite."""

    def enable(self) -> FloatArray:
        """Energise without a snap: the present pose becomes the goal, then torque on. Returns that pose."""

    def release(self) -> None:
        """Torque off. The arm falls unless it is parked."""

    def torque_enabled(self) -> bool:
        """Whether every servo says that its torque is on (a servo that rebooted says no)."""

    def close(self) -> None:
        """Let go of the bus; torque stays as it is."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture: RGB uint8 (height, width, 3), monotonic capture time, counter that grows by one."""

    image: ByteArray
    time_s: float
    index: int


class Camera(Protocol):
    """A source of frames."""

    name: str

    def read(self) -> Frame:
        """Block for the next frame. Raises CameraError when the camera has stopped."""

    def close(self) -> None:
        """Let go of the device."""


class Source(Protocol):
    """Says where the arm should be at a tick. A policy, a teleoperator, a ramp or a replay."""

    def target(self, tick: int, state: ArmState) -> FloatArray | None:
        """Target in user units, shape (6,), or ``None`` for "nothing to say": the controller then holds."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a policy sees; one that looks back sees the state as (steps, 6) and pictures as (steps, ...)."""

    tick: int
    """Control tick at which the state was read."""
    state: Float32Array
    """User units, shape (6,)."""
    pickup_xy_m: Float32Array
    """Where to pick up, base frame, shape (2,)."""
    images: dict[str, ByteArray]
    """Camera name -> RGB uint8 (height, width, 3)."""


class Policy(Protocol):
    """Turns an observation into a chunk of actions."""

    def chunk(self, observation: Observation) -> Float32Array:
        """Actions, shape (chunk, width), in the units of the policy's action space.

        The first joint goal is for the observation's own time, the first way of the tool begins then.
        """


class Clock(Protocol):
    """Monotonic time that can be waited on."""

    def now_s(self) -> float:
        """Seconds since an arbitrary origin; never goes back."""

    def sleep_until_s(self, deadline_s: float) -> None:
        """Return at the deadline, or at once if it has passed."""


class MonotonicClock:
    """The machine's monotonic clock."""

    def now_s(self) -> float:
        """See Clock."""
        return time.monotonic()

    def sleep_until_s(self, deadline_s: float) -> None:
        """See Clock."""
        delay_s = deadline_s - time.monotonic()
        if delay_s > 0:
            time.sleep(delay_s)
