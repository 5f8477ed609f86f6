"""A million byte strings through the codec: nothing is raised, and no more is believed than chance allows.

A checksum of one byte lets one wrong frame in 256 pass. What the parser accepts of strings that cannot hold a
packet, or hold a changed one, is held against that chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from robot import packets
from robot.packets import HEADER, MAX_ID, STATUS_OVERHEAD, Packet, PacketParser

pytestmark = pytest.mark.slow

SIZE = 15
FRAME = STATUS_OVERHEAD + SIZE
N_RANDOM, N_FRAMES, N_CHANGED, N_HOSTILE, N_AROUND = 300_000, 300_000, 200_000, 100_000, 100_000
SIGMAS = 5.0
Bytes = NDArray[np.uint8]


def parsed(data: bytes) -> list[Packet]:
    """What is found; each packet stands in the data as a whole frame with a right checksum, in order."""
    parser = PacketParser.for_status(SIZE)
    found = parser.feed(data)
    assert sum(packet.size for packet in found) + parser.dropped + parser.pending == len(data)
    position = 0
    for packet in found:
        frame = packets.encode(packet.servo_id, packet.code, packet.data)
        position = data.index(frame, position) + len(frame)
    return found


def rows(table: Bytes) -> Iterator[bytes]:
    return map(bytes, table)


def true_frames(rng: np.random.Generator, count: int) -> Bytes:
    """Status packets with a right checksum, shape (count, FRAME)."""
    frames = rng.integers(0, 256, (count, FRAME), dtype=np.uint8)
    frames[:, :2] = 0xFF
    frames[:, 2] = rng.integers(0, MAX_ID + 1, count)
    frames[:, 3] = SIZE + 2
    frames[:, 4] &= 0x7F
    frames[:, -1] = ~frames[:, 2:-1].sum(axis=1, dtype=np.uint8)
    return frames


def within_chance(count: int, tries: int, chance: float) -> bool:
    expected = tries * chance
    return abs(count - expected) <= SIGMAS * math.sqrt(expected * (1.0 - chance)) + 1.0


def test_random_strings_hold_no_packets() -> None:
    rng = np.random.default_rng(0)
    longest = 48
    stream = rng.integers(0, 256, N_RANDOM * longest, dtype=np.uint8).tobytes()
    lengths = rng.integers(0, longest + 1, N_RANDOM).tolist()
    accepted = sum(
        len(parsed(stream[i * longest : i * longest + length])) for i, length in enumerate(lengths)
    )
    # What each place of a string may be by chance: header, id, one length that fits, error byte, checksum.
    fits = sum(max(0, n - size + 1) for n in lengths for size in range(STATUS_OVERHEAD, FRAME + 1))
    expected = fits * 256.0**-2 * (MAX_ID + 1) / 256 * 256.0**-1 * 0.5 * 256.0**-1
    assert expected < 0.1
    assert accepted <= 2  # chance has it in fewer than one of 5000 seeds


def test_frames_with_random_checksums_pass_as_often_as_one_byte_lets_them() -> None:
    rng = np.random.default_rng(1)
    frames = true_frames(rng, N_FRAMES)
    frames[:, -1] = rng.integers(0, 256, N_FRAMES, dtype=np.uint8)
    accepted = sum(len(parsed(frame)) for frame in rows(frames))
    assert within_chance(accepted, N_FRAMES, 1.0 / 256.0)


def test_changed_packets_pass_only_where_the_changes_cancel() -> None:
    rng = np.random.default_rng(2)
    frames = true_frames(rng, N_CHANGED)
    changes = rng.integers(1, 256, (N_CHANGED, 2), dtype=np.uint8)
    one, two = np.arange(N_CHANGED), np.arange(N_CHANGED)[N_CHANGED // 2 :]
    frames[one, rng.integers(5, 12, N_CHANGED)] += changes[:, 0]
    frames[two, rng.integers(12, FRAME - 1, len(two))] += changes[two, 1]
    accepted = np.array([len(parsed(frame)) for frame in rows(frames)])
    assert accepted[: N_CHANGED // 2].sum() == 0  # a single wrong byte is always found
    assert within_chance(int(accepted[two].sum()), len(two), 1.0 / 255.0)


def test_strings_full_of_headers_and_lengths_raise_nothing() -> None:
    rng = np.random.default_rng(3)
    letters = np.frombuffer(bytes((0xFF, 0xFF, 0xFF, 0, 1, 2, 3, 6, 17, 0xFC, 0xFD, 0xFE)), np.uint8)
    for data in rows(letters[rng.integers(0, len(letters), (N_HOSTILE, 40))]):
        parsed(data)


def test_an_intact_packet_amid_garbage_is_found() -> None:
    """Except where chance makes a frame of the garbage before it, whose checksum takes in a part of it."""
    rng = np.random.default_rng(4)
    frames = true_frames(rng, N_AROUND)
    head = rng.integers(0, 256, (N_AROUND, 24), dtype=np.uint8)
    begun = rng.integers(0, 20, N_AROUND)
    for i, byte in enumerate((*HEADER, 1, SIZE + 2, 0)):  # each head has the beginning of a packet somewhere
        head[np.arange(N_AROUND), begun + i] = byte
    tail = np.zeros((N_AROUND, FRAME), np.uint8)  # a false frame that began before the packet ends here
    lost = 0
    for data, frame in zip(rows(np.hstack((head, frames, tail))), rows(frames), strict=True):
        true = Packet(frame[2], frame[4], frame[5:-1])
        found = parsed(data)
        if true not in found:
            assert found  # something else was believed in its place
            lost += 1
    assert lost <= N_AROUND / 256.0 + SIGMAS * math.sqrt(N_AROUND / 256.0)
