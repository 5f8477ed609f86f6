"""One servo at a time: found at whatever id and rate it has, and made a joint of an SO-101.

EEPROM is compared before it is written, locked after, and read back. Sources of the settings: LeRobot's
``configure()`` of follower and leader (reference: docs/bring-up.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from robot.eeprom import BAUD_RATES, SetupBus
from robot.errors import BusError, PortError, ServoError
from robot.fingerprint import FOLLOWER_GRIPPER
from robot.joints import JOINTS, SERVO_IDS
from robot.registers import MODEL_STS3215, REGISTERS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE

SETUP_ORDER = tuple(reversed(JOINTS))
"""LeRobot's order: from the gripper down, so that the cable moves one servo on each time."""

MULTI_TURN = 0x10
"""Phase bit that lets readings leave 0..4095; homing and LeRobot need it cleared."""

LOOKS = 4
"""How often a servo is read to find out whether there are two of them: their answers differ somewhere."""

_BOTH = {"response_level": 1, "return_delay": 0, "operating_mode": 0}
_FOLLOWER = {"p_gain": 16, "i_gain": 0, "d_gain": 32}


@dataclass(frozen=True, slots=True)
class FoundServo:
    """The only servo on a bus, and where it was found."""

    servo_id: int
    baud: int


def settings(joint: str, *, follower: bool) -> dict[str, int]:
    """Registers that a joint's servo must hold, apart from id, rate and phase.

    A leader's servos are never driven by the running path, so they keep the gains they came with.
    """
    if not follower:
        return dict(_BOTH)
    return _BOTH | _FOLLOWER | (FOLLOWER_GRIPPER if joint == JOINTS[-1] else {})


def gripper_leftovers(joint: str, held: Mapping[str, int], *, follower: bool) -> dict[str, int]:
    """Limits of a follower's gripper in a servo that is another joint now, and the factory's for them.

    Told by the overload torque, which nobody sets so low elsewhere; it is the last to be restored.

    Args:
        joint: whose servo it is now.
        held: what its registers hold.
        follower: whether it is a follower's.
    """
    mark = "overload_torque"
    if (follower and joint == JOINTS[-1]) or held[mark] != FOLLOWER_GRIPPER[mark]:
        return {}
    return {name: REGISTERS[name].default for name, value in FOLLOWER_GRIPPER.items() if held[name] == value}


def find_servo(bus: SetupBus, joint: str, tell: Callable[[str], None] = lambda _: None) -> FoundServo:
    """The one servo that is connected; the bus then speaks at its rate.

    Args:
        bus: at any rate.
        joint: whose servo is expected, for errors.
        tell: told of each further rate that is tried.

    Raises:
        ServoError: none answers, or it is no STS3215.
        BusError: more than one answers.
        PortError: the port is gone.
    """
    for baud in BAUD_RATES:
        if baud != BAUD_RATES[0]:
            tell(f"trying {baud} baud")
        if not bus.try_baud(baud):
            continue
        dropped = bus.counters.dropped_bytes
        ids = bus.scan()
        garbled = bus.counters.dropped_bytes > dropped
        if len(ids) > 1:
            raise BusError(
                f"servos {', '.join(map(str, ids))} answer: connect only the {joint}'s, unplug the others"
            )
        if ids:
            _refuse_two(bus, ids[0], joint)
            _refuse_model(bus, ids[0], joint)
            return FoundServo(ids[0], baud)
        if garbled:
            raise BusError(
                f"something answers at {baud} baud, but not legibly: two servos have one id. Connect "
                f"only the {joint}'s; where only that is connected, replace its cable"
            )
    bus.set_baud(BAUD_RATES[0])
    raise ServoError(
        f"no servo answers on {bus.path} at any rate: is the {joint}'s cable in the board, and the "
        "supply on?",
        servo_id=SERVO_IDS[joint],
        joint=joint,
    )


