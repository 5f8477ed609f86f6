"""How long a read waits for whom, and whose late answer is believed; in virtual time."""

from __future__ import annotations

import numpy as np
import pytest

from robot.calibration_file import Calibration
from robot.errors import ServoError
from robot.joints import JOINTS
from robot.servo_arm import ServoArm
from services.processes.controller import READ_SHARE

from virtual_port import VirtualPort  # isort: skip


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> VirtualPort:
    port = VirtualPort()
    port.install(monkeypatch)
    return port


def connect(port: VirtualPort, calibration: Calibration, hz: int) -> ServoArm:
    return ServoArm.connect(port.path, calibration, read_within_s=READ_SHARE / hz)


def test_a_read_of_a_healthy_bus_takes_what_the_wire_takes(
    port: VirtualPort, calibration: Calibration
) -> None:
    arm = connect(port, calibration, 100)
    before_s = port.now_s
    arm.read()
    assert port.now_s - before_s == pytest.approx((14 + 6 * 21) * port.byte_s, rel=0.02)


@pytest.mark.parametrize("hz", [60, 100])
@pytest.mark.parametrize("servo_id", [1, 4, 6])
def test_one_silent_servo_costs_at_most_a_tick_and_is_named_at_once(
    port: VirtualPort, calibration: Calibration, servo_id: int, hz: int
) -> None:
    arm = connect(port, calibration, hz)
    arm.read()
    port.faults.muted.add(servo_id)
    write_s = (8 + 6 * 3) * port.byte_s
    for _ in range(3):
        before_s = port.now_s
        with pytest.raises(ServoError) as caught:
            arm.read()
        assert port.now_s - before_s + write_s < 1.0 / hz
        assert caught.value.missing == (JOINTS[servo_id - 1],)
        port.sleep_until(before_s + 1.0 / hz)


def test_silence_of_the_whole_bus_is_bounded(port: VirtualPort, calibration: Calibration) -> None:
    arm = connect(port, calibration, 60)
    port.faults.muted |= set(port.bank.ids)
    before_s = port.now_s
    with pytest.raises(ServoError):
        arm.read()
    assert port.now_s - before_s < 1.5 / 60


@pytest.mark.parametrize("hz", [60, 100])
def test_no_late_answer_is_ever_taken_for_a_new_one(
    port: VirtualPort, calibration: Calibration, hz: int
) -> None:
    """Whatever is read is how the joints were after it had been asked for, however late answers come."""
    arm = connect(port, calibration, hz)
    read = late = ticks = 0
    for late_ms in [0, 1, 2, 4, *range(5, 120, 3), 0]:
        port.late_s = late_ms / 1000.0
        for _ in range(12):
            ticks += 1
            place_deg = float(ticks * 7 % 80)
            port.bank.position_rad[:] = np.deg2rad(place_deg)
            begun_s = port.now_s
            try:
                state = arm.read()
            except ServoError as error:
                late += 1
                state = error.seen
            if state is not None:
                there = state.voltage_v[:5] > 0.0  # zeros stand for a joint that did not answer
                assert state.position[:5][there] == pytest.approx(place_deg, abs=0.2), late_ms
                read += bool(there.any())
            port.sleep_until(begun_s + (1 + int((port.now_s - begun_s) * hz)) / hz)
    assert read > 50
    assert late > 50
