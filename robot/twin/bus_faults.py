"""What happens to frames on the twin's wire: lost, flipped, cut, late, echoed, behind garbage."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

HEADER_EVERY = 8
"""Garbage holds a false header (FF FF) this often, in bytes: the bytes that cost a parser most."""


@dataclass(slots=True)
class BusFaults:
    """Faults of one emulated bus; the emulator looks at them whenever a servo answers."""

    muted: set[int] = field(default_factory=set)
    """Servos whose cable is out: they neither hear nor answer."""
    lose: dict[int, int] = field(default_factory=dict)
    """Servo id -> how many of its next answers are lost on the way."""
    corrupt: dict[int, int] = field(default_factory=dict)
    """Servo id -> how many of its next answers have a flipped bit."""
    truncate: dict[int, int] = field(default_factory=dict)
    """Servo id -> how many of its next answers lack their end."""
    garbage: bytes = b""
    """Bytes that come once, before the next answer."""
    delay_s: float = 0.0
    """How late every answer arrives; a host that has long asked again gets the old answer first."""
    echo: bool = False
    """Whether the adapter gives the host back what it sends, as one without a gate on its input does."""
    lose_share: float = 0.0
    """Share of all answers that is lost, 0..1."""
    corrupt_share: float = 0.0
    """Share of all answers that has one flipped bit somewhere, 0..1."""
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    """Draws which answers an unreliable bus spoils; seeded, so a run can be had again."""

    def make_garbage(self, count: int) -> None:
        """Let ``count`` random bytes, false headers among them, come before the next answer."""
        data = bytearray(self.rng.bytes(count))
        for start in range(0, count - 1, HEADER_EVERY):
            data[start : start + 2] = b"\xff\xff"
        self.garbage = bytes(data)

    def scramble(self, frame: bytes) -> bytes:
        """What a receiver makes of bytes at a speed that is not its own."""
        return self.rng.bytes(len(frame))

    def on_the_way(self, servo_id: int, frame: bytes) -> bytes:
        """What is left of one answer when it reaches the host."""
        garbage, self.garbage = self.garbage, b""
        if self._used_up(self.lose, servo_id) or self._drawn(self.lose_share):
            return garbage
        if self._used_up(self.corrupt, servo_id):
            # The last data byte: header, id and length still look right, only the checksum knows.
            frame = _flipped(frame, 8 * (len(frame) - 2) + 4)
        elif self._drawn(self.corrupt_share):
            frame = _flipped(frame, int(self.rng.integers(8 * len(frame))))
        if self._used_up(self.truncate, servo_id):
            frame = frame[: len(frame) // 2]
        return garbage + frame

    def _drawn(self, share: float) -> bool:
        return share > 0.0 and float(self.rng.random()) < share

    @staticmethod
    def _used_up(counts: dict[int, int], servo_id: int) -> bool:
        left = counts.get(servo_id, 0)
        counts[servo_id] = max(0, left - 1)
        return left > 0


def _flipped(frame: bytes, bit: int) -> bytes:
    at = bit // 8
    return frame[:at] + bytes((frame[at] ^ (1 << bit % 8),)) + frame[at + 1 :]
