"""Faults of the live twin over its real ports and its control socket."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scservo_sdk

from robot import packets
from robot.bus import FeetechBus
from robot.errors import PortError, So101Error, TwinError
from robot.registers import BAUD_BY_CODE
from robot.twin.client import TwinProcess
from robot.twin.world import twin_calibration

pytestmark = pytest.mark.live

PATIENT_S = 0.5


@pytest.fixture(scope="module")
def twin() -> Iterator[TwinProcess]:
    with TwinProcess(cameras=False) as twin:
        yield twin
        assert twin.errors() == ""


def test_a_rename_is_an_error_for_the_owner_and_a_new_port_behind_the_link(twin: TwinProcess) -> None:
    link = twin.by_id["follower"]
    former = os.path.realpath(link)
    with FeetechBus(link, margin_s=PATIENT_S) as bus:
        bus.ping(1)
        before_s = time.monotonic()
        applied_s = twin.fault("rename")["applied_s"]
        assert before_s < applied_s < time.monotonic()
        with pytest.raises(PortError):
            bus.ping(1)
    assert os.path.realpath(link) != former
    assert not Path(former).exists()
    with FeetechBus(link, margin_s=PATIENT_S) as bus:
        assert bus.ping(1) == 0


def test_unplugged_servos_keep_their_power(twin: TwinProcess) -> None:
    link = twin.by_id["leader"]
    with FeetechBus(link, margin_s=PATIENT_S) as bus:
        bus.write(3, "torque_enable", 1)
    twin.fault("unplug", arm="leader")
    with pytest.raises(PortError, match="no port"):
        FeetechBus(link)
    twin.fault("replug", arm="leader")
    with FeetechBus(link, margin_s=PATIENT_S) as bus:
        assert bus.read(3, "torque_enable") == 1
        bus.write(3, "torque_enable", 0)


def test_goal_log_has_every_change_of_either_arm_and_its_time(twin: TwinProcess) -> None:
    start_s = time.monotonic()
    with (
        FeetechBus(twin.by_id["follower"], margin_s=PATIENT_S) as follower,
        FeetechBus(twin.by_id["leader"], margin_s=PATIENT_S) as leader,
    ):
        for ticks in range(1000, 1150):
            follower.sync_write("goal_position", dict.fromkeys(range(1, 7), ticks))
        leader.sync_write("goal_position", {2: 1234})
        leader.sync_write("goal_position", {2: 1234})
        leader.ping(1)
        follower.ping(1)
    log = twin.goal_log(start_s)
    times = [change["time_s"] for change in log]
    assert times == sorted(times)
    assert start_s < times[0] <= times[-1] < time.monotonic()
    mine = [change["goal"] for change in log if (change["arm"], change["servo_id"]) == ("follower", 4)]
    assert mine == list(range(1000, 1150))
    assert [c["goal"] for c in log if c["arm"] == "leader"] == [1234]
    assert len(log) == 6 * 150 + 1
    assert twin.goal_log(times[-1]) == []


def test_a_fault_that_cannot_be_is_refused(twin: TwinProcess) -> None:
    with pytest.raises(TwinError, match="no register 'lok'"):
        twin.fault("register", servo_id=1, name="lok", value=0)
    with pytest.raises(TwinError, match="no servo 9"):
        twin.fault("stuck", servo_id=9)


def test_a_factory_twin_is_set_up_one_cable_at_a_time() -> None:
    with TwinProcess(cameras=False, factory=True) as twin:
        link = twin.by_id["follower"]
        with FeetechBus(link, margin_s=PATIENT_S) as bus:
            assert bus.read(1, "id") == 1
        twin.plug("follower", None)
        with FeetechBus(link, margin_s=0.02) as bus, pytest.raises(So101Error):
            bus.read(1, "id")  # six answer at once
        with pytest.raises(TwinError, match="elbow_flexx"):
            twin.plug("follower", ["elbow_flexx"])


def test_a_hand_moves_the_follower_in_real_time(twin: TwinProcess) -> None:
    pose = np.array([30.0, -60.0, 60.0, 30.0, 45.0, 50.0])
    twin.hand("follower", pose)
    entry = twin_calibration()["wrist_roll"]
    goal = (entry["range_min"] + entry["range_max"]) / 2 + 45.0 * 4095 / 360
    with FeetechBus(twin.by_id["follower"], margin_s=PATIENT_S) as bus:
        end_s = time.monotonic() + 20.0
        while abs(bus.read(5, "present_position") - goal) > 10 and time.monotonic() < end_s:
            time.sleep(0.05)
        assert bus.read(5, "present_position") == pytest.approx(goal, abs=10)
    twin.hand("follower", None)
    with pytest.raises(TwinError, match="six finite numbers"):
        twin.hand("follower", np.zeros(5))
    with pytest.raises(TwinError, match="no arm 'third'"):
        twin.hand("third", None)


def test_a_servo_at_another_speed_is_found_there(twin: TwinProcess) -> None:
    link = twin.by_id["leader"]
    for code, baud in enumerate(BAUD_BY_CODE):
        twin.fault("baud", arm="leader", servo_id=2, value=code)
        handler = scservo_sdk.PortHandler(os.path.realpath(link))
        assert handler.setBaudRate(1_000_000)
        handler.ser.baudrate = baud
        handler.ser.timeout = PATIENT_S
        handler.ser.write(packets.ping(2))
        assert handler.ser.read(6) == packets.status(2, 0), baud
        handler.ser.timeout = PATIENT_S if code == 0 else 0.02
        handler.ser.write(packets.ping(1))
        assert handler.ser.read(6) == (packets.status(1, 0) if code == 0 else b""), baud
        handler.closePort()
    twin.fault("baud", arm="leader", servo_id=2, value=0)
