"""The arm behind six servos on a bus: the same class drives a real SO-101 and the twin's pty.

It reads EEPROM, compares it with the calibration file and refuses to go on where they differ; it never
writes it.
"""

from __future__ import annotations

import math
import time

import numpy as np

from robot.bus import MARGIN_S, BusCounters, FeetechBus, decode, encode
from robot.calibration_file import Calibration, IntArray
from robot.errors import AlarmError, CalibrationError, OutsideError, OverloadError, ServoError
from robot.joints import GRIPPER, JOINTS, N_JOINTS
from robot.packets import Packet
from robot.registers import (
    ALARMS_AGAINST_TORQUE,
    MODEL_STS3215,
    REGISTERS,
    STATE_BLOCK_ADDRESS,
    STATE_BLOCK_SIZE,
    STRAINED,
    VOLTAGE_V_PER_UNIT,
    StatusBit,
)
from robot.seams import ArmState, FloatArray
from robot.state_block import decode_state

ACCELERATION = 254
"""Value of the acceleration register while driven: LeRobot's, nearly unlimited. The gate limits what is
asked.
"""

FULL_SPEED_STEPS_S = 4000
"""Goal speed for servos on which 0 means "stay": more than the motor reaches (5.2 rad/s is 3 400 steps/s)."""

HELD_TICKS = 160
"""A servo with torque that is so near to its goal (14 degrees) holds it; the rest is sag and lag."""

STRAY_TICKS = 50
"""A limp joint may stand so far outside its calibrated range (4.4 degrees): a range that was recorded by hand
ends a little before the joint's stop.
"""

_NO_BLOCK = bytes(STATE_BLOCK_SIZE)
_CONFIG_SIZE = REGISTERS["speed_i_gain"].end
_PHASE_SPEED_0_IS_MAX = 8
_TORQUE = REGISTERS["torque_enable"]
_DRIVE_FIRST = REGISTERS["acceleration"]
_DRIVE_NAMES = ("acceleration", "goal_position", "goal_time", "goal_speed", "torque_limit")
_DRIVE_SIZE = REGISTERS[_DRIVE_NAMES[-1]].end - _DRIVE_FIRST.address


