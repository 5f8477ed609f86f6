"""Every error this project raises on purpose.

::

    So101Error
    ├── ConfigError            a file or option that cannot be right (names the key and the choices)
    ├── CalibrationError       a calibration file in the wrong schema, or with impossible numbers
    ├── BusError               the serial bus
    │   ├── PortError          the port is absent, busy or was unplugged
    │   └── ServoError         one servo: silent, corrupt, wrong model (has .joint and .servo_id)
    │       ├── AlarmError     a servo whose voltage or heat alarm forbids torque
    │       ├── OutsideError   a limp joint far outside its range, which would leap with torque
    │       └── OverloadError  a servo that stays overloaded although its torque was cycled
    ├── CameraError            a camera that cannot be opened or has stopped
    ├── UnreachableError       a point or pose the arm cannot take (says why)
    ├── CommandError           a command that the controller refuses in its present mode (has .code)
    ├── SourceError            a source that can drive the arm no longer (has .code, .joint and .remedy)
    ├── BundleError            a policy bundle that does not match its manifest, robot or machine
    ├── SegmentError           shared memory that is absent, foreign, full or already has a writer
    ├── DatasetError           an episode or dataset that cannot be read or written
    └── TwinError              the digital twin did not start or answer

Messages name the thing and the remedy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robot.seams import ArmState


class So101Error(Exception):
    """Root of all errors raised on purpose."""


class ConfigError(So101Error):
    """A configuration file or option that cannot be right."""


class CalibrationError(So101Error):
    """A calibration file in the wrong schema or with impossible numbers."""


class BusError(So101Error):
    """The serial bus failed."""


class PortError(BusError):
    """The serial port is absent, busy or was unplugged."""


class ServoError(BusError):
    """One servo did not answer as it should.

    Attributes:
        joint: name of the joint, or ``None`` where only the id is known.
        servo_id: id on the bus.
        seen: what the other servos said in the same read, zeros for those in ``missing``; ``None`` where
            nothing was read.
        missing: joints that did not answer a read of all.
    """

    def __init__(self, message: str, *, servo_id: int, joint: str | None = None) -> None:
        super().__init__(message)
        self.servo_id = servo_id
        self.joint = joint
        self.seen: ArmState | None = None
        self.missing: tuple[str, ...] = ()


class AlarmError(ServoError):
    """A servo may not be energised: its supply or its temperature is out of range."""


class OutsideError(ServoError):
    """A limp joint stands far outside its calibrated range: with torque it would leap to the edge."""


class OverloadError(ServoError):
    """A servo keeps its overload, or says nothing any more: only its supply brings it back."""


class CameraError(So101Error):
    """A camera cannot be opened or has stopped."""


class UnreachableError(So101Error):
    """A point or pose that the arm cannot take."""


class CommandError(So101Error):
    """A command that the controller refuses in its present mode.

    Attributes:
        code: short machine-readable reason, for instance ``fault_latched``.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class SourceError(So101Error):
    """A source of motion can no longer drive the arm; the run ends with a fault.

    Attributes:
        code: of the fault, for instance ``leader_lost``.
        remedy: what to do about it.
        joint: the joint concerned, if it is one.
    """

    def __init__(self, message: str, *, code: str, remedy: str, joint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.remedy = remedy
        self.joint = joint


class BundleError(So101Error):
    """A policy bundle that does not match its manifest, the robot or this machine."""


class SegmentError(So101Error):
    """A shared memory segment is absent, foreign, full or already has a writer."""


class DatasetError(So101Error):
    """An episode or dataset that cannot be read or written."""


class RecordingOverloadError(DatasetError):
    """Pictures come faster than they are encoded: the episode has to end with the frames it has."""


class BrokenTakeError(DatasetError):
    """A take whose videos and rows do not belong together."""


class TwinError(So101Error):
    """The digital twin did not start or does not answer."""
