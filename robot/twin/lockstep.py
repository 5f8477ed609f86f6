"""The lockstep gait: the twin in this process, as fast as the machine goes, deterministic.

The same registers as on the bus are read and written, so goals are ticks, positions are ticks and
speeds come in steps of 50; only packets, wire time and real time are left out.
"""

from __future__ import annotations

import numpy as np

from robot.calibration_file import Calibration, parse_calibration
from robot.errors import ServoError
from robot.joints import JOINTS, SERVO_IDS
from robot.registers import REGISTERS, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE, encode_signed
from robot.seams import ArmState, FloatArray
from robot.state_block import decode_state
from robot.twin.world import World, twin_calibration

IDS = tuple(SERVO_IDS.values())
_NO_BLOCK = bytes(STATE_BLOCK_SIZE)


def follower_calibration() -> Calibration:
    """The twin's own calibration."""
    return parse_calibration(twin_calibration(), "twin_calibration.json")


class LockstepClock:
    """Time is the world's time; waiting means stepping it."""

    def __init__(self, world: World) -> None:
        self.world = world

    def now_s(self) -> float:
        """See Clock."""
        return self.world.time_s

    def sleep_until_s(self, deadline_s: float) -> None:
        """Step the world to the deadline (to the nearest physics step)."""
        steps = round((deadline_s - self.world.time_s) / self.world.timestep_s)
        for _ in range(steps):
            self.world.step()


class LockstepArm:
    """The follower's servos without a bus between; implements Arm."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calibration = follower_calibration()

    def _write(self, name: str, words: list[int]) -> None:
        register, bank = REGISTERS[name], self.world.follower
        for servo_id, word in zip(IDS, words, strict=True):
            if servo_id in bank.ids:
                bank.write(servo_id, register.address, word.to_bytes(register.size, "little"))

    def read(self) -> ArmState:
        """See Arm. Raises ServoError where a servo is deaf, unplugged, or has another id."""
        bank = self.world.follower
        missing = [i for i in IDS if i not in bank.ids]
        blocks = [
            _NO_BLOCK if i in missing else bank.read(i, STATE_BLOCK_ADDRESS, len(_NO_BLOCK)) for i in IDS
        ]
        errors = [0 if i in missing else bank.error_byte(i) for i in IDS]
        state = decode_state(blocks, errors, self.calibration, self.world.time_s)
        if missing:
            names = tuple(JOINTS[IDS.index(i)] for i in missing)
            error = ServoError(f"{', '.join(names)}: no answer", servo_id=missing[0], joint=names[0])
            error.seen, error.missing = state, names
            raise error
        return state

    def write(self, goal: FloatArray) -> None:
        """See Arm."""
        ticks = self.calibration.to_ticks(goal)
        self._write("goal_position", [encode_signed(int(tick), 15) for tick in ticks])

    def enable(self) -> FloatArray:
        """See Arm."""
        present = self.read().position
        self._write("acceleration", [254] * len(IDS))
        self._write("goal_speed", [0] * len(IDS))
        self.write(present)
        self._write("torque_enable", [1] * len(IDS))
        return np.array(present)

    def release(self) -> None:
        """See Arm."""
        self._write("torque_enable", [0] * len(IDS))

    def torque_enabled(self) -> bool:
        """See Arm."""
        address, bank = REGISTERS["torque_enable"].address, self.world.follower
        return all(i in bank.ids and bank.read(i, address, 1) == b"\x01" for i in IDS)

    def close(self) -> None:
        """See Arm."""
