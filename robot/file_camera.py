"""A camera that plays a file: pictures at a camera's pace without a camera, and without rendering them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from robot.config import CameraConfig
from robot.errors import CameraError
from robot.seams import ByteArray, Frame

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")


class FileCamera:
    """Plays a video, or a folder of pictures in the order of their names, over and over.

    Pictures come at the configured rate whatever the file's own is. One that nobody has fetched when the next
    is due is left out, as a camera does.

    Args:
        config: name, size and frame rate of the camera that it stands for.
        path: a video that FFmpeg reads, or a folder.

    Raises:
        CameraError: there is no such file, it holds no picture, or pictures of another size.
    """

    def __init__(self, config: CameraConfig, path: Path) -> None:
        self.name = config.name
        self._path = path
        self._shape = (config.height_px, config.width_px, 3)
        self._period_s = 1.0 / config.fps
        self._index = 0
        self._pictures = self._played()
        self._fetch()  # the first is only looked at
        self._due_s = time.monotonic()

    def read(self) -> Frame:
        """Wait until the next picture is due. Raises CameraError where the file went or changed its size."""
        image = self._fetch()
        late_s = time.monotonic() - self._due_s
        if late_s < 0:
            time.sleep(-late_s)
        time_s = time.monotonic()
        self._due_s += self._period_s * (1 + max(0, int(late_s / self._period_s)))
        self._index += 1
        return Frame(image, time_s, self._index)

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        self._pictures.close()

    def _fetch(self) -> ByteArray:
        image = next(self._pictures)
        if image.shape != self._shape:
            raise CameraError(
                f"camera {self.name}: {self._path} has pictures of {image.shape[1]}x{image.shape[0]}, the "
                f"configuration says {self._shape[1]}x{self._shape[0]}: set width_px and height_px"
            )
        return image

    def _played(self) -> Generator[ByteArray, None, None]:
        """Its pictures, RGB, without end. Raises CameraError where there are none."""
        while True:
            found = 0
            for image in self._stills() if self._path.is_dir() else self._film():
                found += 1
                yield image
            if found == 0:
                raise CameraError(f"camera {self.name}: {self._path} holds no pictures")

    def _stills(self) -> Iterator[ByteArray]:
        for path in sorted(self._path.iterdir()):
            if path.suffix.lower() in PICTURES:
                bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
                if bgr is None:
                    raise CameraError(f"camera {self.name}: {path} is not a picture")
                yield np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def _film(self) -> Iterator[ByteArray]:
        try:
            with av.open(str(self._path)) as file:
                stream = file.streams.video[0]
                stream.thread_count = 1
                for frame in file.decode(stream):
                    yield frame.to_ndarray(format="rgb24")
        except (av.FFmpegError, OSError, IndexError) as error:
            raise CameraError(f"camera {self.name}: {self._path} is not a readable video: {error}") from error
