"""A bus cycle, ours and the peers', on the same port, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any

import numpy as np

from robot.bus import FeetechBus
from robot.joints import SERVO_IDS
from robot.registers import REGISTERS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE
from robot.twin.client import TwinProcess

IDS = tuple(SERVO_IDS.values())
BITS_PER_BYTE, BAUD = 10, 1_000_000
READ_BYTES = 8 + len(IDS) + len(IDS) * (6 + STATE_BLOCK_SIZE)
WRITE_BYTES = 8 + len(IDS) * 3
WIRE_MS = 1e3 * (READ_BYTES + WRITE_BYTES) * BITS_PER_BYTE / BAUD
"""Time that the bytes of a cycle take on the wire: nothing can be faster."""


def _timed(cycle: Callable[[], object], cycles: int) -> dict[str, Any]:
    for _ in range(20):
        cycle()
    took_ms = np.empty(cycles)
    cpu_s, began_s = time.process_time(), time.perf_counter()
    for i in range(cycles):
        start_s = time.perf_counter()
        cycle()
        took_ms[i] = 1e3 * (time.perf_counter() - start_s)
    share = (time.process_time() - cpu_s) / (time.perf_counter() - began_s)
    median, p99 = np.percentile(took_ms, (50, 99))
    return {"cycle_ms": {"median": float(median), "p99": float(p99)}, "cpu_share": share}


def _present_pose(port: str) -> dict[int, int]:
    """Ticks by servo: the goals of all cycles, so that nothing moves. Raises ServoError."""
    with FeetechBus(port) as bus:
        replies = bus.sync_read_all(IDS, REGISTERS["present_position"].address, 2)
    return {i: int.from_bytes(packet.data, "little") for i, packet in replies.items()}


def _ours(port: str, cycles: int, goals: dict[int, int]) -> dict[str, Any]:
    with FeetechBus(port) as bus:

        def cycle() -> None:
            bus.sync_read(IDS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE)
            bus.sync_write("goal_position", goals)

        return _timed(cycle, cycles)


def _vendor_sdk(port: str, cycles: int, goals: dict[int, int]) -> dict[str, Any]:
    """The Feetech SDK as LeRobot drives it: group sync read and group sync write."""
    import scservo_sdk as sdk

    handler = sdk.PortHandler(port)
    handler.openPort()
    handler.setBaudRate(BAUD)
    packets = sdk.PacketHandler(0)
    reader = sdk.GroupSyncRead(handler, packets, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE)
    writer = sdk.GroupSyncWrite(handler, packets, REGISTERS["goal_position"].address, 2)
    for i in IDS:
        reader.addParam(i)
        writer.addParam(i, list(goals[i].to_bytes(2, "little")))

    def cycle() -> None:
        reader.txRxPacket()
        writer.txPacket()

    try:
        return _timed(cycle, cycles)
    finally:
        handler.closePort()


def _rustypot(port: str, cycles: int, goals: dict[int, int]) -> dict[str, Any]:
    """Rustypot has no call for the whole block: it reads positions only, 93 bytes fewer on the wire."""
    from rustypot import Sts3215PyController

    controller = Sts3215PyController(serial_port=port, baudrate=BAUD, timeout=0.1)
    ticks = [goals[i] for i in IDS]

    def cycle() -> None:
        controller.sync_read_present_position(list(IDS))
        controller.sync_write_raw_goal_position(list(IDS), ticks)

    return _timed(cycle, cycles)


def bench_bus(port: str | None, cycles: int) -> dict[str, Any]:
    """Time cycles on a port, or on a twin that is started here where there is none.

    Raises:
        PortError: the port cannot be opened.
        ServoError: servos do not answer; the message names them, and nothing was written.
    """
    with ExitStack() as stack:
        if port is None:
            port = stack.enter_context(TwinProcess(cameras=False)).follower
        goals = _present_pose(port)
        ours = _ours(port, cycles, goals)
        peers = {"feetech-servo-sdk": _vendor_sdk(port, cycles, goals)}
        if find_spec("rustypot") is not None:
            peers["rustypot (positions only)"] = _rustypot(port, cycles, goals)
    return {**ours, "wire_ms": WIRE_MS, "cycles": cycles, "peers": peers}
