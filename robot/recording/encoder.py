"""One camera's pictures of a take, encoded in a thread of their own."""

from __future__ import annotations

import contextlib
import queue
import threading
from pathlib import Path

from robot.errors import DatasetError
from robot.recording.stats import ImageStats, Stats
from robot.recording.video import Codec, VideoWriter
from robot.seams import ByteArray


class CameraEncoder:
    """Takes pictures at once and encodes them later, in order; keeps their statistics too.

    Attributes:
        path: the video.
        error: why encoding ended before its time, else ``None``.
        pictures: how many are encoded.
    """

    def __init__(self, path: Path, size_px: tuple[int, int], fps: int, codec: Codec, capacity: int) -> None:
        """Start the thread; the video of ``size_px`` (height, width) is begun in it.

        ``capacity`` is the number of pictures that may wait to be encoded.
        """
        self.path = path
        self.error: DatasetError | None = None
        self.pictures = 0
        self._size_px, self._fps, self._codec = size_px, fps, codec
        self._capacity = capacity
        # One place more than pictures get: the end of the video always fits.
        self._queue: queue.Queue[ByteArray | None] = queue.Queue(capacity + 1)
        self._stats = ImageStats()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"encode {path.stem}", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether no further picture may wait."""
        return self._queue.qsize() >= self._capacity

    def add(self, image: ByteArray) -> None:
        """Queue a picture, RGB uint8 (height, width, 3), of which nobody changes a pixel any more.

        Only for a caller that has seen that the queue is not :attr:`full`, and only one thread may call.
        """
        self._queue.put_nowait(image)

    def end(self) -> None:
        """Say that no more pictures come; returns at once, and may be said again."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)

    def wait(self) -> None:
        """Return when the thread has ended, with :attr:`error` where it has not encoded everything."""
        self._thread.join()

    def finish(self) -> Stats:
        """Wait for the video after :meth:`end`; the statistics of its pictures.

        Raises:
            DatasetError: the encoder or the disk failed.
        """
        self.wait()
        if self.error is not None:
            raise self.error
        return self._stats.stats()

    def abandon(self) -> None:
        """Stop after the picture in hand; what waits is thrown away."""
        self._abandoned.set()
        self.end()

    def _run(self) -> None:
        finished = False
        try:
            self._encode()
            finished = True
        except DatasetError as error:
            self.error = error
        finally:
            if not finished and self.error is None:
                self.error = DatasetError(f"encoding {self.path} stopped")

    def _encode(self) -> None:
        video = VideoWriter(self.path, *self._size_px, self._fps, self._codec)
        try:
            while (image := self._queue.get()) is not None and not self._abandoned.is_set():
                video.add(image)
                self._stats.add(image)
                self.pictures += 1
        except BaseException:
            video.abandon()
            raise
        if self._abandoned.is_set():
            video.abandon()
        else:
            video.close()
