"""Transactions with STS3215 servos: ask, wait for what the wire needs, read every status byte.

Nothing here can change EEPROM. Writing it is the business of set-up and calibration, through
:class:`robot.eeprom.SetupBus`; the running path holds a :class:`FeetechBus`, whose guard refuses.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from robot import packets
from robot.errors import BusError, ServoError
from robot.joints import SERVO_IDS
from robot.packets import Packet, PacketParser
from robot.port import SerialPort
from robot.registers import FILE_SIZE, REGISTERS, Area, Register, decode_signed, encode_signed

JOINT_OF_ID: dict[int, str] = {servo_id: name for name, servo_id in SERVO_IDS.items()}
"""Joint name of each servo id of an SO-101."""

MARGIN_S = 0.0025
PATIENCE_S = 0.020
RETRIES = 2
"""With these a read that waits for two lost answers, one after the other, still fits a tick of 100 Hz, and
a stall of a tick is no fault. Where one answer in fifty is spoilt, all three tries fail for some servo of six
in five reads of 100 000.
"""

OWED_S = 0.5
SHAPES = 16
"""For so long after an answer was missing it may still come, late, and look like the answer to a newer
request: same servo, same size. Until then each read asks for another number of bytes, by turns, and an answer
of another size is not taken. That tells apart what 16 requests have left behind.
"""

TORQUE_VALUES = (0, 1, 2)
"""Off, on, damping. 128 would rewrite the homing offset in EEPROM."""

REGISTER_AT: dict[int, Register] = {
    address: register for register in REGISTERS.values() for address in range(register.address, register.end)
}
"""Which register a byte belongs to."""


@dataclass(slots=True)
class BusCounters:
    """What went wrong on a bus since it was opened; only ever grows."""

    transactions: int = 0
    retries: int = 0
    """Requests sent again because an answer was missing."""
    lost: int = 0
    """Answers that were missing after the last retry."""
    dropped_bytes: int = 0
    """Bytes that belonged to no packet."""
    stray_packets: int = 0
    """Good packets that nobody had asked for."""


@dataclass(frozen=True, slots=True)
class SyncReply:
    """What came back from a sync read."""

    replies: dict[int, Packet] = field(default_factory=dict)
    """Servo id -> status packet; ``code`` is its error byte, ``data`` the block that was asked for."""
    missing: tuple[int, ...] = ()
    """Ids that did not answer, in the order in which they were asked."""


class FeetechBus:
    """One half-duplex bus of STS3215 servos. Not for use by two threads at once.

    Args:
        port: path of the serial port.
        baud: bits per second.
        margin_s: how long the rest of the answers may stay away once the wire could have carried them. A USB
            adapter and an ordinary kernel need 1..2 ms; waiting costs no processor time.
        patience_s: how long the whole bus may say nothing at all when it is first asked. A busy kernel can
            hold everything back for longer than it ever holds back one servo of six.
        retries: how often an unanswered request is sent again.
        joints: servo id -> joint name, for errors.

    Attributes:
        counters: what went wrong so far.
        joints: servo id -> joint name.
    """

    def __init__(
        self,
        port: str,
        *,
        baud: int = 1_000_000,
        margin_s: float = MARGIN_S,
        patience_s: float = PATIENCE_S,
        retries: int = RETRIES,
        joints: Mapping[int, str] = JOINT_OF_ID,
    ) -> None:
        self.margin_s = margin_s
        self.patience_s = patience_s
        self.retries = retries
        self.counters = BusCounters()
        self.joints = dict(joints)
        self._port = SerialPort(port, baud)
        self._owed_until_s = -math.inf
        self._turn = 0
        self._echoes = False
        self._garbled = False

    def __enter__(self) -> FeetechBus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> str:
        """Path of the port."""
        return self._port.path

    def close(self) -> None:
        """Give the port back; servos keep doing what they do."""
        self._port.close()

    def wire_s(self, n_bytes: int) -> float:
        """Time that so many bytes take on the wire."""
        return n_bytes * self._port.byte_s

    # -- one servo -------------------------------------------------------------------------------------------

    def ping(self, servo_id: int) -> int:
        """Ask whether a servo is there; returns its error byte.

        Raises:
            ServoError: it does not answer.
            PortError: the port is gone.
        """
        answer = self._ask(packets.ping(servo_id), servo_id)
        if answer.code == packets.Code.PING:
            # The ping's own bytes: an adapter's echo, or a servo with an alarm. Of a read only one answers.
            self.read_block(servo_id, 0, 3)
        return answer.code

    def scan(self) -> tuple[int, ...]:
        """Ids of all servos that answer a broadcast ping, ascending.

        Answers may collide where ids are far apart or double; :meth:`ping` each id where that matters.
        """
        found: set[int] = set()
        for _ in range(1 + self.retries):
            # Every servo waits for its turn, which grows with its id: all turns are waited for.
            request = packets.ping(packets.BROADCAST_ID)
            found |= set(self._collect(request, range(packets.MAX_ID + 1), 0, patient=True))
        return tuple(sorted(found))

    def read_block(self, servo_id: int, address: int, size: int) -> Packet:
        """Read bytes of one servo; the packet's ``code`` is the error byte. Raises as :meth:`ping`."""
        for attempt in range(1 + self.retries):
            self.counters.retries += attempt > 0
            replies = self._collect_block((servo_id,), address, size, patient=attempt == 0)
            if replies:
                return replies[servo_id]
        self.counters.lost += 1
        raise self.silent((servo_id,))

    def read(self, servo_id: int, name: str) -> int:
        """Read one register by name, decoded. Raises as :meth:`ping`."""
        register = REGISTERS[name]
        return decode(register, self.read_block(servo_id, register.address, register.size).data)

    def write_block(self, servo_id: int, address: int, data: bytes) -> int:
        """Write RAM of one servo; returns the error byte of its answer.

        Raises:
            ServoError: it does not answer (also when its response level is 0: it then never does).
            BusError: the write could change EEPROM, which this class cannot do.
            PortError: the port is gone.
        """
        self._guard(address, data)
        return self._ask(packets.write(servo_id, address, data), servo_id).code

    def write(self, servo_id: int, name: str, value: int) -> int:
        """Write one register by name, encoded. Raises as :meth:`write_block`."""
        register = REGISTERS[name]
        return self.write_block(servo_id, register.address, encode(register, value))

    # -- several servos --------------------------------------------------------------------------------------

    def sync_read(
        self, servo_ids: Sequence[int], address: int, size: int, within_s: float = math.inf
    ) -> SyncReply:
        """Read the same block from several servos in one transaction.

        Servos that did not answer are asked again, ``retries`` times, and those that did keep their answers.
        They are asked again in reverse, so that one dead servo that silences those listed after it is not
        blamed together with them.

        Args:
            servo_ids: whom to ask, in this order.
            address: first byte of the block.
            size: of the block.
            within_s: nobody is asked again once so much time has passed since the first request.

        Raises:
            PortError: the port is gone. Silent servos are no error here but ``missing``.
        """
        last_request_s = time.monotonic() + within_s
        replies: dict[int, Packet] = {}
        missing = list(servo_ids)
        for attempt in range(1 + self.retries):
            if attempt:
                self.counters.retries += 1
                missing.reverse()
            replies |= self._collect_block(missing, address, size, patient=attempt == 0)
            missing = [servo_id for servo_id in missing if servo_id not in replies]
            if not missing or time.monotonic() > last_request_s:
                break
        self.counters.lost += len(missing)
        return SyncReply(replies, tuple(servo_id for servo_id in servo_ids if servo_id not in replies))

    def sync_read_all(self, servo_ids: Sequence[int], address: int, size: int) -> dict[int, Packet]:
        """As :meth:`sync_read`, where a missing servo is an error that names every missing one."""
        reply = self.sync_read(servo_ids, address, size)
        if reply.missing:
            raise self.silent(reply.missing)
        return reply.replies

    def sync_write(self, name: str, values: Mapping[int, int]) -> None:
        """Write one register of several servos (id -> value) in one packet. Nobody answers. Raises as
        write.
        """
        register = REGISTERS[name]
        self.sync_write_block(register.address, {i: encode(register, value) for i, value in values.items()})

    def sync_write_block(self, address: int, data: Mapping[int, bytes]) -> None:
        """Write a block of equal size to several servos (id -> bytes). Nobody answers. Raises as write."""
        for block in data.values():
            self._guard(address, block)
        self._tell(packets.sync_write(address, data))

    def describe(self, servo_id: int) -> str:
        """How errors name a servo."""
        joint = self.joints.get(servo_id)
        return f"servo {servo_id}" if joint is None else f"{joint} (servo {servo_id})"

    def silent(self, servo_ids: Sequence[int]) -> ServoError:
        """The error for servos that did not answer the last request; its joint is the first of them."""
        names = ", ".join(self.describe(servo_id) for servo_id in servo_ids)
        verb, its = ("does", "its plug") if len(servo_ids) == 1 else ("do", "the plug of the first")
        how, look = "", f"check power, {its} and the cable before it"
        if self._garbled:
            how, look = " legibly", f"two servos may have one id (`so101 setup-motors`), or {its} is loose"
        return ServoError(
            f"{names} {verb} not answer{how} on {self.path}: {look}; a servo that was overloaded may need a "
            "power cycle",
            servo_id=servo_ids[0],
            joint=self.joints.get(servo_ids[0]),
        )

    # -- inside ----------------------------------------------------------------------------------------------

    def _guard(self, address: int, data: bytes) -> None:
        """Refuse whatever could change EEPROM, by any of the three doors the firmware has."""
        for where, value in enumerate(data, start=address):
            register = REGISTER_AT.get(where)
            if register is None:
                raise BusError(f"address {where} belongs to no register")
            if register.area is not Area.RAM:
                raise BusError(
                    f"{register.name} (address {where}) is {register.area.value} and not written while "
                    "running: use `so101 setup-motors` or `so101 calibrate arm`"
                )
            if register.name == "lock" and value == 0:
                raise BusError("lock 0 would open EEPROM for writing: only set-up and calibration do that")
            if register.name == "torque_enable" and value not in TORQUE_VALUES:
                raise BusError(
                    f"torque_enable {value} is none of {TORQUE_VALUES}; 128 rewrites the homing offset"
                )

    def _tell(self, request: bytes) -> None:
        self.counters.transactions += 1
        self._port.write(request)

    def _ask(self, request: bytes, servo_id: int) -> Packet:
        """One servo's answer without data. It says that the servo is there; of what was written only a read
        does, as a late answer to an older request looks the same.
        """
        for attempt in range(1 + self.retries):
            self.counters.retries += attempt > 0
            reply = self._collect(request, (servo_id,), 0, patient=attempt == 0).get(servo_id)
            if reply is not None:
                return reply
        self.counters.lost += 1
        raise self.silent((servo_id,))

    def _collect_block(
        self, servo_ids: Sequence[int], address: int, size: int, *, patient: bool
    ) -> dict[int, Packet]:
        """Ask for the same block of these servos, in a shape that no answer still owed has."""
        room = min(SHAPES, FILE_SIZE - address - size)
        more = 0
        if room > 0 and time.monotonic() < self._owed_until_s:
            self._turn += 1
            more = 1 + self._turn % room
        if len(servo_ids) == 1:
            request = packets.read(servo_ids[0], address, size + more)
        else:
            request = packets.sync_read(servo_ids, address, size + more)
        replies = self._collect(request, servo_ids, size + more, patient=patient)
        if more:
            replies = {i: Packet(i, packet.code, packet.data[:size]) for i, packet in replies.items()}
        return replies

    def _collect(
        self, request: bytes, servo_ids: Sequence[int], size: int, *, patient: bool
    ) -> dict[int, Packet]:
        """Send a request and gather status packets of these servos with exactly ``size`` data bytes."""
        self.counters.transactions += 1
        self._port.discard_input()
        self._port.write(request)
        answer_s = self.wire_s(packets.STATUS_OVERHEAD + size)
        quiet_s = max(self.margin_s, self.patience_s) if patient else self.margin_s
        deadline_s = time.monotonic() + self.wire_s(len(request)) + len(servo_ids) * answer_s + quiet_s
        # However much noise comes, this is the end.
        last_s = deadline_s + self.margin_s
        parser = PacketParser.for_status(size)
        waiting, asked = set(servo_ids), list(servo_ids)
        replies: dict[int, Packet] = {}
        # Some adapters give back what they send. Such an echo of a ping, or of a read of two bytes, has the
        # shape of its answer. It is one only of a ping, and not on an adapter that has been seen to echo.
        echo: Packet | None = None
        heard = bytearray()
        late = False
        while waiting and not late:
            late = time.monotonic() > last_s  # one more look: what waits there may have come in time
            data = self._port.read_until(deadline_s)
            if not data:
                break
            heard += data
            for packet in parser.feed(data):
                servo_id = packet.servo_id
                if echo is None and packets.status(servo_id, packet.code, packet.data) == request:
                    echo = packet
                elif servo_id in asked and servo_id not in replies and len(packet.data) == size:
                    replies[servo_id] = packet
                    # They answer in the order in which they were asked: who was due before has had its turn.
                    waiting.difference_update(asked[: asked.index(servo_id) + 1])
                else:
                    self.counters.stray_packets += 1
            waiting.difference_update(parser.broken)
            # The bus has spoken: what is still missing comes in its turn now, or not at all.
            deadline_s = min(last_s, time.monotonic() + len(waiting) * answer_s + self.margin_s)
        if echo is not None:
            self._echoes |= bool(replies) or size > 0
            if size == 0 and not self._echoes:
                replies[echo.servo_id] = echo
        if len(replies) < len(servo_ids):
            self._owed_until_s = time.monotonic() + OWED_S
        dropped = parser.dropped + parser.pending
        if echo is None and heard.startswith(request):
            dropped -= len(request)  # an echo that does not have the shape of an answer
        self._garbled = dropped > 0
        self.counters.dropped_bytes += dropped
        return replies


def encode(register: Register, value: int) -> bytes:
    """Bytes of a register's value, little-endian, sign-magnitude where the register has a sign bit.

    Raises:
        ValueError: the value does not fit.
    """
    word = value if register.sign_bit is None else encode_signed(value, register.sign_bit)
    if not 0 <= word < 1 << (8 * register.size):
        raise ValueError(f"{register.name} takes {register.size} bytes, {value} does not fit")
    return word.to_bytes(register.size, "little")


def decode(register: Register, data: bytes, offset: int = 0) -> int:
    """Value of a register whose bytes begin at ``offset`` of ``data``."""
    word = int.from_bytes(data[offset : offset + register.size], "little")
    return word if register.sign_bit is None else decode_signed(word, register.sign_bit)
