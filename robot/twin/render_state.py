"""The world's positions in shared memory: written by the live gait, read by the cameras."""

from __future__ import annotations

import struct

import numpy as np

from robot.seams import FloatArray
from robot.seqlock import SharedBlock

_TIME = struct.Struct("<d")


def block_size(render_size: int) -> int:
    """Bytes that a segment for so many positions needs."""
    return _TIME.size + 8 * render_size


def publish(block: SharedBlock, time_s: float, state: FloatArray) -> None:
    """Write the positions of ``World.render_state()`` as they are at monotonic ``time_s``."""
    block.write(_TIME.pack(time_s) + state.tobytes())


def newest(block: SharedBlock) -> tuple[float, FloatArray] | None:
    """Monotonic time and positions of the newest write, ``None`` before the first."""
    payload = block.read()
    if payload is None:
        return None
    return _TIME.unpack_from(payload)[0], np.frombuffer(payload, dtype=np.float64, offset=_TIME.size)
