"""The codec, byte by byte; captures are from the public register notes of MyCobot.jl (MIT)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot import packets
from robot.packets import Packet, PacketParser

REQUEST = bytes.fromhex("FF FF FE 0A 82 38 0F 01 02 03 04 05 06 19")
REPLY = bytes.fromhex("FF FF 01 11 00 80 08 00 00 00 00 4C 19 00 00 00 80 08 00 00 78")

PACKETS = st.builds(
    Packet, st.integers(0, packets.MAX_ID), st.integers(0, 0x7F), st.binary(max_size=packets.MAX_DATA)
)


def frame(packet: Packet) -> bytes:
    return packets.encode(packet.servo_id, packet.code, packet.data)


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (packets.ping(1), "FF FF 01 02 01 FB"),
        (packets.status(1, 0), "FF FF 01 02 00 FC"),
        (packets.ping(packets.BROADCAST_ID), "FF FF FE 02 01 FE"),
        (packets.read(1, 56, 2), "FF FF 01 04 02 38 02 BE"),
        (packets.status(1, 0, b"\x80\x08"), "FF FF 01 04 00 80 08 72"),
        (packets.write(1, 42, b"\x00\x08"), "FF FF 01 05 03 2A 00 08 C4"),
        (packets.reg_write(1, 42, b"\x00\x08"), "FF FF 01 05 04 2A 00 08 C3"),
        (packets.action(), "FF FF FE 02 05 FA"),
        (packets.sync_write(40, {1: b"\x01", 2: b"\x00"}), "FF FF FE 08 83 28 01 01 01 02 00 49"),
    ],
)
def test_literal_bytes(built: bytes, expected: str) -> None:
    assert built == bytes.fromhex(expected)


def test_captured_sync_read_request() -> None:
    assert packets.sync_read(range(1, 7), 56, 15) == REQUEST


def test_captured_status_packet() -> None:
    (packet,) = PacketParser.for_status(15).feed(REPLY)
    assert (packet.servo_id, packet.code, len(packet.data)) == (1, 0, 15)
    assert int.from_bytes(packet.data[0:2], "little") == 2176
    assert packet.data[6] == 76
    assert packet.data[7] == 25
    assert packet.size == len(REPLY)


@pytest.mark.parametrize(
    "build",
    [
        lambda: packets.encode(255, 1),
        lambda: packets.encode(-1, 1),
        lambda: packets.encode(1, 256),
        lambda: packets.encode(1, 1, bytes(packets.MAX_DATA + 1)),
        lambda: packets.sync_write(42, {1: b"\x00", 2: b"\x00\x00"}),
        lambda: packets.sync_write(42, {}),
    ],
)
def test_impossible_packets_are_refused(build: object) -> None:
    with pytest.raises(ValueError):
        build()  # type: ignore[operator]


@given(st.lists(PACKETS, max_size=4), st.data())
def test_any_cut_of_the_stream_gives_the_same_packets(expected: list[Packet], data: st.DataObject) -> None:
    stream = b"".join(map(frame, expected))
    parser, found, position = PacketParser(), [], 0
    while position < len(stream):
        step = data.draw(st.integers(1, len(stream) - position))
        found += parser.feed(stream[position : position + step])
        position += step
    assert found == expected
    assert parser.dropped == 0
    assert parser.pending == 0


@given(st.binary(max_size=400))
def test_any_bytes_no_exception_and_no_false_accept(garbage: bytes) -> None:
    for parser in (PacketParser(), PacketParser.for_status(15)):
        found = parser.feed(garbage)
        position = 0
        for packet in found:  # every packet stands in the stream as a whole frame, in order
            position = garbage.index(frame(packet), position) + packet.size
        assert sum(packet.size for packet in found) + parser.dropped + parser.pending == len(garbage)


@given(PACKETS, st.integers(min_value=0), st.integers(1, 255))
def test_one_changed_byte_is_never_accepted_as_the_packet(packet: Packet, where: int, mask: int) -> None:
    stream = bytearray(frame(packet))
    stream[where % len(stream)] ^= mask
    assert packet not in PacketParser().feed(bytes(stream))


@given(st.binary(max_size=40), PACKETS.filter(lambda packet: len(packet.data) <= 15))
def test_good_packet_behind_garbage_is_found(head: bytes, packet: Packet) -> None:
    # A frame that begins in the garbage can claim at most 21 bytes from a reader of 15-byte blocks: behind so
    # many quiet bytes nothing of it is left, and the parser takes what comes next.
    parser = PacketParser.for_status(15)
    parser.feed(head + bytes(21))
    assert parser.feed(frame(packet)) == [packet]


def test_header_bytes_before_a_packet_are_skipped() -> None:
    parser = PacketParser.for_status(15)
    assert len(parser.feed(b"\xff\xff\xff" + REPLY)) == 1
    assert parser.dropped == 3


def test_truncated_packet_does_not_swallow_the_next() -> None:
    assert [p.data for p in PacketParser.for_status(15).feed(REPLY[:-4] + REPLY)] == [REPLY[5:-1]]


def test_corrupt_length_does_not_make_a_reader_wait() -> None:
    broken = bytearray(REPLY)
    broken[3] = 0xF0
    assert len(PacketParser.for_status(15).feed(bytes(broken) + REPLY)) == 1


def test_reset_forgets_a_begun_packet() -> None:
    parser = PacketParser()
    parser.feed(REPLY[:7])
    parser.reset()
    assert parser.feed(REPLY) == [Packet(1, 0, REPLY[5:-1])]
