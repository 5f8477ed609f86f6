"""Camera frames through shared memory: written once, read by the worker, the recorder and the dashboard."""

from __future__ import annotations

import struct

import numpy as np

from robot.errors import SegmentError
from robot.seams import ByteArray, Frame
from robot.seqlock import SlotRing

_STAMP = struct.Struct("<d")
_CHANNELS = 3


class FrameRing:
    """The newest pictures of one camera: RGB uint8 (height, width, 3) with their monotonic capture time."""

    def __init__(self, ring: SlotRing) -> None:
        self._ring = ring
        self.height, self.width = ring.user_words[:2]
        self._image_bytes = self.height * self.width * _CHANNELS

    @classmethod
    def create(cls, name: str, height: int, width: int, slots: int = 4) -> FrameRing:
        """Open for writing; adopts what a killed writer left. Raises SegmentError (see SlotRing.create)."""
        size = _STAMP.size + height * width * _CHANNELS
        return cls(SlotRing.create(name, slots=slots, slot_size=size, user_words=(height, width, 0, 0)))

    @classmethod
    def attach(cls, name: str) -> FrameRing:
        """Open for reading. Raises SegmentError where there is no such segment."""
        return cls(SlotRing.attach(name))

    @property
    def index(self) -> int:
        """Counter of the newest frame, 0 before the first; tells cheaply whether there is a new one."""
        return self._ring.head

    def write(self, image: ByteArray, time_s: float) -> int:
        """Publish one picture; returns its index.

        Args:
            image: RGB uint8 of shape (height, width, 3).
            time_s: monotonic capture time.

        Raises:
            SegmentError: the picture has another shape or type.
        """
        wanted = (self.height, self.width, _CHANNELS)
        if image.shape != wanted or image.dtype != np.uint8:
            raise SegmentError(f"a frame must be uint8 {wanted}, not {image.dtype} {image.shape}")
        return self._ring.write(_STAMP.pack(time_s), np.ascontiguousarray(image).data)

    def newest(self) -> Frame | None:
        """Copy of the newest frame, whole; ``None`` before the first. Its age is for the reader to judge."""
        newest = self._ring.newest()
        return None if newest is None else self._frame(*newest)

    def read(self, index: int) -> Frame | None:
        """Copy of one frame; ``None`` where a later one took its place, or it is yet to come."""
        payload = self._ring.read(index)
        return None if payload is None else self._frame(index, payload)

    def replaced(self) -> bool:
        """Whether the segment was unlinked or replaced, so that one should re-attach."""
        return self._ring.replaced()

    def close(self) -> None:
        """Unmap; the segment stays."""
        self._ring.close()

    def unlink(self) -> None:
        """Remove the segment's name."""
        self._ring.unlink()

    def _frame(self, index: int, payload: bytearray) -> Frame:
        (time_s,) = _STAMP.unpack_from(payload)
        image = np.frombuffer(payload, np.uint8, self._image_bytes, _STAMP.size)
        return Frame(image.reshape(self.height, self.width, _CHANNELS), time_s, index)
