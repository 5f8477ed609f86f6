"""LeRobot's own bus on a port, timed in LeRobot's interpreter; see :mod:`services.bench.bus`.

Reads and writes what its ``SOFollower`` does in each step of its loops: the present positions of six servos,
and goals for them. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

from lerobot.motors import Motor, MotorNormMode
from lerobot.motors.feetech import FeetechMotorsBus

from services.bench.cycle import timed, wire_ms

POSITION_BYTES = 2
NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


def main(port: str, cycles: int, ticks: dict[int, int]) -> None:
    """Time it; torque stays as it is.

    Args:
        port: serial port.
        cycles: how many.
        ticks: servo -> goal that it holds already, so that nothing moves.
    """
    motors = {name: Motor(i, "sts3215", MotorNormMode.DEGREES) for i, name in enumerate(NAMES, start=1)}
    bus = FeetechMotorsBus(port, motors)
    bus.connect()
    goals = {name: ticks[i] for i, name in enumerate(NAMES, start=1)}

    def cycle() -> None:
        bus.sync_read("Present_Position", normalize=False)
        bus.sync_write("Goal_Position", goals, normalize=False)

    result = timed(cycle, cycles, wire_ms(len(NAMES), POSITION_BYTES))
    bus.disconnect(disable_torque=False)
    sys.stdout.write(json.dumps({**result, "version": version("lerobot")}) + "\n")
