"""One record per control tick, in a ring of shared memory that holds the last seconds."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from robot.errors import SegmentError
from robot.joints import N_JOINTS
from robot.seqlock import SlotRing

MODES: tuple[str, ...] = ("off", "hold", "starting", "ready", "running", "parking", "fault")
"""Modes of the controller; a record's ``mode`` is an index into this."""

SOURCES: tuple[str, ...] = ("none", "policy", "leader", "teleop", "other")
"""What may drive the arm in mode ``running``; a record's ``source`` is an index into this."""

PEOPLE = frozenset({"leader", "teleop"})
"""Those of the sources in which a person drives."""

TELEMETRY = np.dtype(
    [
        ("tick", "<i8"),
        ("time_s", "<f8"),  # monotonic, start of the tick
        ("mode", "<u1"),  # index into MODES
        ("source", "<u1"),  # index into SOURCES: what drives; "none" in every mode but running
        ("run_id", "<i8"),  # 0: no run yet
        ("state_age_ticks", "<i8"),  # 0: read in this tick; -1: never read
        ("position", "<f8", N_JOINTS),  # user units from here on
        ("velocity", "<f8", N_JOINTS),
        ("load_pct", "<f8", N_JOINTS),
        ("current_ma", "<f8", N_JOINTS),
        ("voltage_v", "<f8", N_JOINTS),
        ("temperature_c", "<f8", N_JOINTS),
        ("status", "<u1", N_JOINTS),  # error byte of each servo
        ("target", "<f8", N_JOINTS),  # what the source asked for; equals goal where it said nothing
        ("goal", "<f8", N_JOINTS),  # what was sent
        ("tool_m", "<f8", 3),
        ("chunk_age_ticks", "<i8"),  # age of the newest chunk in use; -1: none
        ("lateness_ms", "<f8"),  # deadline to start of this tick
        ("lateness_p50_ms", "<f8"),  # over the last minute
        ("lateness_p99_ms", "<f8"),
        ("lateness_p999_ms", "<f8"),
        ("lateness_max_ms", "<f8"),
        ("busy_ms", "<f8"),  # length of the tick before this one
        ("missed", "<i8"),  # ticks skipped since start
        ("clamped", "<i8"),  # ticks whose target was out of range, since start
        ("rate_limited", "<i8"),
        ("table_limited", "<i8"),
        ("self_limited", "<i8"),
        ("box_limited", "<i8"),
        ("non_finite", "<i8"),
        ("bus_errors", "<i8"),  # reads and writes that failed after their retries
        ("bus_retries", "<i8"),  # from here on since the port was opened, see robot.bus.BusCounters
        ("bus_lost", "<i8"),
        ("bus_dropped_bytes", "<i8"),
    ]
)
"""Layout of a record; every number in it is finite."""

_LAYOUT = zlib.crc32(repr(TELEMETRY.descr).encode())
RING_SLOTS = 1024
"""17 s at 60 Hz, 5 s at 200 Hz."""

Record = NDArray[np.void]
"""Zero-dimensional array of dtype ``TELEMETRY``."""


def person_drives(record: Record) -> bool:
    """Whether a person drove the arm in this tick."""
    return SOURCES[int(record["source"])] in PEOPLE


def empty_record() -> Record:
    """A record of zeros."""
    return np.zeros((), TELEMETRY)


class TelemetryRing:
    """The last records of a controller. Ticks grow, with gaps where some were missed."""

    def __init__(self, ring: SlotRing) -> None:
        self._ring = ring

    @classmethod
    def create(cls, name: str) -> TelemetryRing:
        """Open for writing; adopts what a killed controller left. Raises SegmentError (SlotRing.create)."""
        words = (_LAYOUT, 0, 0, 0)
        return cls(SlotRing.create(name, slots=RING_SLOTS, slot_size=TELEMETRY.itemsize, user_words=words))

    @classmethod
    def attach(cls, name: str) -> TelemetryRing:
        """Open for reading.

        Raises:
            SegmentError: there is no such segment, or it was written by another version.
        """
        ring = SlotRing.attach(name)
        if ring.user_words[0] != _LAYOUT:
            ring.close()
            raise SegmentError(f"telemetry {name} is of another version: restart all processes")
        return cls(ring)

    def append(self, record: Record) -> None:
        """Publish one record."""
        self._ring.write(record.tobytes())

    def newest(self) -> Record | None:
        """The newest record; ``None`` before the first."""
        newest = self._ring.newest()
        return None if newest is None else _record(newest[1])

    def since(self, tick: int) -> list[Record]:
        """Records with a later tick than that, oldest first, as far back as the ring goes."""
        found: list[Record] = []
        sequence = self._ring.head
        oldest = max(1, sequence - self._ring.slots + 1)
        while sequence >= oldest:
            payload = self._ring.read(sequence)
            if payload is None:  # overwritten while we read: so are all before it
                break
            record = _record(payload)
            if record["tick"] <= tick:
                break
            found.append(record)
            sequence -= 1
        found.reverse()
        return found

    def replaced(self) -> bool:
        """Whether the segment was unlinked or replaced, so that one should re-attach."""
        return self._ring.replaced()

    def close(self) -> None:
        """Unmap; the segment stays."""
        self._ring.close()

    def unlink(self) -> None:
        """Remove the segment's name."""
        self._ring.unlink()


def _record(payload: bytearray) -> Record:
    return np.frombuffer(payload, TELEMETRY, 1).reshape(())
