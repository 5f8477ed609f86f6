"""The bus against emulated servos on a real pty."""

from __future__ import annotations

import contextlib
import os
import threading
import time

import pytest
from served_bus import ServedBus

from robot.bus import FeetechBus, decode, encode
from robot.errors import BusError, ServoError
from robot.registers import REGISTERS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE, StatusBit

IDS = (1, 2, 3, 4, 5, 6)
SLOW_MACHINE_S = 0.2
"""Margin where an answer must come: these tests are about bytes, not about this machine's speed."""


@pytest.fixture
def bus(served: ServedBus):  # type: ignore[no-untyped-def]
    with FeetechBus(served.path, margin_s=SLOW_MACHINE_S) as bus:
        yield bus


def test_ping_scan_and_read(bus: FeetechBus) -> None:
    assert bus.ping(1) == 0
    assert bus.scan() == IDS
    assert bus.read(2, "model_number") == 777
    assert bus.read(2, "homing_offset") == -1640


def test_write_and_read_back(bus: FeetechBus) -> None:
    assert bus.write(3, "acceleration", 50) == 0
    assert bus.read(3, "acceleration") == 50


def test_sync_write_reaches_each_servo(bus: FeetechBus) -> None:
    bus.sync_write("goal_position", {i: 2000 + i for i in IDS})
    assert [bus.read(i, "goal_position") for i in IDS] == [2001, 2002, 2003, 2004, 2005, 2006]


def test_sync_read_gives_data_and_error_byte_of_each(bus: FeetechBus, served: ServedBus) -> None:
    served.bank.overloaded[4] = True
    reply = bus.sync_read(IDS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE)
    assert reply.missing == ()
    assert tuple(reply.replies) == IDS
    assert [reply.replies[i].code for i in IDS] == [0, 0, 0, 0, StatusBit.OVERLOAD, 0]
    assert all(len(packet.data) == STATE_BLOCK_SIZE for packet in reply.replies.values())


@pytest.mark.parametrize("fault", ["lose", "corrupt"])
def test_one_lost_or_corrupt_answer_costs_one_retry(bus: FeetechBus, served: ServedBus, fault: str) -> None:
    getattr(served.faults, fault)[3] = 1
    reply = bus.sync_read(IDS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE)
    assert reply.missing == ()
    assert bus.counters.retries == 1
    assert bus.counters.lost == 0


@pytest.mark.parametrize(("fault", "servo_id"), [("lose", 3), ("corrupt", 3), ("corrupt", 6)])
def test_an_answer_that_is_known_not_to_come_is_not_waited_for(
    bus: FeetechBus, served: ServedBus, fault: str, servo_id: int
) -> None:
    bus.margin_s = 20.0
    getattr(served.faults, fault)[servo_id] = 1
    before_s = time.monotonic()
    assert bus.sync_read(IDS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE).missing == ()
    assert time.monotonic() - before_s < bus.margin_s


def test_nobody_is_asked_again_when_the_time_is_over(bus: FeetechBus, served: ServedBus) -> None:
    served.faults.muted.add(2)
    assert bus.sync_read(IDS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE, within_s=0.0).missing == (2,)
    assert bus.counters.retries == 0


def test_garbage_before_an_answer_is_skipped(bus: FeetechBus, served: ServedBus) -> None:
    served.faults.garbage = b"\xff\xff\xff\x00\x01\xff"
    assert bus.read(1, "model_number") == 777
    assert bus.counters.retries == 0
    assert bus.counters.dropped_bytes >= 5


def test_an_adapters_echo_is_no_answer(bus: FeetechBus, served: ServedBus) -> None:
    expected = bus.read(2, "present_position")
    served.faults.echo = True
    for _ in range(20):
        assert bus.ping(1) == 0
        assert bus.read(2, "present_position") == expected
        assert not bus.sync_read(IDS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE).missing
    served.faults.muted = {2}
    with pytest.raises(ServoError, match="shoulder_lift"):
        bus.read_block(2, 60, 3)


def test_nothing_is_made_up_for_a_servo_that_is_mute_behind_an_adapter_that_echoes(
    bus: FeetechBus, served: ServedBus
) -> None:
    bus.margin_s = bus.patience_s = 0.02
    served.faults.echo, served.faults.muted = True, {2}
    for _ in range(2):  # also before anything else has been said
        with pytest.raises(ServoError, match="shoulder_lift"):
            bus.ping(2)
        with pytest.raises(ServoError, match="shoulder_lift"):
            bus.read(2, "present_position")
    assert bus.ping(1) == 0


def test_one_lost_answer_behind_an_echo_is_asked_for_again(bus: FeetechBus, served: ServedBus) -> None:
    bus.margin_s = bus.patience_s = 0.05
    expected = bus.read(2, "present_position")
    served.faults.echo = True
    served.faults.lose[2] = 1
    assert bus.read(2, "present_position") == expected


