"""Six emulated STS3215 servos: what the firmware does with their registers (register_files.py).

The bank holds registers and firmware state; it neither parses packets (see emulator.py) nor owns
physics: the world calls :meth:`ServoBank.before_step` to learn what each motor does in the coming
physics step and :meth:`ServoBank.after_step` to report where the joints went.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot.registers import (
    CURRENT_MA_PER_UNIT,
    REGISTERS,
    TICKS_PER_TURN,
    VOLTAGE_V_PER_UNIT,
    encode_signed,
)
from robot.seams import FloatArray
from robot.twin.motor import DUTY_PER_RAD_AND_P, TICKS_PER_RAD, Profile, ServoParameters
from robot.twin.protection import Protection
from robot.twin.register_files import RegisterFiles
from robot.twin.roster import Roster

SPEED_QUANTUM = 50
"""Present speed is reported in multiples of 50 steps/s, as every logged real servo does."""
MAX_SPEED_STEPS_S = 4900.0
"""Setpoint speed when goal speed is 0 and phase bit 3 is set: faster than the motor can follow."""
ACCELERATION_STEPS_S2 = 100.0
"""One unit of the acceleration register."""
MAX_WORD = 0x7FFF
"""Largest magnitude of a signed word."""
SLOW_EVERY = 10
"""Physics steps between two passes of the slow loop (current, supply, heat, overload): 33 ms."""
SET_MIDDLE = 128
"""Writing this to torque enable makes the present position 2048."""

_PRESENT = struct.Struct("<HHHBBBBBHH")
"""The block of present values, from position to current, in the order of the register table."""
_PRESENT_FIRST = REGISTERS["present_position"].address
_PRESENT_END = REGISTERS["present_current"].end
_TEMPERATURE = REGISTERS["present_temperature"].address


@dataclass(frozen=True, slots=True)
class Drive:
    """What the motors do in the coming physics step; arrays of shape (6,)."""

    setpoint_rad: FloatArray
    stiffness: FloatArray
    """N m / rad, zero where torque is off."""
    force_limit: FloatArray
    damping: FloatArray


class ServoBank:
    """Six servos on one bus.

    Args:
        eeprom: one mapping of register name to value for each servo, over the factory defaults.
        zero_tick: present-position reading of each joint at the model's zero angle, shape (6,).
        parameters: supply, motor constants and what the firmware does.
    """

    def __init__(
        self,
        eeprom: Sequence[dict[str, int]],
        zero_tick: FloatArray,
        parameters: ServoParameters | None = None,
    ) -> None:
        self.parameters = parameters or ServoParameters()
        self.n = len(eeprom)
        self._built_zero_tick = zero_tick.astype(np.float64).copy()
        self._zero_tick = self._built_zero_tick.copy()
        self._files = RegisterFiles(eeprom)
        self.time_s = 0.0
        self.position_rad = np.zeros(self.n)
        self.velocity_rad_s = np.zeros(self.n)
        self.force_nm = np.zeros(self.n)
        self._pending: deque[tuple[float, int, float]] = deque()
        self._goal = np.zeros(self.n)
        self._profile = Profile(np.zeros(self.n))
        self._steps = 0
        self._protection = Protection(self.n, self.parameters)
        self.temperature_c = self._protection.temperature_c
        self.supply_v = self._protection.supply_v
        self.stiffness_factor = 1.0
        """See :meth:`set_stiffness`."""
        self.overloaded = self._protection.overloaded
        self._roster = Roster(self._files)
        self.stuck = np.zeros(self.n, dtype=bool)
        """Joints that something blocks; see :meth:`block`."""
        self._wild_ticks: dict[int, tuple[int, int]] = {}
        self._wild_temperature_c: dict[int, tuple[int, int]] = {}
        self._dirty = True
        self._drive: Drive | None = None
        # zero_tick was read with the offsets the servos came with; later ones shift the reading.
        self._built_offset = np.array([self._offset(i) for i in range(self.n)], dtype=np.int64)
        self._recompute()

    # -- what the bus sees ---------------------------------------------------------------------------

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the servos that hear, in the order of the joints; a double id stands there twice."""
        return tuple(self._roster.hearing().values())

    def hearing(self, baud: int) -> Mapping[int, int]:
        """Slot -> id of the servos that hear at this speed, in the order of the joints."""
        return self._roster.hearing(baud)

    def hears(self, slot: int) -> bool:
        """Whether a servo has power and is not deaf."""
        return slot in self._roster.hearing()

    def read_slot(self, slot: int, address: int, size: int) -> bytes:
        """Bytes of one register file; past its end are zeros."""
        if address < _PRESENT_END and address + size > _PRESENT_FIRST:
            self._refresh(slot, range(address, address + size))
        data = self._files.ram[slot, address : address + size].tobytes()
        return data + bytes(size - len(data))

    def write_slot(self, slot: int, address: int, data: bytes) -> None:
        """Write bytes as the firmware would: read-only addresses are skipped, actions take effect."""
        torque = self._get(slot, "torque_enable")
        self._react(slot, self._files.write(slot, address, data), torque)

    def register_slot(self, slot: int, address: int, data: bytes) -> None:
        """Keep a write until :meth:`registered_slot`, a newer one, or a reboot."""
        self._files.registered[slot] = address, data

    def registered_slot(self, slot: int) -> tuple[int, bytes] | None:
        """Address and data of the write that is kept, which is then forgotten."""
        return self._files.registered.pop(slot, None)

    def error_byte_slot(self, slot: int) -> int:
        """Error byte that the servo puts into its status packets."""
        if self._dirty:
            self._recompute()
        return self._protection.status(slot)

    def reboot_slot(self, slot: int) -> None:
        """Power cycle one servo: RAM registers fall back, torque is off, latched errors are gone."""
        self._files.boot(slot)
        self._clear_protection(slot)
        self._roster.deaf[slot] = False
        self._roster.recount()
        self._goal[slot] = 0.0

    def factory_reset_slot(self, slot: int) -> None:
        """Reset EEPROM to what leaves the factory, keeping the id, then reboot."""
        self._files.reset(slot)
        self.reboot_slot(slot)

    # -- the same by id, without a wire between --------------------------------------------------------------

    def read(self, servo_id: int, address: int, size: int) -> bytes:
        """As :meth:`read_slot`, of the first servo with this id."""
        return self.read_slot(self.slots(servo_id)[0], address, size)

    def write(self, servo_id: int, address: int, data: bytes) -> None:
        """As :meth:`write_slot`, to all servos with this id."""
        for slot in self.slots(servo_id):
            self.write_slot(slot, address, data)

    def error_byte(self, servo_id: int) -> int:
        """As :meth:`error_byte_slot`, of the first servo with this id."""
        return self.error_byte_slot(self.slots(servo_id)[0])

    def reboot(self, servo_id: int) -> None:
        """As :meth:`reboot_slot`, all servos with this id."""
        for slot in self.slots(servo_id):
            self.reboot_slot(slot)

    # -- what happens to servos --------------------------------------------------------------------------

    def slots(self, servo_id: int) -> list[int]:
        """Indices of the connected servos with this id, deaf ones too. Raises KeyError if none has it."""
        return self._roster.slots(servo_id)

    def power_cycle(self) -> None:
        """Switch the supply off and on again: all connected servos boot."""
        for i in np.flatnonzero(self._roster.powered).tolist():
            self.reboot_slot(i)

    def plug(self, slots: Collection[int]) -> None:
        """Connect these servos' cables and no others; one that gets power boots."""
        for i in range(self.n):
            connected, self._roster.powered[i] = bool(self._roster.powered[i]), i in slots
            if not connected and self._roster.powered[i]:
                self.reboot_slot(i)
        self._roster.recount()
        self._dirty = True

    def force(self, servo_id: int, name: str, value: int) -> None:
        """Set any register from outside, lasting if it is no RAM. Raises ConfigError if it cannot be."""
        for i in self.slots(servo_id):
            torque = self._get(i, "torque_enable")
            self._files.force(i, name, value)
            self._react(i, {name}, torque)

    def overload(self, servo_id: int, *, deaf: bool = False) -> None:
        """Trip the overload protection; a ``deaf`` servo then says nothing until its power is cycled."""
        for i in self.slots(servo_id):
            self.overloaded[i] = True
            self._roster.deaf[i] |= deaf
        self._roster.recount()
        self._dirty = True

    def block(self, servo_id: int, *, blocked: bool) -> None:
        """Let something hold the joint where it is, or let it go; the motor knows nothing of it."""
        self.stuck[self.slots(servo_id)] = blocked
        self._dirty = True

    def shift_encoder(self, servo_id: int, ticks: int, count: int) -> None:
        """The next ``count`` position readings are off by ``ticks``; with 0 the magnet has slipped for good.

        A wild reading is one of the bus: the loop inside the servo does not see it. A slipped magnet is all
        the servo knows, so it drives the joint to where the reading agrees with the goal.
        """
        for i in self.slots(servo_id):
            if count:
                self._wild_ticks[i] = ticks, count
            else:
                self._zero_tick[i] += ticks

    def glitch_temperature(self, servo_id: int, temperature_c: float, count: int) -> None:
        """The next ``count`` temperature readings say so; the servo's own protection is not misled."""
        for i in self.slots(servo_id):
            self._wild_temperature_c[i] = round(temperature_c), count

    # -- what the world sees -------------------------------------------------------------------------

    def reset_pose(self, position_rad: FloatArray) -> None:
        """Begin anew, cool and at rest in a pose; goals and setpoints follow, nothing moves.

        Nothing blocks a joint any more, encoders and supply are right; EEPROM and cables stay as they are.
        """
        self.time_s, self._steps = 0.0, 0
        self.stuck[:] = False
        self._wild_ticks.clear()
        self._wild_temperature_c.clear()
        self._zero_tick[:] = self._built_zero_tick
        self.supply_v[:] = self.parameters.supply_v
        self._protection.restart()
        self.position_rad = position_rad.astype(np.float64).copy()
        self.velocity_rad_s[:] = 0.0
        self.force_nm[:] = 0.0
        self._pending.clear()
        for i in range(self.n):
            self._clear_protection(i)
            self._files.put(i, "goal_position", round(self.present_tick(i)) % TICKS_PER_TURN)
            self._goal[i] = self._zero_tick[i] + self.position_rad[i] * TICKS_PER_RAD
            self._profile.jump_to(i, float(self._goal[i]))
        self._dirty = True

    def set_supply(self, voltage_v: float) -> None:
        """Give all servos another supply, above zero: force, stiffness and speed go with it at once."""
        self.supply_v[:] = voltage_v
        self._dirty = True

    def set_stiffness(self, factor: float) -> None:
        """Make all servos stiffer or softer than the model says, as another build of the firmware would."""
        self.stiffness_factor = factor
        self._dirty = True

    def before_step(self, dt_s: float) -> Drive:
        """Advance the firmware by ``dt_s`` and say what the motors do meanwhile."""
        self.time_s += dt_s
        while self._pending and self._pending[0][0] <= self.time_s:
            _, i, goal = self._pending.popleft()
            self._goal[i] = goal
        if self._dirty or self._drive is None:
            self._recompute()
        if self._any_velocity_mode:
            self._turn(dt_s)
        else:
            self._profile.step(self._goal, self._speed_limit, self._acceleration_limit, dt_s)
        setpoint = (self._profile.position - self._zero_tick) / TICKS_PER_RAD
        return Drive(setpoint, self._stiffness, self._force_limit, self._damping)

    def _turn(self, dt_s: float) -> None:
        """As the profile's step, where some servos are in velocity mode.

        Their setpoints lead the joints by no more than what already takes all of the force.
        """
        turning, profile = self._velocity_mode, self._profile
        present = self._zero_tick + self.position_rad * TICKS_PER_RAD
        lead = np.zeros(self.n)
        np.divide(self._force_limit * TICKS_PER_RAD, self._stiffness, out=lead, where=self._stiffness > 0)
        speed = np.where(self._on, self._goal_speed, 0.0)
        before = profile.position, profile.velocity
        profile.step(self._goal, self._speed_limit, self._acceleration_limit, dt_s)
        profile.position = np.where(turning, before[0], profile.position)
        profile.velocity = np.where(turning, before[1], profile.velocity)
        profile.turn(turning, speed, self._acceleration_limit, (present - lead, present + lead), dt_s)
        self._goal = np.where(turning, profile.position, self._goal)

    def after_step(
        self, position_rad: FloatArray, velocity_rad_s: FloatArray, force_nm: FloatArray, dt_s: float
    ) -> None:
        """Report where the joints went and what force the motors gave, all of shape (6,)."""
        self.position_rad[:] = position_rad
        self.velocity_rad_s[:] = velocity_rad_s
        self.force_nm[:] = force_nm
        self._steps += 1
        if self._steps % SLOW_EVERY == 0:
            since_s = dt_s * SLOW_EVERY
            self._dirty |= self._protection.advance(self._on, self.force_nm, self.velocity_rad_s, since_s)

    @property
    def idle(self) -> bool:
        """Whether no servo is driven or cooling down and nothing is waiting to happen."""
        waiting = self._dirty or self._pending or self._protection.settling
        return not (waiting or self._on.any() or self.velocity_rad_s.any())

    def present_tick(self, index: int) -> float:
        """Position reading before rounding: angle over zero, less what the offset has grown."""
        shift = self._offset(index) - self._built_offset[index]
        return float(self._zero_tick[index] + self.position_rad[index] * TICKS_PER_RAD - shift)

    # -- inside the firmware -------------------------------------------------------------------------

    def _get(self, i: int, name: str) -> int:
        return self._files.get(i, name)

    def _offset(self, i: int) -> int:
        return self._get(i, "homing_offset")

    def _react(self, i: int, names: set[str], torque: int) -> None:
        """Act on written registers; ``torque`` is what torque enable held before."""
        if "torque_enable" in names and self._get(i, "torque_enable") != torque:
            self._torque_switched(i)
        if not names.isdisjoint(("id", "baud_rate")):
            self._roster.recount()
        self._dirty |= names != {"goal_position"}
        if "goal_position" in names and self._get(i, "operating_mode") == 0:
            self._pending.append((self.time_s + self.parameters.command_delay_s, i, self._clamped_goal(i)))

    def _torque_switched(self, i: int) -> None:
        if self._get(i, "torque_enable") == SET_MIDDLE:
            raw = self.present_tick(i) + self._offset(i)
            offset = int(np.clip(round(raw) % TICKS_PER_TURN - TICKS_PER_TURN // 2, -2047, 2047))
            self._files.put(i, "homing_offset", encode_signed(offset, 11), keep=True)
            self._files.put(i, "torque_enable", 0)
            return
        self._clear_protection(i)
        present = self.present_tick(i)
        self._profile.jump_to(i, self._to_zero_frame(i, present))
        stale = self.parameters.stale_goal_jump
        goal = self._clamped_goal(i) if stale else self._to_zero_frame(i, present)
        if not any(pending[1] == i for pending in self._pending):
            self._goal[i] = goal

    def _clear_protection(self, i: int) -> None:
        self._protection.clear(i)
        self._dirty = True

    def _to_zero_frame(self, i: int, tick: float) -> float:
        """Ticks as the bus says them to the frame of ``zero_tick`` (the offset the servo was built with)."""
        return tick + self._offset(i) - float(self._built_offset[i])

    def _clamped_goal(self, i: int) -> float:
        """The goal register within the position limits, in the turn in which the servo is, as it reads it."""
        goal = float(
            np.clip(self._get(i, "goal_position"), self._get(i, "min_position"), self._get(i, "max_position"))
        )
        turns = round(self.present_tick(i)) // TICKS_PER_TURN
        return self._to_zero_frame(i, goal + turns * TICKS_PER_TURN)

    def _recompute(self) -> None:
        """Turn registers into gains; only after a write, so that a physics step stays cheap."""

        def column(name: str) -> FloatArray:
            return np.array([self._get(i, name) for i in range(self.n)], dtype=np.float64)

        p = self.parameters
        mode = column("operating_mode")
        self._protection.configure(column)
        self._velocity_mode = mode == 1
        self._any_velocity_mode = bool(self._velocity_mode.any())
        able = self._roster.powered & ~self._protection.limp
        self._on = (column("torque_enable") == 1) & (mode <= 1) & able
        self._goal_speed = column("goal_speed")
        speed = np.abs(self._goal_speed)
        unlimited = (speed == 0) & ((column("phase").astype(np.int64) & 8) != 0)
        self._speed_limit = np.where(unlimited, MAX_SPEED_STEPS_S, speed)
        acceleration = column("acceleration")
        self._acceleration_limit = np.where(acceleration == 0, 1e9, acceleration * ACCELERATION_STEPS_S2)
        limit_pct = np.minimum(column("torque_limit"), 1000.0) / 10.0
        protective_pct = np.minimum(limit_pct, column("protective_torque"))
        limit_pct = np.where(self._protection.weak, protective_pct, limit_pct)
        stall = p.stall_force_nm(self.supply_v)
        stiffness = stall * DUTY_PER_RAD_AND_P * column("p_gain") * self.stiffness_factor
        self._stiffness = np.where(self._on, stiffness, 0.0)
        self._force_limit = np.where(self._on, stall * limit_pct / 100.0, 0.0)
        self._damping = np.where(self._on, p.driven_damping_nm_s_per_rad, p.viscous_nm_s_per_rad)
        self._dirty = False
        self._drive = Drive(np.zeros(self.n), self._stiffness, self._force_limit, self._damping)

    def _refresh(self, i: int, asked: range) -> None:
        """Write the present values into the register file, rounded and encoded as the firmware does.

        A wild value is used up by a reading that ``asked`` for its address.
        """
        if self._dirty:
            self._recompute()
        stall = float(self.parameters.stall_force_nm(self.supply_v)[i])
        ticks_s = float(self.velocity_rad_s[i]) * TICKS_PER_RAD
        speed = _within(SPEED_QUANTUM * int(ticks_s / SPEED_QUANTUM), -MAX_WORD, MAX_WORD)
        force = float(self.force_nm[i]) if self._on[i] else 0.0
        load = _within(round(1000.0 * force / stall), -1000, 1000)
        position = round(self.present_tick(i)) % TICKS_PER_TURN
        temperature = round(float(self.temperature_c[i]))
        if _PRESENT_FIRST in asked:
            position = (position + _used_up(self._wild_ticks, i, 0)) % TICKS_PER_TURN
        if _TEMPERATURE in asked:
            temperature = _used_up(self._wild_temperature_c, i, temperature)
        block = _PRESENT.pack(
            position,
            encode_signed(speed, 15),
            encode_signed(load, 10),
            _within(round(float(self._protection.voltage_v[i]) / VOLTAGE_V_PER_UNIT), 0, 255),
            _within(temperature, 0, 255),
            int(i in self._files.registered),
            self._protection.status(i),
            int(speed != 0),
            position,
            _within(round(1000.0 * float(self._protection.current_a[i]) / CURRENT_MA_PER_UNIT), 0, MAX_WORD),
        )
        self._files.ram[i, _PRESENT_FIRST:_PRESENT_END] = np.frombuffer(block, np.uint8)


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def _used_up(wild: dict[int, tuple[int, int]], i: int, otherwise: int) -> int:
    """The wild value of one more reading while there are some left."""
    value, left = wild.pop(i, (otherwise, 0))
    if left > 1:
        wild[i] = value, left - 1
    return value if left else otherwise
