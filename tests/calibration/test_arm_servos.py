"""A whole calibration against emulated servos behind a real pty: sweep, EEPROM, and what goes wrong."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest
from served_bus import ServedBus

from calibration.arm import ArmSweep, energised, read_stored, write_calibration
from calibration.sweep import MIDDLE_TICK, calibration_from
from robot.calibration_file import Calibration
from robot.eeprom import SetupBus
from robot.errors import CalibrationError, ServoError
from robot.joints import JOINTS, SERVO_IDS
from robot.model import load_arm
from robot.twin.motor import TICKS_PER_RAD

LOW_RAD, HIGH_RAD = load_arm().jnt_range.T


def hand(served: ServedBus, sweep: ArmSweep) -> None:
    """From the zero pose to one stop, to the other and back, in steps that a hand makes."""
    halves = np.linspace(0, 1, 12)
    for a, b in ((np.zeros(6), LOW_RAD), (LOW_RAD, HIGH_RAD), (HIGH_RAD, np.zeros(6))):
        for share in halves:
            served.bank.position_rad = a + share * (b - a)
            sweep.poll()


def swept(served: ServedBus, bus: SetupBus) -> Calibration:
    stored = read_stored(bus)
    sweep = ArmSweep(bus, stored)
    hand(served, sweep)
    return calibration_from(sweep.joints, sweep.offsets, "swept")


def test_an_arm_whose_ranges_cross_the_wrap_is_calibrated(served: ServedBus, bus: SetupBus) -> None:
    for joint in JOINTS:  # as a servo leaves the factory: the horn's place decides what it reads
        bus.write_eeprom(SERVO_IDS[joint], "homing_offset", 0)
    calibration = swept(served, bus)
    assert write_calibration(bus, calibration, read_stored(bus)) > 6
    for servo_id in bus.scan():
        served.bank.reboot(servo_id)
        assert bus.read(servo_id, "lock") == 1
    middle = (LOW_RAD + HIGH_RAD) / 2
    served.bank.position_rad = middle
    reads = [bus.read(servo_id, "present_position") for servo_id in SERVO_IDS.values()]
    assert all(abs(tick - MIDDLE_TICK) <= 1 for tick in reads)
    spans = (calibration.range_max - calibration.range_min) / TICKS_PER_RAD
    spans[4] = HIGH_RAD[4] - LOW_RAD[4]  # LeRobot's full turn joint
    np.testing.assert_allclose(spans, HIGH_RAD - LOW_RAD, atol=2 / TICKS_PER_RAD)
    # User degrees are the angles from the middle of the joints' ranges.
    pose = middle + np.array([0.5, -0.4, 0.3, -0.2, 0.9, 0.0])
    served.bank.position_rad = pose
    ticks = np.array([bus.read(servo_id, "present_position") for servo_id in SERVO_IDS.values()])
    np.testing.assert_allclose(np.radians(calibration.to_user(ticks)[:5]), (pose - middle)[:5], atol=0.003)


def test_the_same_calibration_wears_no_eeprom(served: ServedBus, bus: SetupBus) -> None:
    calibration = swept(served, bus)
    write_calibration(bus, calibration, read_stored(bus))
    assert write_calibration(bus, calibration, read_stored(bus)) == 0


def test_the_sweep_itself_writes_nothing(served: ServedBus, bus: SetupBus) -> None:
    before = [served.bank.read(servo_id, 0, 56) for servo_id in SERVO_IDS.values()]
    swept(served, bus)
    assert [served.bank.read(servo_id, 0, 56) for servo_id in SERVO_IDS.values()] == before


def test_a_servo_lost_in_the_sweep_is_named(
    served: ServedBus, bus: SetupBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calibration.arm.SILENCE_S", 0.05)
    sweep = ArmSweep(bus, read_stored(bus))
    served.faults.muted.add(3)
    with pytest.raises(ServoError, match="elbow_flex"):
        for _ in range(50):
            sweep.poll()


def test_energised_joints_are_found_and_released(bus: SetupBus) -> None:
    bus.write(4, "torque_enable", 1)
    assert energised(read_stored(bus)) == ["wrist_flex"]
    bus.release()
    assert energised(read_stored(bus)) == []


def test_velocity_mode_and_other_models_are_refused(served: ServedBus, bus: SetupBus) -> None:
    bus.write_eeprom(2, "operating_mode", 1)
    with pytest.raises(CalibrationError, match=r"shoulder_lift.*operating mode 1.*setup-motors"):
        read_stored(bus)
    served.bank.force(1, "model_number", 2825)
    with pytest.raises(ServoError, match=r"shoulder_pan.*says model 2825, an SO-101 has STS3215") as caught:
        read_stored(bus)
    assert caught.value.joint == "shoulder_pan"


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_in_the_middle_leaves_the_old_values(
    served: ServedBus, bus: SetupBus, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    calibration, before = swept(served, bus), read_stored(bus)
    write_eeprom, calls = bus.write_eeprom, 0

    def interrupted(servo_id: int, name: str, value: int) -> bool:
        nonlocal calls
        calls += 1
        if calls in (8, 12)[:times]:  # the second time, the old values are on their way back
            os.kill(os.getpid(), signal.SIGINT)
        return write_eeprom(servo_id, name, value)

    monkeypatch.setattr(bus, "write_eeprom", interrupted)
    assert threading.current_thread() is threading.main_thread()
    with pytest.raises((CalibrationError, KeyboardInterrupt)) as caught:
        write_calibration(bus, calibration, before)
    told = caught.value if times == 1 else caught.value.__context__
    assert isinstance(told, CalibrationError)
    assert str(told).endswith("it was interrupted. All servos hold what they held before")
    assert read_stored(bus) == before


def test_a_servo_lost_in_the_middle_is_said_with_what_each_holds(
    served: ServedBus, bus: SetupBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration, before = swept(served, bus), read_stored(bus)
    for servo_id in SERVO_IDS.values():  # something to write everywhere
        bus.write_eeprom(servo_id, "min_position", 7)
    write_eeprom, calls = bus.write_eeprom, 0

    def cable_falls_out(servo_id: int, name: str, value: int) -> bool:
        nonlocal calls
        calls += 1
        if calls == 4:
            served.faults.muted.update((1, 2))
        return write_eeprom(servo_id, name, value)

    monkeypatch.setattr(bus, "write_eeprom", cable_falls_out)
    with pytest.raises(CalibrationError) as caught:
        write_calibration(bus, calibration, before)
    message = str(caught.value)
    assert "shoulder_lift (servo 2) does not answer" in message
    assert "shoulder_pan what cannot be read" in message and "elbow_flex the old values" in message
    assert {joint for joint, held in read_lock(bus, (3, 4, 5, 6)).items() if held != 1} == set()


def read_lock(bus: SetupBus, servo_ids: tuple[int, ...]) -> dict[int, int]:
    return {servo_id: bus.read(servo_id, "lock") for servo_id in servo_ids}


def test_servos_that_lerobot_left_open_are_locked(served: ServedBus, bus: SetupBus) -> None:
    calibration = swept(served, bus)
    write_calibration(bus, calibration, read_stored(bus))
    for servo_id in SERVO_IDS.values():
        served.bank.force(servo_id, "lock", 0)
    assert write_calibration(bus, calibration, read_stored(bus)) == 0
    assert read_lock(bus, tuple(SERVO_IDS.values())) == dict.fromkeys(SERVO_IDS.values(), 1)