def set_up(bus: SetupBus, joint: str, found: FoundServo, *, follower: bool) -> list[str]:
    """Make the found servo this joint's. Safe to break off and to do again.

    Args:
        bus: at the servo's rate; at 1 000 000 baud afterwards.
        joint: whose servo it becomes.
        found: see :func:`find_servo`.
        follower: whether it is a follower's.

    Returns:
        What had to be changed, in words; empty where the servo was set up already.

    Raises:
        BusError, ServoError, PortError: it was not set up; the message says why. What was written by then
            is whole and locked.
    """
    servo_id, changed = found.servo_id, []
    if bus.read(servo_id, "torque_enable") != 0:
        bus.release((servo_id,))
    if bus.to_one_megabaud(servo_id, found.baud):
        changed.append(f"baud {found.baud} -> {BAUD_RATES[0]}")
    if bus.lock(servo_id):
        changed.append("lock 0 -> 1")
    wanted = settings(joint, follower=follower)
    limits = {name: bus.read(servo_id, name) for name in FOLLOWER_GRIPPER}
    wanted |= gripper_leftovers(joint, limits, follower=follower)
    phase = bus.read(servo_id, "phase")
    for name, value in (wanted | {"phase": phase & ~MULTI_TURN, "id": SERVO_IDS[joint]}).items():
        before = bus.read(servo_id, name)
        if bus.write_eeprom(servo_id, name, value):
            changed.append(f"{name} {before} -> {value}")
        servo_id = value if name == "id" else servo_id
    return changed


def check_all(bus: SetupBus, *, follower: bool) -> list[str]:
    """All six together: what is wrong with them, one sentence each; empty where nothing is. Any that is open
    is locked.

    Raises:
        PortError: the port is gone.
    """
    problems = []
    bus.set_baud(BAUD_RATES[0])
    for joint in JOINTS:
        servo_id = SERVO_IDS[joint]
        try:
            _refuse_two(bus, servo_id, joint)
            _refuse_model(bus, servo_id, joint)
            bus.lock(servo_id)
            wanted = settings(joint, follower=follower)
            held = {name: bus.read(servo_id, name) for name in (*wanted, *FOLLOWER_GRIPPER, "phase")}
        except PortError:
            raise
        except BusError as error:
            problems.append(str(error))
            continue
        wanted |= gripper_leftovers(joint, held, follower=follower)
        wanted["phase"] = held["phase"] & ~MULTI_TURN
        problems += [
            f"{bus.describe(servo_id)} holds {name} = {held[name]} instead of {value}"
            for name, value in wanted.items()
            if held[name] != value
        ]
    strangers = sorted(set(bus.scan()) - set(SERVO_IDS.values()))
    return problems + [f"servo {servo_id} belongs to no joint of an SO-101" for servo_id in strangers]


def _refuse_two(bus: SetupBus, servo_id: int, joint: str) -> None:
    """Two servos with one id answer at once. A ping's answers are alike and may look like one; positions and
    temperatures hardly ever are.
    """
    garbled = 0
    for _ in range(LOOKS):
        dropped, retries = bus.counters.dropped_bytes, bus.counters.retries
        try:
            bus.read_block(servo_id, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE)
        except ServoError:
            if bus.counters.dropped_bytes == dropped:
                raise
        garbled += bus.counters.dropped_bytes > dropped and bus.counters.retries > retries
    if garbled > 1:  # one may be noise
        raise BusError(f"two servos answer as id {servo_id}: connect only the {joint}'s, unplug the others")


def _refuse_model(bus: SetupBus, servo_id: int, joint: str) -> None:
    model = bus.read(servo_id, "model_number")
    if model != MODEL_STS3215:
        raise ServoError(
            f"the {joint}'s servo says model {model}, an SO-101 has STS3215 ({MODEL_STS3215}): put the right "
            "one there",
            servo_id=servo_id,
            joint=joint,
        )
