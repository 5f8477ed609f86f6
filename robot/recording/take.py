"""An episode while it is recorded: every frame is in a file as soon as it is encoded."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from numpy.typing import ArrayLike

from robot.errors import DatasetError, RecordingOverloadError
from robot.recording.commit import logged_features
from robot.recording.encoder import CameraEncoder
from robot.recording.features import ACTION, ENVIRONMENT_STATE, IMAGE_PREFIX, STATE, SUCCESS
from robot.recording.ledger import Ledger
from robot.recording.rows import RowLayout, RowLog
from robot.recording.scratch import Begun, Ended, Label, TakeFolder
from robot.recording.stats import Stats
from robot.recording.video import Codec
from robot.seams import ByteArray

QUEUE_S = 0.9
"""So much of each camera may wait for its encoder, and is gone when the process is killed."""
SYNC_S = 0.25
"""What is recorded goes to the disk at least this often, so that a power cut costs no more."""
_WAIT_S = 0.002


class Take:
    """Frames on their way to become an episode; from :meth:`DatasetWriter.begin_take`.

    All methods but :meth:`finish` belong to the thread that records.

    Attributes:
        folder: where it lies.
        task: what is done in it.
        keep: whether it is recovered when its writer is killed before its end.
    """

    def __init__(
        self,
        folder: TakeFolder,
        ledger: Ledger,
        codec: Codec,
        begun: Begun,
        on_end: Callable[[Take, Label | None], None],
    ) -> None:
        """Begin a take in a new folder; ``on_end`` is called once it has ended.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder = folder
        self.task = begun.task
        self.keep = begun.keep
        self._names = {name for name in ledger.inputs if name != SUCCESS}
        self._features = [ledger.inputs[name] for name in ledger.inputs if name != SUCCESS]
        self._on_end = on_end
        self._open = True
        folder.begin(begun)
        self._log = RowLog(folder.rows, RowLayout(logged_features(ledger)))
        capacity = max(2, round(QUEUE_S * ledger.fps))
        self._encoders = {
            f.name: CameraEncoder(folder.video(f.name), (f.shape[0], f.shape[1]), ledger.fps, codec, capacity)
            for f in ledger.videos
        }
        self._disk = _DiskSync(self._log, folder, [e.path for e in self._encoders.values()])
        if begun.keep:
            self._disk.start()

    @property
    def length(self) -> int:
        """Frames so far."""
        return self._log.rows

    @property
    def size_bytes(self) -> int:
        """Room that it has on the disk, and needs once more to become an episode. Raises OSError."""
        return sum(path.stat().st_size for path in self.folder.path.iterdir())

    @property
    def is_open(self) -> bool:
        """Whether it takes frames."""
        return self._open

    @property
    def waiting(self) -> int:
        """Most frames that wait for one camera's encoder."""
        return max((self.length - encoder.pictures for encoder in self._encoders.values()), default=0)

    def add(
        self,
        state: ArrayLike,
        action: ArrayLike,
        images: Mapping[str, ByteArray],
        environment_state: ArrayLike | None = None,
        extra: Mapping[str, ArrayLike] | None = None,
        *,
        wait: bool = False,
    ) -> None:
        """Add one frame; a frame that is refused leaves the take as it was.

        Pictures are copied: the caller may use its arrays again.

        Args:
            state: measured pose, user units, shape (6,).
            action: commanded pose, user units, shape (6,).
            images: camera name -> RGB uint8 (height, width, 3), exactly the cameras of the dataset.
            environment_state: pickup x, y in metres, shape (2,), where the dataset has it.
            extra: value of each extra feature, by name; ``success`` comes with the end.
            wait: wait for the encoders where they are behind, for a caller that need not keep a rate.

        Raises:
            RecordingOverloadError: an encoder is :data:`QUEUE_S` behind and ``wait`` is false. The take can
                still be ended, with the frames so far.
            DatasetError: a feature is missing, unknown, of the wrong type or shape, or not finite, and the
                message names it; or an encoder or the disk failed, and nothing more can be added.
        """
        if not self._open:
            raise DatasetError("the take has ended: begin another")
        given: dict[str, ArrayLike] = {STATE: state, ACTION: action}
        given.update({f"{IMAGE_PREFIX}{camera}": image for camera, image in images.items()})
        if environment_state is not None:
            given[ENVIRONMENT_STATE] = environment_state
        given.update(extra or {})
        if given.keys() != self._names:
            for name in self._names - given.keys():
                raise DatasetError(f"{name}: the frame does not have it")
            unknown = sorted(given.keys() - self._names)[0]
            raise DatasetError(f"{unknown}: the dataset has no such feature, only {', '.join(self._names)}")
        checked = {feature.name: feature.check(given[feature.name]) for feature in self._features}
        self._make_room(wait)
        pictures = {name: checked.pop(name).copy() for name in self._encoders}
        self._log.append(checked)
        for name, picture in pictures.items():
            self._encoders[name].add(picture)

    def end(self, label: Label | None = None) -> None:
        """No more frames; the take becomes an episode in the background.

        Args:
            label: what a person says of it; fills the column ``success`` where the dataset has it.

        Raises:
            DatasetError: it has no frames, and stays open, or has ended already, or the disk failed.
        """
        if not self._open:
            raise DatasetError("the take has ended already")
        if self.length == 0:
            raise DatasetError("there are no frames to save")
        self._open = False
        try:
            self.folder.end(Ended(self.length, label))
        except OSError as error:
            self.abandon()
            raise DatasetError(
                f"{self.folder.path} cannot be written: {error}. The frames so far are kept there: make "
                "room, then run `so101 dataset repair`"
            ) from error
        for encoder in self._encoders.values():
            encoder.end()
        self._on_end(self, label)

    def discard(self) -> None:
        """Throw the frames away; does nothing where the take has ended."""
        if self._open:
            for encoder in self._encoders.values():
                encoder.abandon()
            self.abandon()
            self.folder.remove()

    def abandon(self) -> None:
        """Let go of an open take and leave it on the disk, for the dataset's next opening to recover."""
        self._open = False
        for encoder in self._encoders.values():
            encoder.end()
        for encoder in self._encoders.values():
            encoder.wait()
        self._disk.stop()
        self._log.close()

    def finish(self) -> dict[str, Stats]:
        """Wait until all pictures of an ended take are encoded; statistics by video feature.

        Raises:
            DatasetError: an encoder or the disk failed.
        """
        try:
            return {name: encoder.finish() for name, encoder in self._encoders.items()}
        finally:
            self._disk.stop()
            self._log.close()

    def _make_room(self, wait: bool) -> None:
        """See that every encoder can take a picture, before the first gets one: they stay in step."""
        while True:
            errors = [self._disk.error, *(encoder.error for encoder in self._encoders.values())]
            for error in errors:
                if error is not None:
                    raise DatasetError(f"recording failed: {error}") from error
            full = [name for name, encoder in self._encoders.items() if encoder.full]
            if not full:
                return
            if not wait:
                raise RecordingOverloadError(
                    f"{full[0]}: its encoder is {QUEUE_S:g} s behind. This machine is too slow for these "
                    "cameras: close other programs, or choose a smaller picture, a lower --fps or another "
                    "--codec"
                )
            time.sleep(_WAIT_S)


class _DiskSync:
    """Sees that what is written of a take reaches the disk, in a thread of its own."""

    def __init__(self, log: RowLog, folder: TakeFolder, videos: list[Path]) -> None:
        self.error: OSError | None = None
        self._log, self._folder, self._videos = log, folder, videos
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="sync take", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Sync once more and return; may be called twice, and where it never began."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        files: dict[Path, int] = {}
        stopping = False
        try:
            while not stopping:
                stopping = self._stopping.wait(SYNC_S)
                new = [path for path in self._videos if path not in files and path.exists()]
                files.update({path: os.open(path, os.O_RDONLY) for path in new})
                if new or stopping:
                    self._folder.sync()
                for descriptor in files.values():
                    os.fdatasync(descriptor)
                self._log.sync()
        except OSError as error:
            self.error = error
        finally:
            for descriptor in files.values():
                os.close(descriptor)
