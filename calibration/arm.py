"""An arm's servos while they are calibrated: what they hold, where they are, new values into EEPROM."""

from __future__ import annotations

import time
from dataclasses import dataclass

from calibration.sweep import JointSweep
from robot.bus import decode
from robot.calibration_file import Calibration
from robot.eeprom import SetupBus, undisturbed
from robot.errors import BusError, CalibrationError, ServoError
from robot.fingerprint import CALIBRATED
from robot.joints import JOINTS, SERVO_IDS
from robot.packets import Packet
from robot.registers import MODEL_STS3215, REGISTERS, TICKS_PER_TURN

SILENCE_S = 1.0
"""A servo that says nothing for so long during a sweep ends it: its joint may have gone anywhere."""

_CONFIGURATION_SIZE = REGISTERS["torque_enable"].end
_POSITION = REGISTERS["present_position"]


@dataclass(frozen=True, slots=True)
class Stored:
    """What one servo holds; positions in ticks."""

    model_number: int
    homing_offset: int
    min_position: int
    max_position: int
    operating_mode: int
    torque_enable: int

    @classmethod
    def of(cls, packet: Packet) -> Stored:
        """Out of a block that begins at address 0."""

        def value(name: str) -> int:
            return decode(REGISTERS[name], packet.data, REGISTERS[name].address)

        return cls(**{name: value(name) for name in cls.__dataclass_fields__})


def read_stored(bus: SetupBus) -> dict[str, Stored]:
    """What all six servos hold, by joint.

    Raises:
        ServoError: one of them does not answer, or is no STS3215.
        CalibrationError: one is not in position mode, where readings mean something else.
        PortError: the port is gone.
    """
    blocks = bus.sync_read_all(tuple(SERVO_IDS.values()), 0, _CONFIGURATION_SIZE)
    stored = {joint: Stored.of(blocks[servo_id]) for joint, servo_id in SERVO_IDS.items()}
    for joint, held in stored.items():
        if held.model_number != MODEL_STS3215:
            raise ServoError(
                f"{bus.describe(SERVO_IDS[joint])} on {bus.path} says model {held.model_number}, an SO-101 "
                f"has STS3215 ({MODEL_STS3215}): put the right servo there",
                servo_id=SERVO_IDS[joint],
                joint=joint,
            )
        if held.operating_mode != 0:
            raise CalibrationError(
                f"{bus.describe(SERVO_IDS[joint])} is in operating mode {held.operating_mode}, not in "
                "position mode (0): `so101 setup-motors` puts that right"
            )
    return stored


def read_positions(bus: SetupBus) -> dict[str, int]:
    """Joint -> what its servo reads, in ticks. Raises ServoError, PortError."""
    packets = bus.sync_read_all(tuple(SERVO_IDS.values()), _POSITION.address, _POSITION.size)
    return {joint: _reading(packets[servo_id]) for joint, servo_id in SERVO_IDS.items()}


def energised(stored: dict[str, Stored]) -> list[str]:
    """Joints whose torque is on."""
    return [joint for joint, held in stored.items() if held.torque_enable != 0]


class ArmSweep:
    """All six joints while a person moves them. EEPROM is not touched.

    Args:
        bus: with the six servos, torque off.
        stored: what they hold; readings are taken as they come, with the offsets in it.

    Attributes:
        joints: joint -> its sweep so far.
    """

    def __init__(self, bus: SetupBus, stored: dict[str, Stored]) -> None:
        self._bus = bus
        self.offsets = {joint: held.homing_offset for joint, held in stored.items()}
        self._ids = tuple(SERVO_IDS.values())
        self.joints = {joint: JointSweep(ticks) for joint, ticks in read_positions(bus).items()}
        self._heard_s = dict.fromkeys(JOINTS, time.monotonic())

    def poll(self) -> None:
        """Read all positions once.

        Raises:
            ServoError: a servo has been silent for :data:`SILENCE_S`.
            PortError: the port is gone.
        """
        reply = self._bus.sync_read(self._ids, _POSITION.address, _POSITION.size)
        now_s = time.monotonic()
        for joint, servo_id in SERVO_IDS.items():
            if servo_id in reply.replies:
                self.joints[joint].add(_reading(reply.replies[servo_id]))
                self._heard_s[joint] = now_s
        lost = [SERVO_IDS[joint] for joint in JOINTS if now_s - self._heard_s[joint] > SILENCE_S]
        if lost:
            raise self._bus.silent(lost)


def write_calibration(bus: SetupBus, calibration: Calibration, before: dict[str, Stored]) -> int:
    """Write a calibration into the servos: compared first, locked after, verified.

    Whatever goes wrong in between, Ctrl-C too, the servos get back what they held; where even that fails, the
    error says for each joint what its servo holds.

    Args:
        bus: with the six servos, torque off.
        calibration: what they shall hold.
        before: what they hold now.

    Returns:
        How many registers had to be written.

    Raises:
        CalibrationError: it was not written.
    """
    try:
        written = sum(_write(bus, joint, _wanted(calibration, joint)) for joint in JOINTS)
        for servo_id in SERVO_IDS.values():  # LeRobot leaves all open where torque is off
            bus.lock(servo_id)
        after = read_stored(bus)
        wrong = [joint for joint in JOINTS if _held(after[joint]) != _wanted(calibration, joint)]
        if wrong:
            raise CalibrationError(f"{', '.join(wrong)} did not keep the new values")
    except (BusError, CalibrationError, KeyboardInterrupt) as error:
        why = "it was interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        with undisturbed():  # one more Ctrl-C comes after the message, and carries it
            state = _put_back(bus, calibration, before)
            raise CalibrationError(f"the calibration was not written: {why}. {state}") from error
    return written


def _put_back(bus: SetupBus, calibration: Calibration, before: dict[str, Stored]) -> str:
    """Restore all that can be reached, and say in a sentence what the servos hold then."""
    holds: dict[str, str] = {}
    for joint in JOINTS:
        try:
            _write(bus, joint, _held(before[joint]))
            bus.lock(SERVO_IDS[joint])
            holds[joint] = "the old values"
        except BusError:
            holds[joint] = _what_it_holds(bus, joint, calibration, before)
    if set(holds.values()) == {"the old values"}:
        return "All servos hold what they held before"
    listed = ", ".join(f"{joint} {what}" for joint, what in holds.items())
    return f"The servos now hold: {listed}. Mend the cause and calibrate again before the arm is used"


def _what_it_holds(bus: SetupBus, joint: str, calibration: Calibration, before: dict[str, Stored]) -> str:
    try:
        found = {name: bus.read(SERVO_IDS[joint], name) for name in CALIBRATED}
    except BusError:
        return "what cannot be read (it does not answer)"
    if found == _held(before[joint]):
        return "the old values"
    return "the new values" if found == _wanted(calibration, joint) else "a mixture of old and new values"


def _write(bus: SetupBus, joint: str, values: dict[str, int]) -> int:
    return sum(bus.write_eeprom(SERVO_IDS[joint], name, value) for name, value in values.items())


def _held(stored: Stored) -> dict[str, int]:
    return {name: getattr(stored, name) for name in CALIBRATED}


def _wanted(calibration: Calibration, joint: str) -> dict[str, int]:
    entry = calibration.joints[joint]
    return dict(zip(CALIBRATED, (entry.homing_offset, entry.range_min, entry.range_max), strict=True))


def _reading(packet: Packet) -> int:
    return decode(_POSITION, packet.data) % TICKS_PER_TURN
