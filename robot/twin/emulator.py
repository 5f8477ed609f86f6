"""The STS3215 protocol from the servos' side: request bytes in, answers due at the time a wire would bring
them.

The emulator knows packets, timing and the response rules of the firmware; what registers hold and do is the
bank's business. It never looks at a clock: every call gets the time, so the same code runs live and in tests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from robot.packets import BROADCAST_ID, MAX_DATA, MAX_ID, STATUS_OVERHEAD, Code, Packet, PacketParser, status
from robot.registers import REGISTERS, decode_signed
from robot.twin.bus_faults import BusFaults

RETURN_DELAY_S = 2e-6
"""One unit of the return delay register."""

IDLE_RESET_S = 0.010
"""A begun request is forgotten after this silence, so a client that died half-way does not spoil the next
one's.
"""

_ID = REGISTERS["id"].address
_RETURN_DELAY = REGISTERS["return_delay"].address
_RESPONSE_LEVEL = REGISTERS["response_level"].address
_TORQUE_ENABLE = REGISTERS["torque_enable"].address
_SET_MIDDLE = b"\x80"
_GOAL = REGISTERS["goal_position"]


class Bank(Protocol):
    """Register files of the servos on one bus; :class:`robot.twin.servo.ServoBank` is the real one.

    A servo is named by its slot: ids can be changed, and two servos may have the same.
    """

    def hearing(self, baud: int) -> Mapping[int, int]:
        """Slot -> id of the servos that hear at this speed; an answer that was given stays as it is."""

    def hears(self, slot: int) -> bool:
        """Whether this one hears at any speed."""

    def read_slot(self, slot: int, address: int, size: int) -> bytes:
        """Bytes of one register file, zeros past its end."""

    def write_slot(self, slot: int, address: int, data: bytes) -> None:
        """Write as the firmware would."""

    def register_slot(self, slot: int, address: int, data: bytes) -> None:
        """Keep a write until it is asked for."""

    def registered_slot(self, slot: int) -> tuple[int, bytes] | None:
        """The write that was kept, which is then forgotten, if a reboot has not had it forgotten."""

    def error_byte_slot(self, slot: int) -> int:
        """Error byte of the servo's status packets."""

    def reboot_slot(self, slot: int) -> None:
        """Power cycle."""

    def factory_reset_slot(self, slot: int) -> None:
        """EEPROM back to the defaults, the id kept."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """A status packet of all servos with an id; what it says is looked up when it is due."""

    sent_s: float
    """When its last byte has left the wire; a delay comes on top, as long as there is one."""
    servo_id: int
    """The id when it was asked: a new one is acknowledged under the old."""
    slots: Sequence[int]
    baud: int
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class _Echo:
    """Request bytes that the adapter gives back."""

    sent_s: float
    data: bytes


class BusEmulator:
    """One half-duplex bus of emulated servos.

    Args:
        bank: their registers.
        baud: bits per second at which the host speaks to begin with; a byte takes ten bits.
        faults: what goes wrong on this bus.
        on_goal: is told servo id, time in seconds and new goal in ticks whenever a goal position changes.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        baud: int = 1_000_000,
        faults: BusFaults | None = None,
        on_goal: Callable[[int, float, int], None] | None = None,
    ) -> None:
        self.bank = bank
        self.faults = faults or BusFaults()
        self._on_goal = on_goal
        self._baud = baud
        self._byte_s = 10.0 / baud
        self._parser = PacketParser()
        self._last_feed_s = float("-inf")
        self._line_free_s = float("-inf")
        self._outbox: deque[_Answer | _Echo] = deque()

    def set_baud(self, baud: int) -> None:
        """The host speaks and listens at this speed from now on.

        To servos that are set to another one its bytes are noise, and what is on its way to it at another one
        comes as noise.
        """
        if baud != self._baud and baud > 0:
            self._baud, self._byte_s = baud, 10.0 / baud
            self._parser.reset()

    def feed(self, data: bytes, now_s: float) -> None:
        """Take what the host sent at ``now_s``; answers become due later."""
        if self._parser.pending and now_s - self._last_feed_s > IDLE_RESET_S:
            self._parser.reset()
        self._last_feed_s = now_s
        self._line_free_s = max(self._line_free_s, now_s) + len(data) * self._byte_s
        if self.faults.echo:
            self._outbox.append(_Echo(self._line_free_s, data))
        for packet in self._parser.feed(data):
            self._execute(packet)

    def hush(self) -> None:
        """Forget a begun request and the answers on their way: the line to the host was cut."""
        self._parser.reset()
        self._outbox.clear()

    def due(self, now_s: float) -> bytes:
        """Bytes that have reached the host by ``now_s``, removed from what is on its way."""
        arrived = bytearray()
        while self._outbox and self._outbox[0].sent_s + self.faults.delay_s <= now_s:
            sent = self._outbox.popleft()
            if isinstance(sent, _Echo):
                arrived += sent.data
            elif frame := self._frame(sent):
                arrived += self.faults.on_the_way(sent.servo_id, frame)
        return bytes(arrived)

    @property
    def next_due_s(self) -> float | None:
        """When the next answer reaches the host; ``None`` when none is on its way."""
        return self._outbox[0].sent_s + self.faults.delay_s if self._outbox else None

    # -- instructions ----------------------------------------------------------------------------------------

    def _execute(self, packet: Packet) -> None:
        match packet.code:
            case Code.SYNC_READ:
                self._sync_read(packet.data)
            case Code.SYNC_WRITE:
                self._sync_write(packet.data)
            case Code.PING if packet.servo_id == BROADCAST_ID:
                for servo_id in sorted(set(self._present().values())):
                    self._answer(servo_id, self._slots(servo_id))
            case _ if packet.servo_id == BROADCAST_ID:
                for slot in self._present():
                    self._single(slot, packet)
            case _:
                slots = self._slots(packet.servo_id)
                if slots:
                    self._addressed(slots, packet)

    def _addressed(self, slots: list[int], packet: Packet) -> None:
        servo_id, data = packet.servo_id, packet.data
        level = self.bank.read_slot(slots[0], _RESPONSE_LEVEL, 1)[0]
        if packet.code == Code.READ:
            if len(data) == 2 and 0 < data[1] <= MAX_DATA:
                self._answer(servo_id, slots, address=data[0], size=data[1])
        elif all(self._single(slot, packet) for slot in slots) and (level > 0 or packet.code == Code.PING):
            self._answer(servo_id, slots)

    def _single(self, slot: int, packet: Packet) -> bool:
        """Carry out an instruction on one servo; whether it was one that the servo knows."""
        data = packet.data
        match packet.code:
            case Code.PING:
                pass
            case Code.WRITE if len(data) >= 2:
                self._write(slot, data[0], data[1:])
            case Code.REG_WRITE if len(data) >= 2:
                self.bank.register_slot(slot, data[0], data[1:])
            case Code.ACTION:
                registered = self.bank.registered_slot(slot)
                if registered is not None:
                    self._write(slot, *registered)
            case Code.RESET | Code.RESET_NEW:
                self.bank.factory_reset_slot(slot)
            case Code.REBOOT:
                self.bank.reboot_slot(slot)
            case Code.RECENTRE:
                self.bank.write_slot(slot, _TORQUE_ENABLE, _SET_MIDDLE)
            case _:
                return False
        return True

    def _write(self, slot: int, address: int, data: bytes) -> None:
        watched = self._on_goal is not None and address < _GOAL.end and address + len(data) > _GOAL.address
        before = self.bank.read_slot(slot, _GOAL.address, _GOAL.size) if watched else b""
        self.bank.write_slot(slot, address, data)
        if self._on_goal is None or not watched:
            return
        after = self.bank.read_slot(slot, _GOAL.address, _GOAL.size)
        if after != before:
            goal = decode_signed(int.from_bytes(after, "little"), _GOAL.sign_bit or 15)
            self._on_goal(self.bank.read_slot(slot, _ID, 1)[0], self._last_feed_s, goal)

    def _sync_read(self, data: bytes) -> None:
        if len(data) < 3 or not 0 < data[1] <= MAX_DATA:
            return
        address, size = data[0], data[1]
        for servo_id in data[2:]:
            slots = self._slots(servo_id)
            if slots:
                self._answer(servo_id, slots, address=address, size=size)
            else:  # the next one waits out the turn of the silent one
                self._line_free_s += (STATUS_OVERHEAD + size) * self._byte_s

    def _sync_write(self, data: bytes) -> None:
        if len(data) < 2 or data[1] == 0 or (len(data) - 2) % (data[1] + 1):
            return
        address, size = data[0], data[1]
        for start in range(2, len(data), size + 1):
            for slot in self._slots(data[start]):  # looked up now: a write before it may have changed an id
                self._write(slot, address, data[start + 1 : start + 1 + size])

    # -- answers ---------------------------------------------------------------------------------------------

    def _present(self) -> Mapping[int, int]:
        hearing, muted = self.bank.hearing(self._baud), self.faults.muted
        return {slot: at for slot, at in hearing.items() if at not in muted} if muted else hearing

    def _slots(self, servo_id: int) -> list[int]:
        return [slot for slot, at in self._present().items() if at == servo_id]

    def _answer(self, servo_id: int, slots: Sequence[int], *, address: int = 0, size: int = 0) -> None:
        delay_s = self.bank.read_slot(slots[0], _RETURN_DELAY, 1)[0] * RETURN_DELAY_S
        self._line_free_s += delay_s + (STATUS_OVERHEAD + size) * self._byte_s
        self._outbox.append(_Answer(self._line_free_s, servo_id, slots, self._baud, address, size))

    def _frame(self, answer: _Answer) -> bytes:
        slots = [slot for slot in answer.slots if self.bank.hears(slot)]
        # Its cable is out by now; or its id is the broadcast's or beyond, which nobody can answer under.
        if not slots or answer.servo_id > MAX_ID:
            return b""
        data = self.bank.read_slot(slots[0], answer.address, answer.size) if answer.size else b""
        frame = status(answer.servo_id, self.bank.error_byte_slot(slots[0]), data)
        if answer.baud != self._baud:
            return self.faults.scramble(frame)
        if len(slots) > 1:
            # Two servos drive the line at once, not quite together: nothing legible is left.
            return bytes(byte & (byte << 1 & 0xFF) for byte in frame)
        return frame
