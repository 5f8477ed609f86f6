"""A bus cycle, ours and the peers', on the same port, one after the other."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from robot.bus import FeetechBus, decode
from robot.errors import ConfigError
from robot.joints import SERVO_IDS
from robot.registers import REGISTERS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE, TICKS_PER_TURN
from robot.twin.client import TwinProcess
from services.bench.cycle import BAUD, timed, wire_ms

IDS = tuple(SERVO_IDS.values())
POSITION_BYTES = REGISTERS["present_position"].size
WIRE_MS = wire_ms(len(IDS), STATE_BLOCK_SIZE)
POSITIONS_WIRE_MS = wire_ms(len(IDS), POSITION_BYTES)
ROOT = Path(__file__).resolve().parents[2]
LEROBOT_PYTHON = ROOT / ".venv-lerobot" / "bin" / "python"
"""Where ``bin/setup-lerobot`` puts it."""
LEROBOT_START_S = 120.0
"""It imports torch first."""
LONGEST_CYCLE_S = 0.2


def _held_pose(port: str) -> dict[int, int]:
    """Ticks by servo: the goals of all cycles, so that nothing moves. Raises ServoError.

    A servo with torque keeps its goal: its present position, as a goal, would let the arm sag once more.
    """
    torque, goal, present = (
        REGISTERS[name] for name in ("torque_enable", "goal_position", "present_position")
    )
    size = present.address + present.size - torque.address
    with FeetechBus(port) as bus:
        replies = bus.sync_read_all(IDS, torque.address, size)
    pose = {}
    for i, packet in replies.items():
        register = goal if packet.data[0] else present
        pose[i] = decode(register, packet.data, register.address - torque.address) % TICKS_PER_TURN
    return pose


def _ours(port: str, cycles: int, goals: dict[int, int]) -> dict[str, Any]:
    with FeetechBus(port) as bus:

        def cycle() -> None:
            bus.sync_read(IDS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE)
            bus.sync_write("goal_position", goals)

        return timed(cycle, cycles, WIRE_MS)


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
        return timed(cycle, cycles, WIRE_MS)
    finally:
        handler.closePort()


def _rustypot(port: str, cycles: int, goals: dict[int, int]) -> dict[str, Any]:
    """Rustypot has no call for the whole block: it reads positions only, 78 bytes fewer on the wire.

    ``failed`` says why in place of figures where it gave up.
    """
    from rustypot import Sts3215PyController

    controller = Sts3215PyController(serial_port=port, baudrate=BAUD, timeout=0.1)
    ticks = [goals[i] for i in IDS]

    def cycle() -> None:
        controller.sync_read_present_position(list(IDS))
        controller.sync_write_raw_goal_position(list(IDS), ticks)

    try:
        result = timed(cycle, cycles, POSITIONS_WIRE_MS)
        controller.close()
    except BaseException as error:  # a lost answer makes it panic, which is no Exception
        if type(error).__name__ != "PanicException":
            raise
        return {"failed": f"it panicked: {error}"}
    return result


def _lerobot(port: str, cycles: int, goals: dict[int, int], python: Path) -> dict[str, Any]:
    """LeRobot in its own interpreter; it reads positions only, too."""
    # Ours comes last on its path: what LeRobot imports is its own.
    script = f"import sys; sys.path.append({str(ROOT)!r})\n"
    script += f"from services.bench.lerobot_cycle import main; main({port!r}, {cycles}, {goals!r})"
    command = [str(python), "-c", script]
    limit_s = LEROBOT_START_S + LONGEST_CYCLE_S * cycles
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"LeRobot could not be timed with {python}: {error}") from error
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        raise ConfigError(
            f"{python} could not time LeRobot: {last}. Install it with bin/setup-lerobot, or leave it out"
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def lerobot_python(asked: Path | None) -> Path | None:
    """The interpreter that has LeRobot: the one asked for, or ``.venv-lerobot``'s where that is.

    Raises:
        ConfigError: the one asked for is not there.
    """
    if asked is not None and not asked.is_file():
        raise ConfigError(f"no Python at {asked}: install LeRobot with bin/setup-lerobot, or leave it out")
    return asked or (LEROBOT_PYTHON if LEROBOT_PYTHON.is_file() else None)


def bench_bus(port: str | None, cycles: int, python: Path | None = None) -> dict[str, Any]:
    """Time cycles on a port, or on a twin that is started here where there is none.

    Args:
        port: serial port.
        cycles: how many to time.
        python: interpreter that has LeRobot.

    Raises:
        PortError: the port cannot be opened.
        ServoError: servos do not answer; the message names them, and nothing was written.
        ConfigError: ``python`` is no interpreter that has LeRobot.
    """
    python = lerobot_python(python)
    with ExitStack() as stack:
        if port is None:
            port = stack.enter_context(TwinProcess(cameras=False)).follower
        goals = _held_pose(port)
        ours = _ours(port, cycles, goals)
        peers = {"feetech-servo-sdk": _vendor_sdk(port, cycles, goals)}
        if find_spec("rustypot") is not None:
            peers["rustypot (positions only)"] = _rustypot(port, cycles, goals)
        if python is not None:
            peers["lerobot (positions only)"] = _lerobot(port, cycles, goals, python)
    return {**ours, "cycles": cycles, "peers": peers}
