"""Feetech's serial protocol as pure functions: packets to bytes and bytes to packets, no port.

Framing, from Feetech's protocol manual (STS/SMS series, protocol 0)::

    FF FF  ID  LEN  CODE  PARAMETERS  CHECKSUM

``LEN`` counts the code, the parameters and the checksum. ``CHECKSUM`` is the inverted low byte of the sum
from ID to the last parameter. ``CODE`` is the instruction on the way out and the error byte on the way
back, so the two directions share one frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

HEADER = b"\xff\xff"
BROADCAST_ID = 0xFE
MAX_ID = 0xFC
"""Highest id that one servo may have."""

STATUS_OVERHEAD = 6
"""Bytes of a status packet without data: header, id, length, error byte, checksum."""

MAX_DATA = 0xFF - 2
"""Most parameter bytes that the one length byte can announce."""

_MIN_LENGTH = 2
_FRAME_OVERHEAD = 4  # header, id and the length byte itself


class Code(IntEnum):
    """Instructions of the protocol. Old manuals give 6 for a factory reset, newer SDKs 10; both are here."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    RESET = 0x06
    REBOOT = 0x08
    RESET_NEW = 0x0A
    RECENTRE = 0x0B
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


@dataclass(frozen=True, slots=True)
class Packet:
    """One frame with a right checksum: an instruction, or the status of a servo.

    ``code`` is the instruction in the one direction and the error byte in the other.
    """

    servo_id: int
    code: int
    data: bytes

    @property
    def size(self) -> int:
        """Bytes of the frame on the wire."""
        return STATUS_OVERHEAD + len(self.data)


def checksum(body: bytes) -> int:
    """Checksum over everything between the header and the checksum itself."""
    return ~sum(body) & 0xFF


def encode(servo_id: int, code: int, data: bytes = b"") -> bytes:
    """Frame one packet, in either direction.

    Raises:
        ValueError: the id is no id, the code no byte, or the data too long for the length byte.
    """
    if not 0 <= servo_id <= BROADCAST_ID:
        raise ValueError(f"id {servo_id} is outside 0..{BROADCAST_ID}")
    if not 0 <= code <= 0xFF:
        raise ValueError(f"code {code} is no byte")
    if len(data) > MAX_DATA:
        raise ValueError(f"{len(data)} parameter bytes, the protocol takes at most {MAX_DATA}")
    body = bytes((servo_id, len(data) + _MIN_LENGTH, code)) + data
    return HEADER + body + bytes((checksum(body),))


def ping(servo_id: int) -> bytes:
    """Ask one servo, or all of them with ``BROADCAST_ID``, for a status packet."""
    return encode(servo_id, Code.PING)


def read(servo_id: int, address: int, size: int) -> bytes:
    """Ask one servo for ``size`` bytes from ``address``."""
    return encode(servo_id, Code.READ, bytes((address, size)))


def write(servo_id: int, address: int, data: bytes) -> bytes:
    """Write bytes from ``address``; the servo answers with an empty status packet."""
    return encode(servo_id, Code.WRITE, bytes((address,)) + data)


def reg_write(servo_id: int, address: int, data: bytes) -> bytes:
    """As :func:`write`, but the servo keeps it until :func:`action`."""
    return encode(servo_id, Code.REG_WRITE, bytes((address,)) + data)


def action(servo_id: int = BROADCAST_ID) -> bytes:
    """Let servos carry out what :func:`reg_write` left with them."""
    return encode(servo_id, Code.ACTION)


def sync_read(servo_ids: Sequence[int], address: int, size: int) -> bytes:
    """Ask several servos for the same block; they answer in this order, one status packet each."""
    return encode(BROADCAST_ID, Code.SYNC_READ, bytes((address, size, *servo_ids)))


def sync_write(address: int, data: Mapping[int, bytes]) -> bytes:
    """Write a block of equal size to several servos (id -> bytes). Nobody answers.

    Raises:
        ValueError: the blocks differ in size, or there are none.
    """
    sizes = {len(block) for block in data.values()}
    if len(sizes) != 1:
        raise ValueError(f"a sync write needs blocks of one size, got sizes {sorted(sizes)}")
    parameters = b"".join(bytes((servo_id,)) + block for servo_id, block in data.items())
    return encode(BROADCAST_ID, Code.SYNC_WRITE, bytes((address, sizes.pop())) + parameters)


def status(servo_id: int, error: int, data: bytes = b"") -> bytes:
    """What a servo answers: its error byte and the data that were asked for."""
    return encode(servo_id, error, data)


class PacketParser:
    """Finds packets in a stream that may be cut, corrupted or full of garbage. Never raises.

    A frame counts only with a legal id, a legal length and a right checksum. After anything else one
    single byte is dropped and the search goes on from the next, so a good packet behind, or inside,
    a broken one is still found.

    Args:
        max_length: longest LEN byte to believe. A reader knows what it asked for, and a corrupted
            length then cannot make it wait for bytes that will never come.
        max_id: highest id to believe; status packets never come from the broadcast id.
        max_code: highest code to believe; no error byte has its top bit set.
    """

    def __init__(self, *, max_length: int = 0xFF, max_id: int = BROADCAST_ID, max_code: int = 0xFF) -> None:
        self._max_length = max_length
        self._max_id = max_id
        self._max_code = max_code
        self._buffer = bytearray()
        self.dropped = 0
        """Bytes thrown away so far because they belonged to no packet."""
        self.broken: set[int] = set()
        """Ids of the frames that were whole but for their checksum: these servos have had their say."""

    @classmethod
    def for_status(cls, size: int) -> PacketParser:
        """A parser for replies that carry at most ``size`` bytes of data."""
        return cls(max_length=size + _MIN_LENGTH, max_id=MAX_ID, max_code=0x7F)

    @property
    def pending(self) -> int:
        """Bytes that may be the beginning of a packet."""
        return len(self._buffer)

    def reset(self) -> None:
        """Forget a packet that has begun."""
        self.dropped += len(self._buffer)
        self._buffer.clear()

    def feed(self, data: bytes) -> list[Packet]:
        """Take bytes as they come; return the packets that they completed, in order."""
        buffer = self._buffer
        buffer += data
        packets: list[Packet] = []
        while True:
            start = buffer.find(HEADER)
            if start < 0:
                # The last byte may be the first half of a header.
                start = len(buffer) - 1 if buffer.endswith(b"\xff") else len(buffer)
            self._drop(start)
            if len(buffer) < STATUS_OVERHEAD and not self._refuted():
                return packets
            if self._refuted():
                self._drop(1)
                continue
            end = buffer[3] + _FRAME_OVERHEAD
            if len(buffer) < end:
                return packets
            body = bytes(buffer[2 : end - 1])
            if checksum(body) != buffer[end - 1]:
                self.broken.add(body[0])
                self._drop(1)
                continue
            packets.append(Packet(body[0], body[2], body[3:]))
            del buffer[:end]

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self.dropped += count

    def _refuted(self) -> bool:
        """Whether what has come of the packet at the head of the buffer already cannot be one."""
        buffer = self._buffer
        return (
            (len(buffer) > 2 and buffer[2] > self._max_id)
            or (len(buffer) > 3 and not _MIN_LENGTH <= buffer[3] <= self._max_length)
            or (len(buffer) > 4 and buffer[4] > self._max_code)
        )
