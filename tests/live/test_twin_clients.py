"""Clients that know nothing of this project must not be able to tell the twin from an arm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scservo_sdk as sdk

from robot.bus import FeetechBus
from robot.twin.client import TwinProcess

pytestmark = pytest.mark.live

IDS = [1, 2, 3, 4, 5, 6]
GRIPPER = 6
TORQUE, GOAL, PRESENT, MODEL = 40, 42, 56, 3
SLOW_MACHINE_S = 0.5


@pytest.fixture(scope="module")
def twin() -> Iterator[TwinProcess]:
    with TwinProcess(cameras=False) as twin:
        yield twin


@pytest.fixture
def feetech(twin: TwinProcess) -> Iterator[tuple[Any, Any]]:
    port = sdk.PortHandler(twin.follower)
    assert port.openPort()
    # The SDK gives a reply 34 ms; a busy machine may need longer, and these tests are not about speed.
    plain = port.setPacketTimeout
    port.setPacketTimeout = lambda n: (plain(n), setattr(port, "packet_timeout", 1000 * SLOW_MACHINE_S))
    yield port, sdk.PacketHandler(0)
    port.closePort()


@pytest.fixture
def rusty(twin: TwinProcess) -> Iterator[Any]:
    rustypot = pytest.importorskip("rustypot")
    controller = rustypot.Sts3215PyController(twin.follower, 1_000_000, SLOW_MACHINE_S)
    yield controller
    controller.close()


def until(reached: Callable[[], bool], limit_s: float = 20.0) -> bool:
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        if reached():
            return True
        time.sleep(0.05)
    return False


def test_sdk_ping(feetech: tuple[Any, Any]) -> None:
    port, packets = feetech
    assert packets.ping(port, 3) == (777, sdk.COMM_SUCCESS, 0)


def test_sdk_read(feetech: tuple[Any, Any]) -> None:
    port, packets = feetech
    value, result, error = packets.read2ByteTxRx(port, 2, 9)
    assert (value, result, error) == (912, sdk.COMM_SUCCESS, 0)


def test_sdk_write(feetech: tuple[Any, Any]) -> None:
    port, packets = feetech
    assert packets.write1ByteTxRx(port, 2, 41, 33) == (sdk.COMM_SUCCESS, 0)
    assert packets.read1ByteTxRx(port, 2, 41)[0] == 33


def test_sdk_sync_read(feetech: tuple[Any, Any]) -> None:
    port, packets = feetech
    group = sdk.GroupSyncRead(port, packets, PRESENT, 15)
    for servo_id in IDS:
        assert group.addParam(servo_id)
    assert group.txRxPacket() == sdk.COMM_SUCCESS
    for servo_id in IDS:
        alone, _, _ = packets.read2ByteTxRx(port, servo_id, PRESENT)
        assert group.getData(servo_id, PRESENT, 2) == pytest.approx(alone, abs=60)  # torque is off, it sinks
        assert group.getData(servo_id, 62, 1) == 74


def test_sdk_sync_write_moves_the_gripper(feetech: tuple[Any, Any]) -> None:
    port, packets = feetech
    goal = 2300
    group = sdk.GroupSyncWrite(port, packets, GOAL, 2)
    assert group.addParam(GRIPPER, [goal & 0xFF, goal >> 8])
    group.txPacket()
    assert packets.write1ByteTxRx(port, GRIPPER, TORQUE, 1)[0] == sdk.COMM_SUCCESS
    assert until(lambda: abs(packets.read2ByteTxRx(port, GRIPPER, PRESENT)[0] - goal) < 30)
    packets.write1ByteTxRx(port, GRIPPER, TORQUE, 0)


def test_sdk_absent_servo_times_out(feetech: tuple[Any, Any]) -> None:
    port, packets = feetech
    assert packets.ping(port, 42)[1] == sdk.COMM_RX_TIMEOUT


def test_rustypot_ping(rusty: Any) -> None:
    assert rusty.ping(1)
    assert not rusty.ping(42)


def test_rustypot_scan(rusty: Any) -> None:
    assert rusty.broadcast_scan() == dict.fromkeys(IDS, 777)


def test_rustypot_read(rusty: Any) -> None:
    assert rusty.read_model(4) == [777] or rusty.read_model(4) == 777


def test_rustypot_sync_read(rusty: Any) -> None:
    raw = rusty.sync_read_raw_present_position(IDS)
    angle_rad = rusty.sync_read_present_position(IDS)
    np.testing.assert_allclose(angle_rad, (np.array(raw) - 2048) * 2 * np.pi / 4096, atol=0.1)


def test_rustypot_sync_write_moves_the_gripper(rusty: Any) -> None:
    goal = 1800
    rusty.sync_write_raw_goal_position([GRIPPER], [goal])
    rusty.sync_write_torque_enable([GRIPPER], [True])
    assert until(lambda: abs(rusty.sync_read_raw_present_position([GRIPPER])[0] - goal) < 30)
    rusty.sync_write_torque_enable([GRIPPER], [False])


def test_our_bus_ping_read_sync_read_and_motion(twin: TwinProcess) -> None:
    with FeetechBus(twin.follower, margin_s=SLOW_MACHINE_S) as bus:
        assert [bus.ping(i) for i in IDS] == [0] * 6
        assert bus.read(1, "model_number") == 777
        assert bus.sync_read(IDS, PRESENT, 15).missing == ()
        bus.sync_write("goal_position", {GRIPPER: 2400})
        bus.sync_write("torque_enable", {GRIPPER: 1})
        assert until(lambda: abs(bus.read(GRIPPER, "present_position") - 2400) < 30)
        bus.sync_write("torque_enable", {GRIPPER: 0})


def test_leader_is_moved_by_hand_and_read_by_bus(twin: TwinProcess) -> None:
    with FeetechBus(twin.leader, margin_s=SLOW_MACHINE_S) as bus:
        before = bus.read(1, "present_position")
        twin.set_leader(np.array([30.0, -50.0, 50.0, 0.0, 0.0, 50.0]))
        assert until(lambda: abs(bus.read(1, "present_position") - before) > 200)


def test_all_clients_see_the_same_registers(twin: TwinProcess) -> None:
    rustypot = pytest.importorskip("rustypot")
    with FeetechBus(twin.follower, margin_s=SLOW_MACHINE_S) as bus:
        ours = bus.read_block(2, 0, 40).data
    controller = rustypot.Sts3215PyController(twin.follower, 1_000_000, SLOW_MACHINE_S)
    theirs = bytes(controller.read_raw_data(2, 0, 40))
    controller.close()
    assert ours == theirs


def test_sdk_meets_faults_as_on_a_real_bus(twin: TwinProcess, feetech: tuple[Any, Any]) -> None:
    port, packets = feetech

    def read() -> tuple[int, int]:
        _, result, error = packets.read2ByteTxRx(port, 2, PRESENT)
        return result, error

    twin.fault("garbage", count=30)
    assert read() == (sdk.COMM_SUCCESS, 0)
    for kind in ("corrupt", "truncate"):
        twin.fault(kind, servo_id=2)
        assert read() == (sdk.COMM_RX_CORRUPT, 0)
        assert read() == (sdk.COMM_SUCCESS, 0)
    twin.fault("overload", servo_id=2)
    assert read() == (sdk.COMM_SUCCESS, sdk.ERRBIT_OVERLOAD)
    twin.fault("overload_deaf", servo_id=2)
    assert read() == (sdk.COMM_RX_TIMEOUT, 0)
    twin.fault("power_cycle")
    assert read() == (sdk.COMM_SUCCESS, 0)


def test_sdk_takes_an_echo_for_the_answer(twin: TwinProcess, feetech: tuple[Any, Any]) -> None:
    port, packets = feetech
    twin.fault("echo")
    value, result, error = packets.read2ByteTxRx(port, 2, PRESENT)
    twin.fault("echo", on=False)
    # The request itself: code READ as the error byte, address 56 and size 2 as the position.
    assert (value, result, error) == (56 + (2 << 8), sdk.COMM_SUCCESS, 2)


def test_rustypot_meets_faults_as_on_a_real_bus(twin: TwinProcess, rusty: Any) -> None:
    before = rusty.sync_read_present_position([1, 2])
    for kind in ("corrupt", "truncate"):
        twin.fault(kind, servo_id=1)
        with pytest.raises(RuntimeError, match="motor 1"):
            rusty.sync_read_present_position([1, 2])
        time.sleep(0.05)
        assert rusty.sync_read_present_position([1, 2]) == pytest.approx(before, abs=0.02)
