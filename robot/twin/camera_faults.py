"""What can go wrong with the twin's cameras: events as those of :mod:`robot.twin.faults`.

The live gait takes the events and keeps the present faults in a small shared block; the process that renders
looks there before each picture.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from robot.config import Finite, StrictModel
from robot.seqlock import SharedBlock

CameraKind = Literal[
    "camera_freeze",
    "camera_black",
    "camera_stale",
    "camera_slow",
    "camera_unplug",
    "camera_swap",
    "camera_ok",
]
BLOCK_BYTES = 1024
_OTHER = {"wrist": "overhead", "overhead": "wrist"}

_OF_ONE = ("camera_freeze", "camera_black", "camera_stale", "camera_slow", "camera_unplug")


class CameraEvent(StrictModel):
    """A camera going wrong, or all right again."""

    at_s: Finite = 0.0
    """Seconds after the twin started; of no meaning where the event is sent by hand."""
    kind: CameraKind
    """freeze: one picture again and again, with new times; black: black pictures; stale: the connection stays
    and nothing comes; slow: ``fps`` pictures a second; unplug: connections are closed and refused; swap: the
    cameras exchange their pictures; ok: nothing is wrong any more, with ``camera`` or, without, with any."""
    camera: Literal["wrist", "overhead"] | None = None
    fps: float = Field(default=5.0, ge=0.1, le=30)

    @model_validator(mode="after")
    def _check(self) -> CameraEvent:
        if self.kind in _OF_ONE and self.camera is None:
            raise ValueError(f"kind {self.kind!r} needs camera, one of {', '.join(_OTHER)}")
        return self


class CameraFault(StrictModel):
    """What is wrong with one camera at present."""

    frozen: bool = False
    black: bool = False
    stale: bool = False
    unplugged: bool = False
    fps: float | None = None
    """Pictures per second of a slow one."""


class CameraFaults(StrictModel):
    """What is wrong with the cameras at present."""

    cameras: dict[str, CameraFault] = Field(default_factory=dict)
    swapped: bool = False

    def of(self, camera: str) -> CameraFault:
        """The faults of one camera."""
        return self.cameras.get(camera, CameraFault())

    def shown_by(self, camera: str) -> str:
        """The camera whose view comes out of this one."""
        return _OTHER.get(camera, camera) if self.swapped else camera

    def after(self, event: CameraEvent) -> CameraFaults:
        """The faults once this has happened too."""
        match event.kind:
            case "camera_swap":
                return self.model_copy(update={"swapped": True})
            case "camera_ok":
                right = tuple(self.cameras) if event.camera is None else (event.camera,)
                return CameraFaults(cameras={n: f for n, f in self.cameras.items() if n not in right})
            case "camera_freeze":
                change: dict[str, bool | float] = {"frozen": True}
            case "camera_black":
                change = {"black": True}
            case "camera_stale":
                change = {"stale": True}
            case "camera_slow":
                change = {"fps": event.fps}
            case "camera_unplug":
                change = {"unplugged": True}
        name = event.camera or ""
        return self.model_copy(
            update={"cameras": {**self.cameras, name: self.of(name).model_copy(update=change)}}
        )


class CameraTrouble:
    """The live gait's side: what is wrong at present, in a shared block of this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._block = SharedBlock.create(name, BLOCK_BYTES)
        self._faults = CameraFaults()

    def happen(self, event: CameraEvent) -> None:
        """Let it happen."""
        self._faults = self._faults.after(event)
        self._block.write(self._faults.model_dump_json().encode())

    def close(self) -> None:
        """Remove the block."""
        self._block.close()
        self._block.unlink()


def newest(block: SharedBlock) -> CameraFaults:
    """The camera process's side: what is wrong at present."""
    payload = block.read()
    return CameraFaults.model_validate_json(payload) if payload else CameraFaults()
