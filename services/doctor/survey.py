"""What is on an arm's bus, before it is judged: who answers, where, and how reliably. Reads only."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from robot.bus import FeetechBus, decode
from robot.eeprom import BAUD_RATES, SetupBus
from robot.errors import ServoError
from robot.fingerprint import Servo, read_servos
from robot.joints import SERVO_IDS
from robot.packets import STATUS_OVERHEAD
from robot.registers import REGISTERS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE
from robot.seams import FloatArray

PATIENCE_S = 0.1
MARGIN_S = 0.02
"""Ten times what the controller waits: a late answer is a matter of latency and not a dead servo."""
READS = 200
"""Block reads from which latency and reliability are taken, some half a second."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Who is on the bus.

    Attributes:
        servos: id -> what it holds, of all that answer legibly at 1 Mbaud.
        silent: ids of the six from which nothing comes.
        colliding: ids of the six from which only noise comes: several servos answer at once.
        elsewhere: silent id -> the baud rate at which it does answer.
    """

    servos: dict[int, Servo]
    silent: tuple[int, ...] = ()
    colliding: tuple[int, ...] = ()
    elsewhere: dict[int, int] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[int, ...]:
        """Those of the six that answer as they should, ascending."""
        return tuple(i for i in SERVO_IDS.values() if i in self.servos)


@dataclass(frozen=True, slots=True)
class Samples:
    """Many reads of the block 56..70 at rest; arrays of shape (reads, ids), NaN where an answer was missing.

    Attributes:
        ids: servo ids, in the order of the columns.
        took_ms: duration of each read in which nothing was missing.
        wire_ms: what its bytes take on the wire.
        dropped: reads in which bytes came that were no packet.
    """

    ids: tuple[int, ...]
    voltage_v: FloatArray
    temperature_c: FloatArray
    status: FloatArray
    took_ms: FloatArray
    wire_ms: float
    dropped: int

    @property
    def lost(self) -> FloatArray:
        """Share of the answers of each servo that did not come, or came broken; shape (ids,)."""
        share: FloatArray = np.isnan(self.voltage_v).mean(axis=0)
        return share


def survey(port: str) -> Survey:
    """Look who is there; only where one of the six is missing, at other baud rates too.

    Raises:
        PortError: the port cannot be had, or is gone.
    """
    with FeetechBus(port, patience_s=PATIENCE_S, margin_s=MARGIN_S) as bus:
        servos = {servo.servo_id: servo for servo in read_servos(bus)}
        missing = [i for i in SERVO_IDS.values() if i not in servos]
        colliding = tuple(i for i in missing if _makes_noise(bus, i))
    silent = tuple(i for i in missing if i not in colliding)
    elsewhere = _at_other_rates(port, silent) if silent else {}
    return Survey(servos, silent, colliding, elsewhere)


def _makes_noise(bus: FeetechBus, servo_id: int) -> bool:
    """Whether something comes back that is no packet. A block differs between servos, a ping may not."""
    before = bus.counters.dropped_bytes
    try:
        bus.read_block(servo_id, 0, REGISTERS["present_current"].end)
    except ServoError:
        return bus.counters.dropped_bytes > before
    return False


def _at_other_rates(port: str, silent: tuple[int, ...]) -> dict[int, int]:
    found: dict[int, int] = {}
    with SetupBus(port, patience_s=PATIENCE_S / 2, margin_s=MARGIN_S, retries=0) as bus:
        for baud in BAUD_RATES[1:]:
            if not bus.try_baud(baud):
                continue
            found |= {i: baud for i in silent if i not in found and bus.answers(i)}
    return found


def sample(port: str, ids: tuple[int, ...], reads: int = READS) -> Samples:
    """Read the present values many times, asking nobody twice. Raises PortError."""
    shape = (reads, len(ids))
    names = ("present_voltage", "present_temperature")
    values = {name: np.full(shape, np.nan) for name in (*names, "status")}
    took_ms, dropped = [], 0
    with FeetechBus(port, patience_s=PATIENCE_S, margin_s=MARGIN_S, retries=0) as bus:
        for row in range(reads):
            before, start_s = bus.counters.dropped_bytes, time.perf_counter()
            reply = bus.sync_read(ids, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE)
            if not reply.missing:
                took_ms.append(1e3 * (time.perf_counter() - start_s))
            dropped += bus.counters.dropped_bytes > before
            for column, servo_id in enumerate(ids):
                packet = reply.replies.get(servo_id)
                if packet is None:
                    continue
                values["status"][row, column] = packet.code
                for name in names:
                    offset = REGISTERS[name].address - STATE_BLOCK_ADDRESS
                    values[name][row, column] = decode(REGISTERS[name], packet.data, offset)
        n_bytes = 8 + len(ids) + len(ids) * (STATUS_OVERHEAD + STATE_BLOCK_SIZE)
        wire_ms = 1e3 * bus.wire_s(n_bytes)
    return Samples(
        ids,
        values["present_voltage"] / 10.0,
        values["present_temperature"],
        values["status"],
        np.array(took_ms),
        wire_ms,
        dropped,
    )