class ServoArm:
    """Six STS3215 servos as an :class:`robot.seams.Arm`, in user units.

    Args:
        bus: the open bus; :meth:`close` closes it.
        calibration: what this arm's ticks mean.
        read_within_s: :meth:`read` asks nobody again after this time: a bad bus then does not delay a loop.

    Raises:
        ServoError: a servo does not answer, is no STS3215, or does not go to positions.
        CalibrationError: a servo's EEPROM does not say what the file says, so it is not the file of this arm.
        PortError: the port is gone.
    """

    def __init__(self, bus: FeetechBus, calibration: Calibration, *, read_within_s: float = math.inf) -> None:
        self.bus = bus
        self._read_within_s = read_within_s
        self.calibration = calibration
        self._ids = calibration.ids
        blocks = self._read_all(0, _CONFIG_SIZE)
        self._check_models(blocks)
        self._check_eeprom(blocks)
        self._torque_limit = self._column(blocks, "max_torque")
        unlimited = (self._column(blocks, "phase") & _PHASE_SPEED_0_IS_MAX) != 0
        self._goal_speed = np.where(unlimited, 0, FULL_SPEED_STEPS_S)

    @classmethod
    def connect(
        cls,
        port: str,
        calibration: Calibration,
        *,
        baud: int = 1_000_000,
        margin_s: float = MARGIN_S,
        read_within_s: float = math.inf,
    ) -> ServoArm:
        """Open a port and make sure that the arm of this calibration is behind it. Raises as the class does.

        Args:
            port: path of the serial port.
            calibration: the arm's own calibration.
            baud: bits per second.
            margin_s: see :class:`robot.bus.FeetechBus`.
            read_within_s: see the class.
        """
        names = dict(zip(calibration.ids, JOINTS, strict=True))
        bus = FeetechBus(port, baud=baud, margin_s=margin_s, joints=names)
        try:
            return cls(bus, calibration, read_within_s=read_within_s)
        except BaseException:
            bus.close()
            raise

    @property
    def counters(self) -> BusCounters:
        """What went wrong on the bus since it was opened."""
        return self.bus.counters

    def read(self) -> ArmState:
        """One sync read of the block 56..70.

        Raises:
            ServoError: it names the silent joints, and carries what the others said.
            PortError: the port is gone.
        """
        reply = self.bus.sync_read(self._ids, STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE, self._read_within_s)
        ordered = [reply.replies.get(servo_id) for servo_id in self._ids]
        state = decode_state(
            [_NO_BLOCK if packet is None else packet.data for packet in ordered],
            [0 if packet is None else packet.code for packet in ordered],
            self.calibration,
            time.monotonic(),
        )
        if reply.missing:
            error = self.bus.silent(reply.missing)
            error.missing = tuple(JOINTS[self._ids.index(servo_id)] for servo_id in reply.missing)
            if reply.replies:
                error.seen = state
            raise error
        return state

    def write(self, goal: FloatArray) -> None:
        """Send one goal for every joint in one sync write, rounded to ticks and kept inside the ranges.

        Raises:
            ValueError: the goal is not six finite numbers.
            PortError: the port is gone.
        """
        if goal.shape != (N_JOINTS,):
            raise ValueError(f"a goal has shape ({N_JOINTS},), got {goal.shape}")
        ticks = self.calibration.to_ticks(goal)
        self.bus.sync_write("goal_position", self._by_id(ticks))

    def enable(self) -> FloatArray:
        """Energise without a snap and lock EEPROM; returns the pose that is now held.

        What a servo would chase at torque-on is whatever its goal register holds, maybe from an hour ago. So
        the present pose becomes the goal first, in one packet with speed, acceleration and torque limit, and
        is read back; only then comes the torque, and that is read back too.

        A servo that holds already keeps its goal: below it hangs the arm by its sag, and to hold that pose
        would let it sag once more. The gripper keeps any goal, or it would let go of what it squeezes.

        Raises:
            AlarmError: a servo without torque reports a voltage or heat alarm. One that holds goes on.
            OutsideError: a limp joint stands far outside its range; nothing has been written.
            ServoError: a servo is silent, or does not take the goal or the torque; some may have torque then.
            PortError: the port is gone.
        """
        blocks = self._read_all(STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE)
        limp = self._limp(self._read_all(_TORQUE.address, _TORQUE.size))
        self._check_alarms(blocks, limp)
        present = self._column(blocks, "present_position", STATE_BLOCK_ADDRESS)
        self._check_inside(present, limp)
        held = self._held_goals(present, limp)
        drive = {
            "acceleration": np.full(N_JOINTS, ACCELERATION),
            "goal_position": held,
            "goal_time": np.zeros(N_JOINTS, dtype=np.int64),
            "goal_speed": self._goal_speed,
            "torque_limit": self._torque_limit,
        }
        wanted = {
            servo_id: b"".join(encode(REGISTERS[name], int(drive[name][i])) for name in _DRIVE_NAMES)
            for i, servo_id in enumerate(self._ids)
        }
        self.bus.sync_write_block(_DRIVE_FIRST.address, wanted)
        taken = self._read_all(_DRIVE_FIRST.address, _DRIVE_SIZE)
        for servo_id in self._ids:
            if taken[servo_id].data != wanted[servo_id]:
                raise self._refused(servo_id, "its goal")
        self.bus.sync_write("torque_enable", dict.fromkeys(self._ids, 1))
        self.bus.sync_write("lock", dict.fromkeys(self._ids, 1))
        for name in ("torque_enable", "lock"):
            self._verify(name, 1)
        return self.calibration.to_user(held)

    def release(self) -> None:
        """Torque off, verified. The arm falls unless it is parked. Raises ServoError, PortError."""
        self.bus.sync_write("torque_enable", dict.fromkeys(self._ids, 0))
        self._verify("torque_enable", 0)

    def relieve(self, joint: str) -> float:
        """Release an overload or over-current that a servo has latched: torque off and on, where it is.

        A goal that is far becomes its present place first, so that it does not leap with its new force; one
        that is near stays, or the arm would sag once more, and so does the gripper's, or it would let go of
        what it squeezes. Off and on are two packets that nobody answers, one behind the other: no lost answer
        comes between, and nothing falls. A servo without torque stays so.

        Returns:
            The place that is now its goal, user units.

        Raises:
            OverloadError: it is silent, or says that it is still overloaded: only its supply helps.
            ServoError: it does not take the goal or the torque.
            PortError: the port is gone.
        """
        i = JOINTS.index(joint)
        servo_id = self._ids[i]
        address, size = STATE_BLOCK_ADDRESS, STATE_BLOCK_SIZE
        try:
            said = self.bus.read_block(servo_id, address, size)
        except ServoError as error:
            raise self._still_overloaded(i, "says nothing any more") from error
        offset = REGISTERS["present_position"].address - address
        present = decode(REGISTERS["present_position"], said.data, offset)
        goal = self.bus.read(servo_id, "goal_position")
        holds = not said.code & StatusBit.CURRENT  # one that drew too much has let go
        keeps = i == GRIPPER or (holds and abs(goal - present) <= HELD_TICKS)
        place = goal if keeps else present
        held = np.clip(np.full(N_JOINTS, place), self.calibration.range_min, self.calibration.range_max)
        if self.bus.read(servo_id, "torque_enable") == 1:
            self._set(i, "goal_position", int(held[i]))
            self.bus.sync_write("torque_enable", {servo_id: 0})
            try:
                self._set(i, "torque_enable", 1)
            except ServoError:
                self.bus.sync_write("torque_enable", {servo_id: 1})  # it may have missed the first one
                raise
            if self.bus.read_block(servo_id, address, size).code & STRAINED:
                raise self._still_overloaded(
                    i, "is still overloaded after its torque was switched off and on"
                )
        return float(self.calibration.to_user(held)[i])

    def torque_enabled(self) -> bool:
        """Whether every servo says that its torque is on. Raises ServoError, PortError."""
        return not self.limp_joints()

    def limp_joints(self) -> tuple[str, ...]:
        """Joints whose servos say that their torque is off.

        Raises:
            ServoError: a servo is silent, and of the others none is limp.
            PortError: the port is gone.
        """
        reply = self.bus.sync_read(self._ids, _TORQUE.address, _TORQUE.size)
        limp = self._limp(reply.replies)
        if reply.missing and not limp:
            raise self.bus.silent(reply.missing)
        return limp

    def close(self) -> None:
        """Give the port back; torque stays as it is."""
        self.bus.close()

    # -- inside ----------------------------------------------------------------------------------------------

    def _limp(self, blocks: dict[int, Packet]) -> tuple[str, ...]:
        """Joints of those that answered whose torque is not on."""
        pairs = [(i, joint) for i, joint in zip(self._ids, JOINTS, strict=True) if i in blocks]
        return tuple(joint for i, joint in pairs if decode(_TORQUE, blocks[i].data) != 1)

    def _read_all(self, address: int, size: int) -> dict[int, Packet]:
        return self.bus.sync_read_all(self._ids, address, size)

    def _column(self, blocks: dict[int, Packet], name: str, start: int = 0) -> IntArray:
        """One register of all servos out of blocks that begin at ``start``, shape (6,)."""
        register = REGISTERS[name]
        offset = register.address - start
        values = [decode(register, blocks[servo_id].data, offset) for servo_id in self._ids]
        return np.array(values, dtype=np.int64)

    def _held_goals(self, present: IntArray, limp: tuple[str, ...]) -> IntArray:
        """The goals of servos that hold them, the present positions of the others; ticks, shape (6,)."""
        goals = self._column(
            self._read_all(_DRIVE_FIRST.address, _DRIVE_SIZE), "goal_position", _DRIVE_FIRST.address
        )
        near = np.abs(goals - present) <= HELD_TICKS
        near[GRIPPER] = True
        holds = near & np.array([joint not in limp for joint in JOINTS])
        return np.clip(
            np.where(holds, goals, present), self.calibration.range_min, self.calibration.range_max
        )

    def _by_id(self, values: IntArray) -> dict[int, int]:
        return dict(zip(self._ids, values.tolist(), strict=True))

    def _verify(self, name: str, value: int) -> None:
        register = REGISTERS[name]
        blocks = self._read_all(register.address, register.size)
        wrong = [i for i in self._ids if decode(register, blocks[i].data) != value]
        if wrong:  # a sync write is not acknowledged, so one lost packet is asked for again
            self.bus.sync_write(name, dict.fromkeys(wrong, value))
            blocks = self._read_all(register.address, register.size)
            for servo_id in self._ids:
                if decode(register, blocks[servo_id].data) != value:
                    raise self._refused(servo_id, f"{name} = {value}")

    def _set(self, i: int, name: str, value: int) -> None:
        """Write one register of one servo and read it back; tried twice."""
        servo_id = self._ids[i]
        for _ in range(2):
            self.bus.sync_write(name, {servo_id: value})
            if self.bus.read(servo_id, name) == value:
                return
        raise self._refused(servo_id, f"{name} = {value}")

    def _still_overloaded(self, i: int, what: str) -> OverloadError:
        servo_id = self._ids[i]
        return OverloadError(
            f"{self.bus.describe(servo_id)} on {self.bus.path} {what}: power-cycle the arm: hold it, and "
            "switch its supply off and on",
            servo_id=servo_id,
            joint=JOINTS[i],
        )

    def _refused(self, servo_id: int, what: str) -> ServoError:
        return ServoError(
            f"{self.bus.describe(servo_id)} on {self.bus.path} did not take {what}: check power and cable",
            servo_id=servo_id,
            joint=JOINTS[self._ids.index(servo_id)],
        )

    def _check_models(self, blocks: dict[int, Packet]) -> None:
        for servo_id, model in zip(self._ids, self._column(blocks, "model_number").tolist(), strict=True):
            if model != MODEL_STS3215:
                raise ServoError(
                    f"{self.bus.describe(servo_id)} on {self.bus.path} says model {model}, an SO-101 has "
                    f"STS3215 ({MODEL_STS3215}): put the right servo there",
                    servo_id=servo_id,
                    joint=JOINTS[self._ids.index(servo_id)],
                )

    def _check_eeprom(self, blocks: dict[int, Packet]) -> None:
        for i, mode in enumerate(self._column(blocks, "operating_mode").tolist()):
            if mode != 0:
                raise ServoError(
                    f"{self.bus.describe(self._ids[i])} on {self.bus.path} is in operating mode {mode}, not "
                    "in 0 (position): `so101 setup-motors` sets it",
                    servo_id=self._ids[i],
                    joint=JOINTS[i],
                )
        expected = {
            "homing_offset": self.calibration.homing_offset,
            "min_position": self.calibration.range_min,
            "max_position": self.calibration.range_max,
        }
        differences = [
            f"{joint} {name} is {int(found)}, not {int(wanted)}"
            for name, values in expected.items()
            for joint, found, wanted in zip(JOINTS, self._column(blocks, name), values, strict=True)
            if found != wanted
        ]
        if differences:
            listed = "; ".join(differences)
            raise CalibrationError(
                f"the servos on {self.bus.path} do not hold {self.calibration.name}: {listed}. "
                "Is it the file of this arm, and not of its leader? If so, run `so101 calibrate arm`"
            )

    def _check_inside(self, present: IntArray, limp: tuple[str, ...]) -> None:
        """The servo takes no goal outside its range: with torque it goes to the edge, at full speed."""
        beyond = np.maximum(self.calibration.range_min - present, present - self.calibration.range_max)
        for i, joint in enumerate(JOINTS):
            if i != GRIPPER and joint in limp and beyond[i] > STRAY_TICKS:
                degrees = beyond[i] * self.calibration.units_per_tick[i]
                raise OutsideError(
                    f"{self.bus.describe(self._ids[i])} on {self.bus.path} stands {degrees:.0f} degrees "
                    "outside its calibrated range and would leap into it: move it inside by hand, or run "
                    "`so101 calibrate arm` if the range is wrong",
                    servo_id=self._ids[i],
                    joint=joint,
                )

    def _check_alarms(self, blocks: dict[int, Packet], limp: tuple[str, ...]) -> None:
        for i, servo_id in enumerate(self._ids):
            alarm = blocks[servo_id].code & ALARMS_AGAINST_TORQUE
            if alarm and JOINTS[i] in limp:
                volts = self._column(blocks, "present_voltage", STATE_BLOCK_ADDRESS)[i] * VOLTAGE_V_PER_UNIT
                heat_c = self._column(blocks, "present_temperature", STATE_BLOCK_ADDRESS)[i]
                kind = "voltage" if alarm & StatusBit.VOLTAGE else "temperature"
                raise AlarmError(
                    f"{self.bus.describe(servo_id)} reports a {kind} alarm ({volts:.1f} V, {heat_c} C): "
                    "torque stays off until the supply is right and the servo has cooled down",
                    servo_id=servo_id,
                    joint=JOINTS[i],
                )
