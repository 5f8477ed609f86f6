from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from served_bus import ServedBus

from robot.eeprom import SetupBus, undisturbed
from robot.errors import BusError, PortError, ServoError
from robot.registers import REGISTERS


@pytest.fixture
def bus(served: ServedBus) -> Iterator[SetupBus]:
    with SetupBus(served.path, margin_s=0.2) as bus:
        yield bus


def test_value_survives_a_reboot_and_the_lock_is_back(bus: SetupBus, served: ServedBus) -> None:
    assert bus.write_eeprom(3, "homing_offset", -321)
    served.bank.reboot(3)
    assert bus.read(3, "homing_offset") == -321
    assert bus.read(3, "lock") == 1


def test_same_value_is_not_written_again(bus: SetupBus) -> None:
    assert bus.write_eeprom(3, "p_gain", 21)
    assert not bus.write_eeprom(3, "p_gain", 21)


def test_id_is_changed_and_locked_under_the_new_one(bus: SetupBus, served: ServedBus) -> None:
    bus.margin_s = 0.05
    assert bus.write_eeprom(6, "id", 9)
    served.bank.reboot(9)
    assert bus.read(9, "lock") == 1
    with pytest.raises(ServoError):
        bus.ping(6)


def test_taken_id_is_refused(bus: SetupBus) -> None:
    with pytest.raises(BusError, match="id 5 is taken"):
        bus.write_eeprom(6, "id", 5)


def test_energised_servo_is_refused(bus: SetupBus) -> None:
    bus.write(2, "torque_enable", 1)
    with pytest.raises(BusError, match="energised"):
        bus.write_eeprom(2, "homing_offset", 0)


@pytest.mark.parametrize("name", ["goal_position", "present_position", "baud_rate", "max_acceleration"])
def test_other_registers_are_refused(bus: SetupBus, name: str) -> None:
    with pytest.raises(BusError):
        bus.write_eeprom(2, name, 1)


def test_read_only_registers_are_refused(bus: SetupBus) -> None:
    with pytest.raises(BusError, match="read_only"):
        bus.write(2, "present_position", 1)


def test_servo_that_does_not_keep_the_value_is_named(
    bus: SetupBus, served: ServedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(served, monkeypatch, "homing_offset", 5, 9)
    with pytest.raises(ServoError, match=r"shoulder_lift.* did not keep homing_offset = 5, it reads -1640"):
        bus.write_eeprom(2, "homing_offset", 5)


def test_running_path_cannot_reach_it() -> None:
    script = "import sys, services.processes.controller\nsys.exit('robot.eeprom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


def test_an_open_servo_is_locked_and_read_back(bus: SetupBus, served: ServedBus) -> None:
    served.bank.force(3, "lock", 0)
    assert bus.lock(3) and not bus.lock(3)
    assert served.bank.read(3, 55, 1) == b"\x01"


def drop(served: ServedBus, monkeypatch: pytest.MonkeyPatch, name: str, value: int, count: int) -> None:
    """The servo acknowledges, but does not do it: what a write lost behind a late answer looks like."""
    write, left = served.bank.write_slot, [count]

    def lossy(slot: int, address: int, data: bytes) -> None:
        register = REGISTERS[name]
        if address == register.address and data == value.to_bytes(register.size, "little") and left[0]:
            left[0] -= 1
            return
        write(slot, address, data)

    monkeypatch.setattr(served.bank, "write_slot", lossy)


def test_an_answer_to_the_opening_is_no_proof_of_it(
    bus: SetupBus, served: ServedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the value stands in RAM, reads back well, and is gone with the next power cycle."""
    drop(served, monkeypatch, "lock", 0, 1)
    assert bus.write_eeprom(3, "homing_offset", 77)
    served.bank.reboot(3)
    assert bus.read(3, "homing_offset") == 77
    drop(served, monkeypatch, "lock", 0, 9)
    with pytest.raises(ServoError, match=r"elbow_flex.*did not keep lock = 0"):
        bus.write_eeprom(3, "homing_offset", 78)
    assert (bus.read(3, "homing_offset"), bus.read(3, "lock")) == (77, 1)


def test_a_servo_is_locked_whatever_goes_wrong_with_its_rate(
    bus: SetupBus, served: ServedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.bank.force(3, "baud_rate", 1)
    bus.set_baud(500_000)
    set_baud, asked = bus.set_baud, []

    def fails_once(baud: int) -> None:
        asked.append(baud)
        if len(asked) == 1:
            served.bank.force(3, "baud_rate", 1)
            raise PortError("no")
        set_baud(baud)

    monkeypatch.setattr(bus, "set_baud", fails_once)
    with pytest.raises(PortError):
        bus.to_one_megabaud(3, 500_000)
    assert served.bank.read(3, 55, 1) == b"\x01"


def test_a_lost_release_is_repeated_and_who_stays_energised_is_named(
    bus: SetupBus, served: ServedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.sync_write("torque_enable", dict.fromkeys(range(1, 7), 1))
    drop(served, monkeypatch, "torque_enable", 0, 2)  # of the first two servos
    bus.release()
    assert [bus.read(i, "torque_enable") for i in range(1, 7)] == [0] * 6
    bus.write(4, "torque_enable", 1)
    drop(served, monkeypatch, "torque_enable", 0, 99)
    with pytest.raises(ServoError, match=r"^wrist_flex \(servo 4\) on .* will not be released") as caught:
        bus.release()
    assert caught.value.joint == "wrist_flex"


@pytest.fixture
def another_thread() -> Iterator[int]:
    """Ident of a thread that sleeps, as a library's workers do."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield thread.ident or 0
    over.set()
    thread.join()


def test_ctrl_c_waits_whichever_thread_it_is_sent_to(another_thread: int) -> None:
    whole = False
    with pytest.raises(KeyboardInterrupt), undisturbed():
        with undisturbed():
            signal.pthread_kill(another_thread, signal.SIGINT)
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        whole = True
    assert whole


def test_other_handlers_act_afterwards_and_are_as_before() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with pytest.raises(ServoError), undisturbed():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)
            assert not seen
            raise ServoError("the servo is open", servo_id=3)
        assert seen == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(seen) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
