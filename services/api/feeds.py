"""Camera pictures as JPEG: encoded once per frame, for however many viewers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass

import cv2

from robot.seams import ByteArray
from services.api.link import RobotLink

STREAM_HZ = 15.0
JPEG_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Picture:
    """One encoded frame."""

    jpeg: bytes
    time_s: float
    index: int

    @property
    def age_s(self) -> float:
        """Time since it was captured."""
        return time.monotonic() - self.time_s


def encode(image: ByteArray) -> bytes:
    """RGB uint8 (height, width, 3) to JPEG."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not done:
        raise ValueError("the picture could not be encoded")
    return data.tobytes()


class CameraFeed:
    """The pictures of one camera.

    Args:
        link: Where frames are read.
        name: Of the camera.
        executor: Its thread encodes, so that the event loop is never held up.
    """

    def __init__(self, link: RobotLink, name: str, executor: Executor) -> None:
        self.name = name
        self._link = link
        self._executor = executor
        self._newest: Picture | None = None
        self._encoding = asyncio.Lock()

    async def picture(self) -> Picture | None:
        """The newest picture, ``None`` before the first; encoded only if nobody has asked for it before."""
        async with self._encoding:
            known = self._newest
            if known is None or known.index != self._link.frame_index(self.name):
                frame = self._link.frame(self.name)
                if frame is None:
                    return None
                loop = asyncio.get_running_loop()
                jpeg = await loop.run_in_executor(self._executor, encode, frame.image)
                self._newest = Picture(jpeg, frame.time_s, frame.index)
            return self._newest

    async def stream(self, hz: float = STREAM_HZ) -> AsyncIterator[Picture]:
        """New pictures as they come, at most ``hz`` of them a second; ends only with its viewer."""
        shown = 0
        period_s = 1.0 / hz
        while True:
            began_s = time.monotonic()
            if self._link.frame_index(self.name) != shown:
                picture = await self.picture()
                if picture is not None:
                    shown = picture.index
                    yield picture
            await asyncio.sleep(max(0.01, period_s - (time.monotonic() - began_s)))
