"""The protocol as the servos speak it, with the real register bank and a clock that the test turns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot import packets
from robot.packets import Code, Packet, PacketParser
from robot.registers import REGISTERS, StatusBit
from robot.twin.emulator import IDLE_RESET_S, BusEmulator
from robot.twin.servo import ServoBank
from robot.twin.world import World

BYTE_S = 10e-6


@pytest.fixture
def bank() -> ServoBank:
    bank = World().follower
    bank.reset_pose(np.zeros(6))
    return bank


@pytest.fixture
def bus(bank: ServoBank) -> BusEmulator:
    return BusEmulator(bank)


def ask(bus: BusEmulator, request: bytes, now_s: float = 0.0) -> list[Packet]:
    bus.feed(request, now_s)
    return PacketParser().feed(bus.due(now_s + 1.0))


def put(bank: ServoBank, servo_id: int, name: str, value: int) -> None:
    register = REGISTERS[name]
    bank.write(servo_id, register.address, value.to_bytes(register.size, "little"))


def get(bank: ServoBank, servo_id: int, name: str) -> int:
    register = REGISTERS[name]
    return int.from_bytes(bank.read(servo_id, register.address, register.size), "little")


def test_ping_is_answered_as_in_the_manual(bus: BusEmulator) -> None:
    bus.feed(bytes.fromhex("FF FF 01 02 01 FB"), 0.0)
    assert bus.due(1.0) == bytes.fromhex("FF FF 01 02 00 FC")


def test_broadcast_ping_is_answered_by_all(bus: BusEmulator) -> None:
    assert [p.servo_id for p in ask(bus, packets.ping(packets.BROADCAST_ID))] == [1, 2, 3, 4, 5, 6]


def test_read_model(bus: BusEmulator) -> None:
    assert ask(bus, packets.read(3, 3, 2)) == [Packet(3, 0, (777).to_bytes(2, "little"))]


def test_absent_servo_is_silent(bus: BusEmulator) -> None:
    assert ask(bus, packets.ping(7)) == []


def test_sync_read_in_listed_order_at_wire_time(bus: BusEmulator) -> None:
    request = packets.sync_read((4, 1, 6), 56, 15)
    bus.feed(request, 10.0)
    first_s = 10.0 + (len(request) + 21) * BYTE_S
    arrivals: list[tuple[float, int]] = []
    while (due_s := bus.next_due_s) is not None:
        assert bus.due(due_s - 1e-9) == b""
        (packet,) = PacketParser().feed(bus.due(due_s))
        arrivals.append((due_s, packet.servo_id))
    assert [servo_id for _, servo_id in arrivals] == [4, 1, 6]
    np.testing.assert_allclose([due for due, _ in arrivals], first_s + np.arange(3) * 21 * BYTE_S)


def test_return_delay_is_in_units_of_two_microseconds(bus: BusEmulator, bank: ServoBank) -> None:
    put(bank, 1, "return_delay", 250)
    bus.feed(packets.ping(1), 0.0)
    assert bus.next_due_s == pytest.approx(12 * BYTE_S + 500e-6)


def test_silent_servo_leaves_its_turn_empty(bus: BusEmulator) -> None:
    bus.faults.muted.add(2)
    request = packets.sync_read((1, 2, 3), 56, 2)
    bus.feed(request, 0.0)
    arrivals: list[tuple[float, int]] = []
    while (due_s := bus.next_due_s) is not None:
        (packet,) = PacketParser().feed(bus.due(due_s))
        arrivals.append((due_s, packet.servo_id))
    assert [servo_id for _, servo_id in arrivals] == [1, 3]
    turns = np.array([1, 3])  # of 8 bytes each; the second is nobody's
    np.testing.assert_allclose([due for due, _ in arrivals], (len(request) + 8 * turns) * BYTE_S)


def test_write_is_acknowledged_and_done(bus: BusEmulator, bank: ServoBank) -> None:
    assert ask(bus, packets.write(2, 41, b"\x32")) == [Packet(2, 0, b"")]
    assert get(bank, 2, "acceleration") == 0x32


def test_response_level_0_answers_only_ping_and_read(bus: BusEmulator, bank: ServoBank) -> None:
    put(bank, 2, "response_level", 0)
    assert ask(bus, packets.write(2, 41, b"\x32")) == []
    assert get(bank, 2, "acceleration") == 0x32
    assert len(ask(bus, packets.read(2, 41, 1), 2.0)) == 1
    assert len(ask(bus, packets.ping(2), 4.0)) == 1


def test_broadcast_write_reaches_all_and_nobody_answers(bus: BusEmulator, bank: ServoBank) -> None:
    assert ask(bus, packets.write(packets.BROADCAST_ID, 41, b"\x07")) == []
    assert [get(bank, i, "acceleration") for i in bank.ids] == [7] * 6


def test_sync_write(bus: BusEmulator, bank: ServoBank) -> None:
    assert ask(bus, packets.sync_write(42, {1: b"\x00\x08", 5: b"\x01\x08"})) == []
    assert get(bank, 1, "goal_position") == 2048
    assert get(bank, 5, "goal_position") == 2049


def test_sync_write_that_names_an_id_twice_renames_it_once(bus: BusEmulator, bank: ServoBank) -> None:
    ask(bus, packets.encode(packets.BROADCAST_ID, Code.SYNC_WRITE, bytes((5, 1, 1, 9, 1, 10))))
    assert bank.ids == (9, 2, 3, 4, 5, 6)


def test_malformed_sync_write_writes_nothing(bus: BusEmulator, bank: ServoBank) -> None:
    before = get(bank, 1, "goal_position")
    ask(bus, packets.encode(packets.BROADCAST_ID, Code.SYNC_WRITE, b"\x2a\x02\x01\x00"))
    assert get(bank, 1, "goal_position") == before


def test_reg_write_waits_for_action_and_shows_its_flag(bus: BusEmulator, bank: ServoBank) -> None:
    before = get(bank, 1, "goal_position")
    assert ask(bus, packets.reg_write(1, 42, b"\x00\x08")) == [Packet(1, 0, b"")]
    assert get(bank, 1, "goal_position") == before
    assert ask(bus, packets.read(1, 64, 1), 2.0) == [Packet(1, 0, b"\x01")]
    assert ask(bus, packets.action(), 4.0) == []
    assert get(bank, 1, "goal_position") == 2048
    assert ask(bus, packets.read(1, 64, 1), 6.0) == [Packet(1, 0, b"\x00")]


@pytest.mark.parametrize("opcode", [Code.RESET, Code.RESET_NEW])
def test_factory_reset_keeps_the_id(bus: BusEmulator, bank: ServoBank, opcode: Code) -> None:
    assert ask(bus, packets.encode(4, opcode)) == [Packet(4, 0, b"")]
    assert get(bank, 4, "homing_offset") == 0
    assert get(bank, 4, "max_position") == 4095


def test_reboot_forgets_ram(bus: BusEmulator, bank: ServoBank) -> None:
    put(bank, 4, "torque_enable", 1)
    assert ask(bus, packets.encode(4, Code.REBOOT)) == [Packet(4, 0, b"")]
    assert get(bank, 4, "torque_enable") == 0


def test_recentre_makes_the_present_position_2048(bus: BusEmulator, bank: ServoBank) -> None:
    ask(bus, packets.encode(4, Code.RECENTRE))
    assert get(bank, 4, "present_position") == pytest.approx(2048, abs=1)


def test_error_byte_comes_with_every_answer(bus: BusEmulator, bank: ServoBank) -> None:
    bank.overloaded[2] = True
    answers = ask(bus, packets.sync_read((2, 3), 56, 15))
    assert [p.code for p in answers] == [0, StatusBit.OVERLOAD]


def test_new_id_answers_its_own_write_under_the_old_one(bus: BusEmulator, bank: ServoBank) -> None:
    put(bank, 6, "lock", 0)
    assert ask(bus, packets.write(6, 5, b"\x09")) == [Packet(6, 0, b"")]
    assert bank.ids == (1, 2, 3, 4, 5, 9)
    assert len(ask(bus, packets.ping(9), 2.0)) == 1


def test_double_ids_collide(bus: BusEmulator, bank: ServoBank) -> None:
    put(bank, 2, "id", 1)
    bus.feed(packets.ping(1), 0.0)
    assert PacketParser.for_status(15).feed(bus.due(1.0)) == []


@pytest.mark.parametrize("value", [254, 255])
def test_a_servo_whose_id_is_no_id_says_nothing_and_can_be_given_another(
    bus: BusEmulator, bank: ServoBank, value: int
) -> None:
    assert ask(bus, packets.write(4, 5, bytes((value,)))) == [Packet(4, 0, b"")]
    assert bank.ids == (1, 2, 3, value, 5, 6)
    assert [p.servo_id for p in ask(bus, packets.ping(packets.BROADCAST_ID), 2.0)] == [1, 2, 3, 5, 6]
    assert [p.servo_id for p in ask(bus, packets.sync_read((1, value, 2), 56, 2), 4.0)] == [1, 2]
    bank.plug({3})
    assert ask(bus, packets.write(packets.BROADCAST_ID, 5, b"\x04"), 6.0) == []
    assert bank.ids == (4,)


@pytest.mark.parametrize("fault", ["lose", "corrupt", "truncate", "lose_share", "corrupt_share"])
@pytest.mark.parametrize("way", ["deaf", "unplugged", "renamed"])
def test_faults_of_an_answer_whose_servo_has_gone(
    bus: BusEmulator, bank: ServoBank, fault: str, way: str
) -> None:
    bus.feed(packets.ping(4), 0.0)
    setattr(bus.faults, fault, 1.0 if fault.endswith("share") else {4: 1})
    match way:
        case "deaf":
            bank.overload(4, deaf=True)
        case "unplugged":
            bank.plug({0, 1})
        case "renamed":
            bank.force(4, "id", 255)
    assert PacketParser().feed(bus.due(1.0)) == []
    bus.faults.lose_share = bus.faults.corrupt_share = 0.0
    assert len(ask(bus, packets.ping(1), 2.0)) == 1


def test_servos_with_one_id_at_two_speeds_do_not_meet(bus: BusEmulator, bank: ServoBank) -> None:
    bank.force(2, "baud_rate", 1)
    bank.force(2, "id", 3)
    assert ask(bus, packets.write(3, 41, b"\x07")) == [Packet(3, 0, b"")]
    assert ask(bus, packets.read(3, 41, 1), 2.0) == [Packet(3, 0, b"\x07")]
    bus.set_baud(500_000)
    assert ask(bus, packets.read(3, 41, 1), 4.0) != [Packet(3, 0, b"\x07")]


def test_lost_corrupt_noisy_and_late_answers(bus: BusEmulator) -> None:
    bus.faults.lose[1] = 1
    assert ask(bus, packets.read(1, 3, 2), 0.0) == []
    assert len(ask(bus, packets.read(1, 3, 2), 2.0)) == 1
    bus.faults.corrupt[1] = 1
    assert ask(bus, packets.read(1, 3, 2), 4.0) == []
    bus.faults.garbage = b"\xff\xff\x01"
    bus.faults.delay_s = 0.5
    bus.feed(packets.ping(1), 6.0)
    assert bus.due(6.4) == b""
    assert bus.due(6.6) == b"\xff\xff\x01" + packets.status(1, 0)


def test_a_delay_shifts_answers_and_ends_at_once(bus: BusEmulator) -> None:
    request = packets.sync_read(bus.bank.ids, 56, 15)
    bus.faults.delay_s = 0.05
    for tick in range(60):  # a host that asks on without waiting
        now_s = tick / 60
        bus.feed(request, now_s)
        bus.due(now_s)
    last_s = now_s + (len(request) + 6 * 21) * BYTE_S
    bus.due(last_s + 0.05 - 1e-6)
    assert bus.next_due_s == pytest.approx(last_s + 0.05)
    bus.faults.delay_s = 0.0
    assert bus.next_due_s == pytest.approx(last_s)
    bus.due(2.0)
    assert len(ask(bus, packets.ping(1), 2.0)) == 1
    assert bus.next_due_s is None


def test_half_a_request_of_a_dead_client_is_forgotten(bus: BusEmulator) -> None:
    bus.feed(packets.sync_write(42, {1: b"\x00\x08"})[:9], 0.0)
    assert len(ask(bus, packets.ping(1), 2 * IDLE_RESET_S)) == 1


REQUESTS = st.builds(
    packets.encode,
    st.sampled_from([1, 6, 7, packets.BROADCAST_ID]),
    st.integers(0, 255),
    st.binary(max_size=20),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), REQUESTS), max_size=8))
def test_nothing_a_client_sends_raises(chunks: list[bytes]) -> None:
    bus = BusEmulator(World().follower)
    for i, chunk in enumerate(chunks):
        bus.feed(chunk, i * 0.001)
    bus.due(100.0)
    assert bus.next_due_s is None


def test_servos_hear_at_their_own_speed_alone(bus: BusEmulator, bank: ServoBank) -> None:
    bank.force(3, "baud_rate", 1)
    assert ask(bus, packets.ping(3)) == []
    bus.set_baud(500_000)
    assert [p.servo_id for p in ask(bus, packets.ping(packets.BROADCAST_ID), 2.0)] == [3]
    bus.feed(packets.sync_write(42, dict.fromkeys((2, 3), b"\x01\x09")), 4.0)
    assert [get(bank, i, "goal_position") == 0x0901 for i in (2, 3)] == [False, True]
    bus.feed(packets.ping(3), 6.0)
    assert bus.next_due_s == pytest.approx(6.0 + 12 * 2 * BYTE_S)  # half as fast


def test_a_new_speed_is_acknowledged_at_the_old_one(bus: BusEmulator, bank: ServoBank) -> None:
    assert ask(bus, packets.write(4, 6, b"\x04")) == [Packet(4, 0, b"")]
    assert ask(bus, packets.ping(4), 2.0) == []
    bus.set_baud(115_200)
    assert len(ask(bus, packets.ping(4), 4.0)) == 1


def test_an_answer_to_a_host_that_has_changed_its_speed_is_noise(bus: BusEmulator) -> None:
    bus.feed(packets.ping(1), 0.0)
    bus.set_baud(57_600)
    noise = bus.due(1.0)
    assert len(noise) == 6
    assert PacketParser().feed(noise) == []
