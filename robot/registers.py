"""The STS3215 register table as data; the driver and the twin's emulator read the same one.

Addresses and sizes are from Feetech's public STS memory table, factory values from a real SO-101
follower after LeRobot's ``configure()``. ``sign_bit`` is the bit of the sign in Feetech's
sign-magnitude words, ``None`` for unsigned ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MODEL_STS3215 = 777
BAUD_BY_CODE = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400)
"""Bits per second by code of the baud rate register, as in Feetech's SDK."""
TICKS_PER_TURN = 4096
CURRENT_MA_PER_UNIT = 6.5
VOLTAGE_V_PER_UNIT = 0.1
LOAD_PCT_PER_UNIT = 0.1


class Area(Enum):
    """Where a register lives, which says who may write it and whether it survives a reboot."""

    EEPROM = "eeprom"
    RAM = "ram"
    READ_ONLY = "read_only"
    FACTORY = "factory"


@dataclass(frozen=True, slots=True)
class Register:
    """One register: where it is, how wide, how signed, and its value in a configured follower."""

    name: str
    address: int
    size: int
    area: Area
    default: int = 0
    sign_bit: int | None = None

    @property
    def end(self) -> int:
        """First address after the register."""
        return self.address + self.size


def _table() -> tuple[Register, ...]:
    e, r, o, f = Area.EEPROM, Area.RAM, Area.READ_ONLY, Area.FACTORY
    return (
        Register("firmware_major", 0, 1, o, 3),
        Register("firmware_minor", 1, 1, o, 10),
        Register("byte_order", 2, 1, o, 0),
        Register("model_number", 3, 2, o, MODEL_STS3215),
        Register("id", 5, 1, e, 1),
        Register("baud_rate", 6, 1, e, 0),
        Register("return_delay", 7, 1, e, 0),
        Register("response_level", 8, 1, e, 1),
        Register("min_position", 9, 2, e, 0),
        Register("max_position", 11, 2, e, 4095),
        Register("max_temperature", 13, 1, e, 70),
        Register("max_voltage", 14, 1, e, 80),
        Register("min_voltage", 15, 1, e, 40),
        Register("max_torque", 16, 2, e, 1000),
        Register("phase", 18, 1, e, 12),
        Register("unloading_condition", 19, 1, e, 44),
        Register("led_condition", 20, 1, e, 47),
        Register("p_gain", 21, 1, e, 16),
        Register("d_gain", 22, 1, e, 32),
        Register("i_gain", 23, 1, e, 0),
        Register("min_start_force", 24, 2, e, 16),
        Register("cw_dead_zone", 26, 1, e, 1),
        Register("ccw_dead_zone", 27, 1, e, 1),
        Register("protection_current", 28, 2, e, 500),
        Register("angular_resolution", 30, 1, e, 1),
        Register("homing_offset", 31, 2, e, 0, 11),
        Register("operating_mode", 33, 1, e, 0),
        Register("protective_torque", 34, 1, e, 20),
        Register("protection_time", 35, 1, e, 200),
        Register("overload_torque", 36, 1, e, 80),
        Register("speed_p_gain", 37, 1, e, 10),
        Register("over_current_time", 38, 1, e, 200),
        Register("speed_i_gain", 39, 1, e, 200),
        Register("torque_enable", 40, 1, r, 0),
        Register("acceleration", 41, 1, r, 0),
        Register("goal_position", 42, 2, r, 0, 15),
        Register("goal_time", 44, 2, r, 0),
        Register("goal_speed", 46, 2, r, 0, 15),
        Register("torque_limit", 48, 2, r, 1000),
        Register("lock", 55, 1, r, 1),
        Register("present_position", 56, 2, o, 0, 15),
        Register("present_speed", 58, 2, o, 0, 15),
        Register("present_load", 60, 2, o, 0, 10),
        Register("present_voltage", 62, 1, o, 74),
        Register("present_temperature", 63, 1, o, 25),
        Register("async_write_flag", 64, 1, o, 0),
        Register("status", 65, 1, o, 0),
        Register("moving", 66, 1, o, 0),
        Register("goal_echo", 67, 2, o, 0, 15),
        Register("present_current", 69, 2, o, 0, 15),
        Register("moving_threshold", 80, 1, f, 1),
        Register("dts", 81, 1, f, 1),
        Register("speed_unit", 82, 1, f, 50),
        Register("hts", 83, 1, f, 1),
        Register("max_speed", 84, 1, f, 70),
        Register("max_acceleration", 85, 1, f, 254),
        Register("acceleration_multiplier", 86, 1, f, 1),
    )


REGISTERS: dict[str, Register] = {register.name: register for register in _table()}
"""Every register by name."""

FILE_SIZE = max(register.end for register in REGISTERS.values())
"""Bytes in a servo's register file."""

STATE_BLOCK_ADDRESS = 56
STATE_BLOCK_SIZE = 15
"""The block 56..70 that the controller reads from all servos each tick: position to current."""


class StatusBit:
    """Bits of the error byte in every status packet."""

    VOLTAGE = 0x01
    ANGLE = 0x02
    HEAT = 0x04
    CURRENT = 0x08
    OVERLOAD = 0x20


ALARMS_AGAINST_TORQUE = StatusBit.VOLTAGE | StatusBit.HEAT
"""A limp servo that reports one of these is not energised."""
STRAINED = StatusBit.CURRENT | StatusBit.OVERLOAD
"""What a servo that was strained for too long goes on reporting until its torque is switched."""


def encode_signed(value: int, sign_bit: int) -> int:
    """Two's-complement free sign-magnitude word: magnitude with the sign in ``sign_bit``.

    Raises:
        ValueError: the magnitude does not fit below the sign bit.
    """
    magnitude = abs(value)
    if magnitude >= 1 << sign_bit:
        raise ValueError(f"{value} does not fit a sign-magnitude word with sign bit {sign_bit}")
    return magnitude | (1 << sign_bit) if value < 0 else magnitude


def decode_signed(word: int, sign_bit: int) -> int:
    """Inverse of :func:`encode_signed`; minus zero reads as zero."""
    magnitude = word & ((1 << sign_bit) - 1)
    return -magnitude if word >> sign_bit & 1 else magnitude
