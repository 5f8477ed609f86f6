"""Cameras by device or URL through OpenCV: real ones and the twin's alike."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import numpy as np

from robot.config import CameraConfig
from robot.errors import CameraError
from robot.seams import ByteArray, Frame

OPEN_TIMEOUT_MS = 5000
READ_TIMEOUT_MS = 2000
"""A camera that gives no frame for so long has stopped."""

_FFMPEG_OPTIONS = "fflags;nobuffer|flags;low_delay|probesize;32|analyzeduration;0|max_delay;0"
"""Hand every frame on as it comes: by default FFmpeg looks at seconds of video first and keeps a queue."""

# OpenCV reads this when it opens a stream. Whoever has set it has a reason.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", _FFMPEG_OPTIONS)


class OpenCvCamera:
    """One camera as a :class:`robot.seams.Camera`.

    Args:
        config: name, size and frame rate that are wanted.
        source: URL (``http://``, ``rtsp://``) or device (``/dev/v4l/by-id/...``); by default the one of
            ``config``.

    Raises:
        CameraError: it cannot be opened, gives no picture, or one of another size.
    """

    def __init__(self, config: CameraConfig, source: str | None = None) -> None:
        chosen = config.source if source is None else source
        if chosen is None:
            raise CameraError(f"camera {config.name} has no source: set one in the robot's configuration")
        self.name = config.name
        self._config = config
        self._source = chosen
        self._index = 0
        self._capture = self._open()
        try:
            self._check_size(self._grab()[0])
        except CameraError:
            self._capture.release()
            raise

    def read(self) -> Frame:
        """Block for the next frame; its time is taken when it arrives, before it is converted.

        Raises:
            CameraError: the camera has stopped, or changed its picture size.
        """
        bgr, time_s = self._grab()
        self._check_size(bgr)
        self._index += 1
        image: ByteArray = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        return Frame(image, time_s, self._index)

    def close(self) -> None:
        """Let go of the device. Safe to call twice."""
        self._capture.release()

    def _open(self) -> cv2.VideoCapture:
        if "://" in self._source:
            timeouts = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS,
            ]  # fmt: skip
            capture = cv2.VideoCapture(self._source, cv2.CAP_FFMPEG, timeouts)
        else:
            if not Path(self._source).exists():
                raise CameraError(
                    f"camera {self.name}: no device {self._source}: plug it in, /dev/v4l/by-id lists them"
                )
            capture = cv2.VideoCapture(self._source, cv2.CAP_V4L2)
            # Uncompressed, two cameras do not fit one USB 2 bus.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._config.width_px)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._config.height_px)
            capture.set(cv2.CAP_PROP_FPS, self._config.fps)
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if not capture.isOpened():
            capture.release()
            raise CameraError(
                f"camera {self.name} at {self._source} cannot be opened: is it in use, or not allowed "
                "(group video)?"
            )
        return capture

    def _grab(self) -> tuple[ByteArray, float]:
        """The next frame as it is, BGR, and the monotonic time of its arrival."""
        try:
            arrived = self._capture.grab()
            time_s = time.monotonic()
            ok, bgr = self._capture.retrieve() if arrived else (False, None)
        except cv2.error as error:
            raise CameraError(f"camera {self.name} at {self._source} failed: {error}") from error
        if not ok or bgr is None:
            raise CameraError(
                f"camera {self.name} at {self._source} gives no pictures any more: check its cable"
            )
        return bgr, time_s

    def _check_size(self, image: ByteArray) -> None:
        wanted = (self._config.height_px, self._config.width_px, 3)
        if image.shape != wanted:
            height, width = image.shape[:2]
            raise CameraError(
                f"camera {self.name} gives {width}x{height} pictures, the configuration says "
                f"{wanted[1]}x{wanted[0]}: set width_px and height_px to what the camera can do"
            )
