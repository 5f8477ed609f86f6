"""Which arm is behind a port: told by what its servos hold, which is read and nothing else.

Homing offsets are as good as a serial number: they depend on where each horn was put on. Six of them that
agree with a calibration file are that file's arm.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robot.bus import FeetechBus, decode
from robot.calibration_file import Calibration, JointCalibration, load_calibration
from robot.config import config_root, load_robot
from robot.errors import CalibrationError
from robot.joints import JOINTS, SERVO_IDS
from robot.packets import Packet
from robot.registers import REGISTERS, VOLTAGE_V_PER_UNIT

Role = Literal["follower", "leader", "unknown"]

FOLLOWER_GRIPPER = {"max_torque": 500, "protection_current": 250, "overload_torque": 25}
"""What LeRobot's configure() and `so101 setup-motors` leave in a follower's gripper, not in a leader's."""

_SIZE = REGISTERS["present_current"].end
CALIBRATED = ("homing_offset", "min_position", "max_position")
"""The registers that a calibration is."""


@dataclass(frozen=True, slots=True)
class Servo:
    """What one servo says about itself: every register from 0 to the present values, decoded."""

    servo_id: int
    registers: dict[str, int]

    @classmethod
    def of(cls, packet: Packet) -> Servo:
        """Out of a block that begins at address 0."""
        values = {
            name: decode(register, packet.data, register.address)
            for name, register in REGISTERS.items()
            if register.end <= _SIZE
        }
        return cls(packet.servo_id, values)

    @property
    def voltage_v(self) -> float:
        """Supply, as the servo measures it."""
        return self.registers["present_voltage"] * VOLTAGE_V_PER_UNIT

    @property
    def firmware(self) -> str:
        """Version, as ``3.10``."""
        return f"{self.registers['firmware_major']}.{self.registers['firmware_minor']}"


@dataclass(frozen=True, slots=True)
class KnownArm:
    """A calibration file, and whose arm it is where that can be told from its place."""

    calibration: Calibration
    path: Path
    role: Role


@dataclass(frozen=True, slots=True)
class Identity:
    """What an arm was taken for, and why."""

    role: Role
    evidence: str
    files: tuple[str, ...] = ()


def read_servos(bus: FeetechBus, *, others: bool = True) -> tuple[Servo, ...]:
    """All servos on a bus: ids 1..6 first, then any other id. Reads only.

    Args:
        bus: at the rate of the servos.
        others: look for further ids, which takes some 50 ms.

    Raises:
        PortError: the port is gone.
    """
    usual = tuple(SERVO_IDS.values())
    replies = bus.sync_read(usual, 0, _SIZE).replies
    further = set(bus.scan()) - set(replies) if others else set()
    # A broadcast's answers may collide; what it found is asked for by name.
    replies |= bus.sync_read(tuple(sorted(further)), 0, _SIZE).replies if further else {}
    return tuple(Servo.of(replies[servo_id]) for servo_id in sorted(replies))


def identify(servos: Iterable[Servo], known: Iterable[KnownArm], *, illegible: bool = False) -> Identity:
    """Tell which arm these servos are.

    The calibration files decide; without one that agrees, the gripper's settings do, as far as they tell.

    Args:
        servos: what answered.
        known: calibration files.
        illegible: whether there were answers that could not be read, as of servos that share an id.
    """
    by_id = {servo.servo_id: servo for servo in servos}
    missing = [joint for joint in JOINTS if SERVO_IDS[joint] not in by_id]
    if missing and illegible:
        found = f"{len(by_id)} of 6 servos found, and " if by_id else ""
        what = "something answers illegibly: several servos may have one id, as new ones have"
        return Identity("unknown", f"{found}{what}; `so101 setup-motors` gives each its own")
    if not by_id:
        return Identity("unknown", "no servo answers at 1000000 baud: is the arm's supply on?")
    if missing:
        return Identity("unknown", f"not a whole arm: {', '.join(missing)} not found")
    matches = [arm for arm in known if _holds(by_id, arm.calibration)]
    if matches:
        roles = {arm.role for arm in matches} - {"unknown"}
        role: Role = roles.pop() if len(roles) == 1 else "unknown"
        files = tuple(str(arm.path) for arm in matches)
        return Identity(role, f"its servos hold {files[0]}", files)
    return _by_settings(by_id)


def _by_settings(by_id: dict[int, Servo]) -> Identity:
    gripper = by_id[SERVO_IDS["gripper"]].registers
    if all(by_id[servo_id].registers["homing_offset"] == 0 for servo_id in SERVO_IDS.values()):
        untold = "not calibrated yet"
    else:
        untold = "calibrated, but no file known here agrees"
    if all(gripper[name] == value for name, value in FOLLOWER_GRIPPER.items()):
        return Identity("follower", f"its gripper has a follower's limits ({untold})")
    return Identity("unknown", untold)


def _holds(by_id: dict[int, Servo], calibration: Calibration) -> bool:
    def same(entry: JointCalibration) -> bool:
        servo = by_id.get(entry.id)
        wanted = (entry.homing_offset, entry.range_min, entry.range_max)
        return servo is not None and tuple(servo.registers[name] for name in CALIBRATED) == wanted

    return all(same(entry) for entry in calibration.joints.values())


def known_arms(extra: Iterable[Path] = (), robots: Iterable[str] = ()) -> list[KnownArm]:
    """Calibration files that may be of an arm here: those given, those shipped, LeRobot's own.

    Files that cannot be read as a calibration are passed over, unless they were given by name.

    Args:
        extra: files named by the person.
        robots: robot configurations whose calibration is looked at, by name or path.

    Raises:
        CalibrationError, ConfigError: a file that was named cannot be read.
    """
    found = {path.resolve(): KnownArm(load_calibration(path), path, role_of(path)) for path in extra}
    for name in robots:
        for path, role in _of_robot(name):
            found[path.resolve()] = KnownArm(load_calibration(path), path, role)
    candidates = sorted((config_root() / "robots").glob("*.json"))
    candidates += sorted(lerobot_cache().glob("*/**/*.json"))
    for path in candidates:
        with contextlib.suppress(CalibrationError):  # cameras' files lie there too, and arms of other makes
            found.setdefault(path.resolve(), KnownArm(load_calibration(path), path, role_of(path)))
    return list(found.values())


def _of_robot(name: str) -> list[tuple[Path, Role]]:
    """The calibration files that a robot's configuration names. Raises ConfigError."""
    config, folder = load_robot(name)
    files: list[tuple[Path, Role]] = [(folder / config.calibration, "follower")]
    if config.leader_calibration is not None:
        files.append((folder / config.leader_calibration, "leader"))
    return files


def lerobot_cache() -> Path:
    """Where LeRobot keeps calibration files: ``robots/`` and ``teleoperators/`` in one folder."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return Path(os.environ.get("HF_LEROBOT_CALIBRATION", home / "lerobot" / "calibration")).expanduser()


def role_of(path: Path) -> Role:
    """Follower or leader, by the words in a file's path, from its name upwards."""
    words: dict[str, Role] = {
        "follower": "follower",
        "leader": "leader",
        "robots": "follower",
        "teleoperators": "leader",
    }
    for part in reversed(path.resolve().parts[-4:]):
        for word, role in words.items():
            if word in part.lower():
                return role
    return "unknown"
