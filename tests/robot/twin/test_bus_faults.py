"""What a wire may do to frames, and what our parser makes of it."""

from __future__ import annotations

import numpy as np

from robot import packets
from robot.packets import PacketParser
from robot.twin.bus_faults import BusFaults
from robot.twin.emulator import BusEmulator
from robot.twin.world import World

FRAME = packets.status(1, 0, bytes(15))


def test_garbage_comes_once_and_hides_no_answer() -> None:
    faults = BusFaults()
    faults.make_garbage(40)
    first, second = faults.on_the_way(1, FRAME), faults.on_the_way(1, FRAME)
    assert len(first) == 40 + len(FRAME)
    assert first.count(packets.HEADER) >= 5
    assert second == FRAME
    # A false header may make the parser wait for the next frame, never lose it.
    assert len(PacketParser.for_status(15).feed(first + second)) == 2


def test_a_truncated_answer_lacks_its_end() -> None:
    faults = BusFaults(truncate={1: 1})
    cut = faults.on_the_way(1, FRAME)
    assert 0 < len(cut) < len(FRAME)
    assert FRAME.startswith(cut)
    assert faults.on_the_way(1, FRAME) == FRAME


def test_an_unreliable_bus_spoils_its_shares_and_the_same_ones_again() -> None:
    def fates() -> list[bytes]:
        faults = BusFaults(lose_share=0.2, corrupt_share=0.1)
        return [faults.on_the_way(1, FRAME) for _ in range(5000)]

    seen = fates()
    assert seen == fates()
    lost = np.mean([frame == b"" for frame in seen])
    flipped = [frame for frame in seen if frame not in (b"", FRAME)]
    assert abs(lost - 0.2) < 0.03
    assert abs(len(flipped) / len(seen) - 0.08) < 0.02
    assert all(not PacketParser.for_status(15).feed(frame) for frame in flipped)
    bits = {int.from_bytes(frame) ^ int.from_bytes(FRAME) for frame in flipped}
    assert all(bit.bit_count() == 1 for bit in bits)
    assert len(bits) > 100  # anywhere in the frame


def test_an_echo_comes_before_the_answer() -> None:
    bus = BusEmulator(World().follower, faults=BusFaults(echo=True))
    request = packets.ping(1)
    bus.feed(request, 0.0)
    assert bus.due(len(request) * 10e-6) == request
    assert bus.due(1.0) == packets.status(1, 0)


def test_goal_changes_are_told_once_with_their_time() -> None:
    told: list[tuple[int, float, int]] = []
    bus = BusEmulator(World().follower, on_goal=lambda *change: told.append(change))
    for now_s, ticks in ((1.0, 1000), (2.0, 1000), (3.0, 1001)):
        bus.feed(packets.sync_write(42, {2: ticks.to_bytes(2, "little")}), now_s)
    bus.feed(packets.write(3, 41, b"\x10" + (0x8005).to_bytes(2, "little")), 4.0)
    bus.feed(packets.write(2, 41, b"\x07"), 5.0)
    assert told == [(2, 1.0, 1000), (2, 3.0, 1001), (3, 4.0, -5)]
