"""Setting up servos fresh from the factory, emulated behind a real pty."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from served_bus import ServedBus

from calibration.motors import SETUP_ORDER, FoundServo, check_all, find_servo, set_up, settings
from robot.eeprom import SetupBus
from robot.errors import BusError, PortError, ServoError
from robot.fingerprint import FOLLOWER_GRIPPER
from robot.joints import JOINTS, SERVO_IDS
from robot.twin.world import WorldConfig

GRIPPER_SLOT = 5


@pytest.fixture
def served() -> Iterator[ServedBus]:
    bus = ServedBus(WorldConfig(factory=True))
    yield bus
    bus.unplug()


def eeprom(served: ServedBus, servo_id: int) -> bytes:
    """What a servo has after its power was cycled."""
    served.bank.reboot(servo_id)
    return served.bank.read(servo_id, 0, 40)


def test_six_factory_servos_become_an_arm(served: ServedBus, bus: SetupBus) -> None:
    for joint in SETUP_ORDER:
        served.bank.plug({JOINTS.index(joint)})
        found = find_servo(bus, joint)
        assert (found.servo_id, found.baud) == (1, 1_000_000)
        assert "return_delay 250 -> 0" in set_up(bus, joint, found, follower=True)
    served.bank.plug(range(6))
    assert check_all(bus, follower=True) == []
    for joint, servo_id in SERVO_IDS.items():
        eeprom(served, servo_id)
        held = {name: bus.read(servo_id, name) for name in settings(joint, follower=True)}
        assert held == settings(joint, follower=True)
        assert bus.read(servo_id, "lock") == 1
    # Doing it again wears nothing.
    served.bank.plug({GRIPPER_SLOT})
    assert set_up(bus, "gripper", find_servo(bus, "gripper"), follower=True) == []


def test_a_leader_keeps_gains_and_gripper_limits(bus: SetupBus) -> None:
    set_up(bus, "gripper", find_servo(bus, "gripper"), follower=False)
    assert (bus.read(6, "p_gain"), bus.read(6, "max_torque"), bus.read(6, "return_delay")) == (32, 1000, 0)


@pytest.mark.parametrize(("code", "baud"), [(1, 500_000), (4, 115_200)])
def test_a_servo_at_another_rate_is_found_and_brought_to_one_megabaud(
    served: ServedBus, bus: SetupBus, code: int, baud: int
) -> None:
    served.bank.force(1, "baud_rate", code)
    served.bank.force(1, "id", 77)
    tried: list[str] = []
    found = find_servo(bus, "gripper", tried.append)
    assert found == FoundServo(77, baud) and tried[-1] == f"trying {baud} baud"
    assert f"baud {baud} -> 1000000" in set_up(bus, "gripper", found, follower=True)
    eeprom(served, 6)
    assert (bus.read(6, "baud_rate"), bus.read(6, "lock")) == (0, 1)


def test_multi_turn_readings_are_switched_off(served: ServedBus, bus: SetupBus) -> None:
    served.bank.force(1, "phase", 12 | 0x10)
    assert "phase 28 -> 12" in set_up(bus, "gripper", find_servo(bus, "gripper"), follower=True)


def test_a_silent_servo_that_never_acknowledges_is_set_up(served: ServedBus, bus: SetupBus) -> None:
    bus.margin_s = 0.01
    served.bank.force(1, "response_level", 0)
    set_up(bus, "gripper", find_servo(bus, "gripper"), follower=True)
    assert (bus.read(6, "response_level"), bus.read(6, "lock")) == (1, 1)


def test_two_servos_with_different_ids_are_refused(served: ServedBus, bus: SetupBus) -> None:
    served.bank.force(1, "id", 6)
    served.bank.plug({4, 5})
    with pytest.raises(BusError, match="servos 1, 6 answer: connect only the wrist_roll's"):
        find_servo(bus, "wrist_roll")


def test_two_servos_with_one_id_are_refused(served: ServedBus, bus: SetupBus) -> None:
    served.bank.plug({4, 5})
    with pytest.raises(BusError, match="not legibly: two servos have one id"):
        find_servo(bus, "gripper")


def test_a_double_id_that_a_ping_does_not_show_is_refused(
    served: ServedBus, bus: SetupBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pings of two servos are the same bytes: on a real wire they often pass for one."""
    found = find_servo(bus, "gripper")
    served.bank.plug({4, 5})
    monkeypatch.setattr(bus, "scan", lambda: (found.servo_id,))
    with pytest.raises(BusError, match="two servos answer as id 1"):
        find_servo(bus, "gripper")


