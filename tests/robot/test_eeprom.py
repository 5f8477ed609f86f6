from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from served_bus import ServedBus

from robot.eeprom import SetupBus
from robot.errors import BusError, ServoError


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


def test_servo_that_does_not_keep_the_value_is_named(bus: SetupBus, served: ServedBus) -> None:
    served.bank.write = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(ServoError, match=r"shoulder_lift.* did not keep homing_offset = 5, it reads -1640"):
        bus.write_eeprom(2, "homing_offset", 5)


def test_running_path_cannot_reach_it() -> None:
    script = "import sys, robot.servo_arm, robot.controller\nsys.exit('robot.eeprom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
