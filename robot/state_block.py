"""The block 56..70 of six servos, as bytes, turned into an ArmState."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot.calibration_file import Calibration
from robot.registers import (
    CURRENT_MA_PER_UNIT,
    LOAD_PCT_PER_UNIT,
    REGISTERS,
    STATE_BLOCK_ADDRESS,
    VOLTAGE_V_PER_UNIT,
    decode_signed,
)
from robot.seams import ArmState, FloatArray


def _field(blocks: Sequence[bytes], name: str) -> FloatArray:
    register = REGISTERS[name]
    start = register.address - STATE_BLOCK_ADDRESS
    words = (int.from_bytes(block[start : start + register.size], "little") for block in blocks)
    sign = register.sign_bit
    return np.array([w if sign is None else decode_signed(w, sign) for w in words], dtype=np.float64)


def decode_state(
    blocks: Sequence[bytes], error_bytes: Sequence[int], calibration: Calibration, time_s: float
) -> ArmState:
    """Turn what six servos sent into user units.

    Args:
        blocks: bytes 56..70 of each servo, in the order of ``JOINTS``.
        error_bytes: error byte of each servo's status packet.
        calibration: ticks to user units.
        time_s: monotonic time of the read.
    """
    return ArmState(
        time_s=time_s,
        position=calibration.to_user(_field(blocks, "present_position")),
        velocity=_field(blocks, "present_speed") * calibration.units_per_tick,
        load_pct=_field(blocks, "present_load") * LOAD_PCT_PER_UNIT,
        current_ma=_field(blocks, "present_current") * CURRENT_MA_PER_UNIT,
        voltage_v=_field(blocks, "present_voltage") * VOLTAGE_V_PER_UNIT,
        temperature_c=_field(blocks, "present_temperature"),
        status=np.array(error_bytes, dtype=np.uint8),
    )