def test_an_answer_that_looks_like_its_request_is_an_answer(bus: FeetechBus, served: ServedBus) -> None:
    served.bank.force(1, "min_voltage", 100)  # error byte 1: the answer to a ping is the ping's own bytes
    assert bus.ping(1) == 1


def test_missing_servos_are_named_and_the_others_kept(bus: FeetechBus, served: ServedBus) -> None:
    bus.retries = 0
    served.faults.muted |= {2, 5}
    reply = bus.sync_read(IDS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE)
    assert reply.missing == (2, 5)
    assert set(reply.replies) == {1, 3, 4, 6}
    both = r"shoulder_lift \(servo 2\), wrist_roll \(servo 5\) do not answer"
    with pytest.raises(ServoError, match=both) as caught:
        bus.sync_read_all(IDS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE)
    assert (caught.value.servo_id, caught.value.joint) == (2, "shoulder_lift")
    assert served.path in str(caught.value)


def test_servos_with_one_id_are_told_of_as_such(bus: FeetechBus, served: ServedBus) -> None:
    bus.retries = 0
    served.bank.force(2, "id", 1)
    with pytest.raises(ServoError, match=r"shoulder_pan .* does not answer legibly .*`so101 setup-motors`"):
        bus.read_block(1, 0, 71)
    with pytest.raises(ServoError, match=r"shoulder_lift .* does not answer on .*check power"):
        bus.read_block(2, 0, 71)


def test_late_answer_is_not_taken_for_the_next_one(bus: FeetechBus, served: ServedBus) -> None:
    bus.margin_s, bus.retries = 0.01, 0
    served.faults.delay_s = 0.05
    with pytest.raises(ServoError):
        bus.read(1, "goal_position")
    served.faults.delay_s = 0.0
    time.sleep(0.1)
    bus.margin_s = SLOW_MACHINE_S
    assert bus.read(1, "model_number") == 777
    assert bus.counters.stray_packets == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("homing_offset", 0), ("id", 1), ("present_position", 0), ("max_acceleration", 254), ("lock", 0),
     ("torque_enable", 128)],
)  # fmt: skip
def test_nothing_that_could_change_eeprom_leaves_this_class(
    bus: FeetechBus, served: ServedBus, name: str, value: int
) -> None:
    transactions = bus.counters.transactions
    with pytest.raises(BusError):
        bus.write(1, name, value)
    with pytest.raises(BusError):
        bus.sync_write(name, {1: value})
    with pytest.raises(BusError):  # in the tail of a longer block
        bus.sync_write_block(39, {1: b"\0\0"})
    assert bus.counters.transactions == transactions


def test_waiting_burns_no_core(bus: FeetechBus, served: ServedBus) -> None:
    served.faults.muted.add(1)
    bus.margin_s, bus.retries = 0.5, 0
    before = time.thread_time()
    with pytest.raises(ServoError):
        bus.ping(1)
    assert time.thread_time() - before < 0.1


@pytest.mark.parametrize("value", [0, 1, 777, 2047, -1, -2047])
def test_register_codec_round_trip(value: int) -> None:
    register = REGISTERS["homing_offset"]
    assert decode(register, encode(register, value)) == value


def test_register_codec_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError):
        encode(REGISTERS["homing_offset"], 2048)
    with pytest.raises(ValueError):
        encode(REGISTERS["acceleration"], 256)


def test_silence_of_all_is_borne_longer_than_silence_of_one(bus: FeetechBus, served: ServedBus) -> None:
    bus.margin_s, bus.patience_s, bus.retries = 0.1, 2.0, 0
    served.faults.delay_s = 0.3  # as when the kernel holds everything back
    assert bus.ping(1) == 0
    served.faults.delay_s = 0.0
    served.faults.muted.add(6)
    before_s = time.monotonic()
    assert bus.sync_read(IDS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE).missing == (6,)
    assert time.monotonic() - before_s < bus.patience_s


def test_endless_noise_does_not_hold_a_request_for_ever(
    bus: FeetechBus, served: ServedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robot.port._CHUNK", 1)  # it comes faster than it is read
    bus.margin_s, bus.patience_s, bus.retries = 0.1, 0.1, 0
    served.faults.muted.add(1)
    stop, give_up_s = threading.Event(), time.monotonic() + 20.0

    def babble() -> None:
        while not stop.is_set() and time.monotonic() < give_up_s:
            with contextlib.suppress(BlockingIOError):
                os.write(served.wire.fileno(), b"\x55" * 4096)

    thread = threading.Thread(target=babble)
    thread.start()
    with pytest.raises(ServoError):
        bus.ping(1)
    assert time.monotonic() < give_up_s
    stop.set()
    thread.join()