def test_no_servo_and_the_wrong_model_are_named(
    served: ServedBus, bus: SetupBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.bank.force(1, "model_number", 2825)
    with pytest.raises(ServoError, match="the gripper's servo says model 2825"):
        find_servo(bus, "gripper")
    monkeypatch.setattr("calibration.motors.BAUD_RATES", (1_000_000,))
    served.bank.plug(())
    with pytest.raises(ServoError, match=r"no servo answers .* at any rate: is the gripper's cable"):
        find_servo(bus, "gripper")


def test_ctrl_c_waits_until_the_servo_is_locked(
    served: ServedBus, bus: SetupBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_servo(bus, "gripper")
    write = bus.write

    def interrupted(servo_id: int, name: str, value: int) -> int:
        if name == "p_gain":
            os.kill(os.getpid(), signal.SIGINT)
        return write(servo_id, name, value)

    monkeypatch.setattr(bus, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        set_up(bus, "gripper", found, follower=True)
    assert (bus.read(1, "p_gain"), bus.read(1, "lock")) == (16, 1)
    monkeypatch.undo()
    set_up(bus, "gripper", found, follower=True)
    assert check_all(bus, follower=True)[0].startswith("shoulder_pan (servo 1)")


def test_an_unplugged_adapter_says_that_the_servo_is_open(
    served: ServedBus, bus: SetupBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_servo(bus, "gripper")
    write = bus.write

    def pulled(servo_id: int, name: str, value: int) -> int:
        if name == "p_gain":
            served.unplug()
        return write(servo_id, name, value)

    monkeypatch.setattr(bus, "write", pulled)
    with pytest.raises(PortError, match=r"could not be locked again: its EEPROM stays open"):
        set_up(bus, "gripper", found, follower=True)


def test_the_check_names_what_is_missing_and_what_is_foreign(served: ServedBus, bus: SetupBus) -> None:
    bus.margin_s = 0.01
    set_up(bus, "gripper", find_servo(bus, "gripper"), follower=True)
    served.bank.force(6, "overload_torque", 80)
    served.bank.plug({0, 5})
    served.bank.force(1, "id", 9)
    problems = check_all(bus, follower=True)
    assert sum("does not answer" in problem for problem in problems) == 5
    assert "gripper (servo 6) holds overload_torque = 80 instead of 25" in problems
    assert problems[-1] == "servo 9 belongs to no joint of an SO-101"


def test_an_open_servo_that_is_otherwise_right_is_locked(served: ServedBus, bus: SetupBus) -> None:
    """LeRobot leaves servos open where torque is off."""
    set_up(bus, "gripper", find_servo(bus, "gripper"), follower=True)
    served.bank.force(6, "lock", 0)
    assert set_up(bus, "gripper", find_servo(bus, "gripper"), follower=True) == ["lock 0 -> 1"]
    served.bank.force(6, "lock", 0)
    check_all(bus, follower=True)
    assert bus.read(6, "lock") == 1


@pytest.mark.parametrize(
    ("joint", "follower"), [("elbow_flex", True), ("elbow_flex", False), ("gripper", False)]
)
def test_a_servo_that_was_a_followers_gripper_gets_the_factorys_limits(
    served: ServedBus, bus: SetupBus, joint: str, follower: bool
) -> None:
    for name, value in FOLLOWER_GRIPPER.items():
        served.bank.force(1, name, value)
    changed = set_up(bus, joint, find_servo(bus, joint), follower=follower)
    servo_id = SERVO_IDS[joint]
    eeprom(served, servo_id)
    assert {name: bus.read(servo_id, name) for name in FOLLOWER_GRIPPER} == {
        "max_torque": 1000,
        "protection_current": 500,
        "overload_torque": 80,
    }
    assert "overload_torque 25 -> 80" in changed


def test_limits_that_are_no_grippers_stay(served: ServedBus, bus: SetupBus) -> None:
    served.bank.force(1, "max_torque", 500)  # somebody's own, and a servo of another make's current
    served.bank.force(1, "protection_current", 511)
    set_up(bus, "elbow_flex", find_servo(bus, "elbow_flex"), follower=True)
    assert (bus.read(3, "max_torque"), bus.read(3, "protection_current")) == (500, 511)


def test_the_check_looks_at_the_phase_and_at_a_grippers_limits(served: ServedBus, bus: SetupBus) -> None:
    bus.margin_s = 0.01
    set_up(bus, "elbow_flex", find_servo(bus, "elbow_flex"), follower=True)
    served.bank.force(3, "phase", 12 | 0x10)
    for name, value in FOLLOWER_GRIPPER.items():
        served.bank.force(3, name, value)
    mine = [problem for problem in check_all(bus, follower=True) if "(servo 3) holds" in problem]
    assert [problem.split("holds ")[1] for problem in mine] == [
        "max_torque = 500 instead of 1000",
        "protection_current = 250 instead of 500",
        "overload_torque = 25 instead of 80",
        "phase = 28 instead of 12",
    ]


@pytest.mark.parametrize("refused", [True, False])
def test_a_rate_that_the_adapter_refuses_is_passed_over_and_a_port_that_is_gone_is_not(
    served: ServedBus, bus: SetupBus, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    served.bank.force(1, "baud_rate", 4)
    set_baud = bus.set_baud

    def picky(baud: int) -> None:
        if baud == 128_000:
            raise PortError("no such rate") from (ValueError() if refused else OSError())
        set_baud(baud)

    monkeypatch.setattr(bus, "set_baud", picky)
    if refused:
        assert find_servo(bus, "gripper").baud == 115_200
    else:
        with pytest.raises(PortError):
            find_servo(bus, "gripper")
