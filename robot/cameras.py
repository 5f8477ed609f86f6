"""Cameras by device or URL through OpenCV: real ones and the twin's alike."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cv2
import numpy as np

from robot.config import CameraConfig
from robot.errors import CameraError
from robot.seams import ByteArray, Camera, Frame

OPEN_TIMEOUT_MS = 5000
READ_TIMEOUT_MS = 2000
"""A camera that gives no frame for so long has stopped."""

_FFMPEG_OPTIONS = "fflags;nobuffer|flags;low_delay|probesize;32|analyzeduration;0|max_delay;0"
"""Hand every frame on as it comes: by default FFmpeg looks at seconds of video first and keeps a queue."""

# OpenCV reads these when it opens a stream or a device. Whoever has set them has a reason.
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", _FFMPEG_OPTIONS)
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(READ_TIMEOUT_MS // 1000))

BY_ID = Path("/dev/v4l/by-id")
"""Names of video devices that stay the same whatever is plugged in when; /dev/video0 does not."""
FPS_TOLERANCE = 0.5
"""A driver that says 29.97 means 30."""
FILE_PREFIX = "file:"
"""Begins a source that is a video, or a folder of pictures, to be played in a loop."""


def open_camera(config: CameraConfig, source: str | None = None) -> Camera:
    """A camera by device or URL, or a player of the file in ``file:PATH``.

    Raises:
        CameraError: it cannot be opened, gives no picture, or another size or rate than asked for.
    """
    chosen = config.source if source is None else source
    if chosen is not None and chosen.startswith(FILE_PREFIX):
        from robot.file_camera import FileCamera  # brings FFmpeg's libraries

        return FileCamera(config, Path(chosen.removeprefix(FILE_PREFIX)))
    return OpenCvCamera(config, source)


class OpenCvCamera:
    """One camera as a :class:`robot.seams.Camera`.

    Args:
        config: name, size and frame rate that are wanted.
        source: URL (``http://``, ``rtsp://``) or device (``/dev/v4l/by-id/...``); by default the one of
            ``config``.

    Raises:
        CameraError: it cannot be opened, gives no picture, or another size or rate than asked for.
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
        capture = self._open_stream() if "://" in self._source else self._open_device()
        if not capture.isOpened():
            capture.release()
            raise CameraError(
                f"camera {self.name} at {self._where()} cannot be opened: is it in use, or not allowed "
                "(group video)?"
            )
        return capture

    def _open_stream(self) -> cv2.VideoCapture:
        timeouts = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS,
        ]  # fmt: skip
        return cv2.VideoCapture(self._source, cv2.CAP_FFMPEG, timeouts)

    def _open_device(self) -> cv2.VideoCapture:
        """A UVC camera in the mode that is wanted. Raises CameraError where it takes another one."""
        wanted = self._config
        if not Path(self._source).exists():
            raise CameraError(f"camera {self.name}: no device {self._source}: plug it in, {BY_ID} lists them")
        capture = cv2.VideoCapture(self._source, cv2.CAP_V4L2)
        # Uncompressed, two cameras do not fit one USB 2 bus. The format comes first: rates depend on it.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.width_px)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.height_px)
        capture.set(cv2.CAP_PROP_FPS, wanted.fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not a queue of old ones
        if not capture.isOpened():
            return capture
        # A driver does not refuse a mode it cannot do, it silently takes the nearest one.
        width_px = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height_px = round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        fps = capture.get(cv2.CAP_PROP_FPS)  # 0: the driver does not know
        same_size = (width_px, height_px) == (wanted.width_px, wanted.height_px)
        if not same_size or (fps > 0 and abs(fps - wanted.fps) > FPS_TOLERANCE):
            capture.release()
            raise CameraError(
                f"camera {self.name} at {self._where()} was asked for {wanted.width_px}x{wanted.height_px} "
                f"at {wanted.fps} pictures a second and gives {width_px}x{height_px} at {fps:g}: set "
                "width_px, height_px and fps to a mode that it has "
                f"(v4l2-ctl --device {self._source} --list-formats-ext)"
            )
        return capture

    def _where(self) -> str:
        """The source for a message; a device that has a stable name is told with it."""
        device = Path(self._source)
        if "://" in self._source or device.is_symlink() or not BY_ID.is_dir():
            return self._source
        stable = [link for link in sorted(BY_ID.iterdir()) if link.resolve() == device.resolve()]
        return f"{self._source} (better {stable[0]})" if stable else self._source

    def _grab(self) -> tuple[ByteArray, float]:
        """The next frame as it is, BGR, and the monotonic time of its arrival."""
        try:
            arrived = self._capture.grab()
            time_s = time.monotonic()
            ok, bgr = self._capture.retrieve() if arrived else (False, None)
        except cv2.error as error:
            raise CameraError(f"camera {self.name} at {self._where()} failed: {error}") from error
        if not ok or bgr is None:
            raise CameraError(
                f"camera {self.name} at {self._where()} gives no pictures any more: check its cable"
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
