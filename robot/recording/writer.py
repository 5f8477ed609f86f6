"""Writes episodes as a LeRobotDataset v3.0 that survives the death of its writer.

Frames go to disk while they are recorded, into a take of their own below ``.recording``
(:mod:`~robot.recording.take`); an ended take becomes an episode in the background
(:mod:`~robot.recording.commit`), and what a killed writer left is brought to its end when the dataset is
opened the next time (:mod:`~robot.recording.recovery`).
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import ArrayLike, NDArray

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.commit import SUCCESS_OF, Committer, commit_take, logged_features
from robot.recording.creation import Units, acquire, new_info, occupied
from robot.recording.features import IMAGE_PREFIX, SUCCESS, Feature
from robot.recording.files import make_folder, publish_json, read_json
from robot.recording.hardware import choose_codec, codec_of
from robot.recording.ledger import Ledger
from robot.recording.meta import EpisodeMeta
from robot.recording.recovery import Recovered, recover_takes
from robot.recording.rows import RowLayout
from robot.recording.scratch import MERGE_SCRATCH, SCRATCH, Begun, Label, TakeFolder, clear, takes
from robot.recording.stats import Stats
from robot.recording.take import Take
from robot.recording.video import Codec
from robot.seams import ByteArray

_NEEDED = ("features", "fps", "chunks_size", "data_path", "video_path", "total_episodes", "total_frames")
"""What a writer needs of ``info.json``."""

__all__ = ["MERGE_SCRATCH", "DatasetWriter", "Label", "Recovered", "Take", "Units"]


class DatasetWriter:
    """Appends episodes to a dataset on disk; one writer per dataset, which a lock enforces.

    Use :meth:`create` or :meth:`open`. Who records at a rate begins takes (:meth:`begin_take`) and lets them
    become episodes in the background; who makes episodes as fast as it can uses :meth:`begin_episode`,
    :meth:`add_frame` and :meth:`save_episode` (or :meth:`discard_episode`), which wait. :meth:`close` at the
    end.

    Attributes:
        root: the dataset's folder.
        recovered: what became of the takes that a killed writer had left.
    """

    def __init__(self, root: Path, lock: int, info: dict[str, Any], codec: Codec) -> None:
        self.root = root
        self.recovered: tuple[Recovered, ...] = ()
        self._lock = lock
        self._codec = codec
        self._scratch = root / SCRATCH
        self._ledger = Ledger(root, info, self._scratch)
        self._committer = Committer(root)
        self._take: Take | None = None
        self._ended: TakeFolder | None = None
        self._next_take = 0

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        fps: int,
        cameras: Mapping[str, tuple[int, int]],
        robot_type: str = "so_follower",
        units: Units = "degrees",
        calibration_sha256: str | None = None,
        environment_state: bool = True,
        extra_features: Iterable[Feature] = (),
        extra_info: Mapping[str, Any] | None = None,
        codec: str = "h264",
    ) -> DatasetWriter:
        """Begin a new dataset.

        Args:
            root: folder that does not exist yet or is empty, but for what a killed writer left there.
            fps: frames per second.
            cameras: camera name -> (height_px, width_px), both even.
            robot_type: what LeRobot calls the arm.
            units: unit of the arm joints in state and action.
            calibration_sha256: hash of the calibration file that degrees were computed with.
            environment_state: whether frames say where to pick up (x, y in metres).
            extra_features: more columns, for instance ``Feature("loss_mask", "float32", (1,))``.
            extra_info: more keys of the ``so101`` block of ``info.json``.
            codec: ``h264`` or ``av1`` in software, a hardware encoder by name, or ``auto``, which takes the
                first hardware encoder that works here and ``h264`` where none does.

        Raises:
            DatasetError: the folder is in use or cannot be written, a feature cannot be written, or the
                hardware encoder does not work.
        """
        encoder = choose_codec(codec)
        info = new_info(
            fps=fps,
            cameras=cameras,
            robot_type=robot_type,
            units=units,
            calibration_sha256=calibration_sha256,
            environment_state=environment_state,
            extra_features=extra_features,
            extra_info=extra_info,
            codec=encoder,
        )
        try:
            make_folder(root)
        except OSError as error:
            raise _unwritable(root, error) from error
        lock = acquire(root)
        try:
            if occupied(root):
                raise DatasetError(f"{root} is not empty: choose another folder or open it to append")
            writer = cls(root, lock, info, encoder)
            for take in takes(writer._scratch):
                take.remove()
            clear(root)
            publish_json(root / layout.INFO_FILE, info, writer._scratch)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, OSError):
                raise _unwritable(root, error) from error
            raise
        return writer

    @classmethod
    def open(cls, root: Path, codec: str | None = None) -> DatasetWriter:
        """Open a dataset to append to it, after bringing what a killed writer left to its end.

        Args:
            root: its folder.
            codec: as in :meth:`create`, and of the format the dataset has; ``None`` is the one in software.

        Raises:
            DatasetError: there is no such dataset, it is not v3.0, ``info.json`` lacks something, another
                writer has it open, it has columns that cannot be written, it cannot be written at all, or the
                codec does not fit.
        """
        lock = acquire(root)
        try:
            info = read_json(root / layout.INFO_FILE)
            if info.get("codebase_version") != layout.CODEBASE_VERSION:
                raise DatasetError(
                    f"{root} is {info.get('codebase_version')!r}: only v3.0 can be appended to"
                )
            lacking = [key for key in _NEEDED if key not in info]
            if lacking:
                raise DatasetError(
                    f"{root / layout.INFO_FILE} lacks {', '.join(lacking)}: restore it from a copy"
                )
            writer = cls(root, lock, info, codec_of(_video_codec(info), codec))
            clear(root)
            episodes = writer._ledger.recover()
            writer.recovered = recover_takes(writer._ledger, writer._scratch, episodes)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, OSError):
                raise _unwritable(root, error) from error
            raise
        return writer

    @property
    def info(self) -> Mapping[str, Any]:
        """The content of ``info.json``."""
        return self._ledger.info

    @property
    def total_episodes(self) -> int:
        """Finished episodes."""
        return self._ledger.episodes

    @property
    def episode_length(self) -> int:
        """Frames of the episode being recorded."""
        return 0 if self._take is None else self._take.length

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras whose pictures every frame must bring."""
        return tuple(feature.name.removeprefix(IMAGE_PREFIX) for feature in self._ledger.videos)

    @property
    def codec(self) -> Codec:
        """The encoder in use."""
        return self._codec

    @property
    def failures(self) -> tuple[DatasetError, ...]:
        """What went wrong in the background since the writer was opened."""
        return tuple(self._committer.failures)

    def begin_take(self, task: str) -> Take:
        """Start to record; ``task`` is a sentence that says what is done. Returns in milliseconds.

        Killed before its end, the take is recovered when the dataset is opened the next time.

        Raises:
            DatasetError: a take is open already, the task is empty, the disk fails, or an earlier take did
                not become an episode.
        """
        return self._begin(task, keep=True)

    def begin_episode(self, task: str) -> None:
        """Start to record frames that can be made again: killed before they are saved, they are gone.

        Raises:
            DatasetError: as :meth:`begin_take`.
        """
        self._begin(task, keep=False)

    def add_frame(
        self,
        state: ArrayLike,
        action: ArrayLike,
        images: Mapping[str, ByteArray],
        environment_state: ArrayLike | None = None,
        extra: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Add one frame to the episode, waiting for the encoders; see :meth:`Take.add`.

        Raises:
            DatasetError: no episode was begun, or as :meth:`Take.add`.
        """
        if self._take is None:
            raise DatasetError("no episode is being recorded: call begin_episode first")
        self._take.add(state, action, images, environment_state, extra, wait=True)

    def save_episode(self, label: Label | None = None) -> EpisodeMeta:
        """Finish the episode; when this returns it is on the disk and will be read.

        Raises:
            DatasetError: no episode was begun, it has no frames, or it could not be written.
        """
        if self._take is None or self._take.length == 0:
            raise DatasetError("there are no frames to save")
        self._take.end(label)
        self.wait()
        return self._committer.done[-1]

    def discard_episode(self) -> None:
        """Throw the frames of the episode being recorded away; does nothing where there is none."""
        if self._take is not None:
            self._take.discard()
            self._take = None

    def commit_episode(
        self,
        task: str,
        columns: Mapping[str, NDArray[Any]],
        image_stats: Mapping[str, Stats],
        videos: Mapping[str, Path],
    ) -> EpisodeMeta:
        """Make an episode part of the dataset whose videos are encoded already.

        Args:
            task: what is done in it.
            columns: feature -> array of shape (frames, n), all but those that the writer fills in.
            image_stats: video feature -> statistics of its pictures.
            videos: video feature -> mp4 file on the dataset's file system, which is moved into the dataset.

        Raises:
            DatasetError: a feature is missing or unknown, a file cannot be written, or an earlier take did
                not become an episode.
        """
        self.wait()
        try:
            return self._ledger.commit(task, columns, image_stats, videos)
        except OSError as error:
            raise _unwritable(self.root, error) from error

    def drop_last(self) -> EpisodeMeta:
        """Remove the newest episode, once all that has ended is one; a kill leaves it whole or gone.

        Raises:
            DatasetError: there is none, it shares its files with others, the disk fails, or all is closed.
        """
        self._check_open()
        self.wait()
        try:
            return self._ledger.drop_last()
        except OSError as error:
            raise _unwritable(self.root, error) from error

    def label_last(self, label: Label | None) -> None:
        """Change the label of the newest episode, or of the take that ended last once it is one.

        Returns at once; it is done in the background, in order, and a kill leaves the old label or the new.
        Where the take that ended last did not become an episode, nothing is labelled.

        Raises:
            DatasetError: the dataset has no column ``success``, or is closed.
        """
        self._check_open()
        if not self._ledger.has_labels:
            raise DatasetError(f"{self.root} has no column {SUCCESS}: its episodes cannot be labelled")
        if self._ended is not None:
            # Where it does not become an episode in this process, it does so with this label in the next.
            with contextlib.suppress(OSError):
                self._ended.label(label)
        self._committer.change(lambda: self._ledger.label_last(SUCCESS_OF[label]))

    def wait(self) -> None:
        """Return when every take that has ended is an episode, and labelled.

        Raises:
            DatasetError: one is not; its frames are kept, and the message says where.
        """
        self._committer.wait()
        self._committer.check()

    def close(self) -> None:
        """Wait for what has ended and let go of the dataset; may be called twice.

        An open episode is discarded. An open take stays on the disk, for the next opening to recover.

        Raises:
            DatasetError: something that had ended is no episode, and nobody was told yet; the dataset is
                closed all the same.
        """
        if self._lock < 0:
            return
        atexit.unregister(self.close)
        try:
            if self._take is not None and self._take.is_open:
                if self._take.keep:
                    self._take.abandon()
                else:
                    self._take.discard()
            self._take = None
            self._committer.wait()
            # What cannot be removed now is at the next opening.
            with contextlib.suppress(OSError):
                if not takes(self._scratch):
                    clear(self.root)
                    self._scratch.rmdir()
        finally:
            os.close(self._lock)
            self._lock = -1
        self._committer.check(again=False)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except DatasetError:
            # What ended the block is said, and not that there is more to it.
            if error is None:
                raise

    def _begin(self, task: str, *, keep: bool) -> Take:
        self._check_open()
        if self._take is not None and self._take.is_open:
            raise DatasetError("an episode is being recorded: save or discard it first")
        if not task.strip():
            raise DatasetError("task: an episode needs a sentence that says what is done")
        self._committer.check()
        if self._next_take == 0:
            # A process that ends without closing leaves threads in the middle of encoding: Python aborts.
            atexit.register(self.close)
        begun = Begun(task, RowLayout(logged_features(self._ledger)).record_bytes, keep)
        try:
            folder = TakeFolder.make(self._scratch, self._next_take)
            self._take = Take(folder, self._ledger, self._codec, begun, self._submit)
        except OSError as error:
            raise _unwritable(self.root, error) from error
        self._next_take += 1
        return self._take

    def _check_open(self) -> None:
        if self._lock < 0:
            raise DatasetError(f"{self.root} is closed: open it again")

    def _submit(self, take: Take, label: Label | None) -> None:
        """Let a take that has ended become an episode in the background."""
        self._ended = take.folder
        if take is self._take:
            self._take = None

        def commit(image_stats: dict[str, Stats]) -> EpisodeMeta:
            return commit_take(self._ledger, take.folder, take.task, take.length, label, image_stats)

        self._committer.submit(take.folder, take.finish, commit)


def _video_codec(info: Mapping[str, Any]) -> str:
    """What the videos of a dataset are in, from its ``info.json``."""
    for feature in info.get("features", {}).values():
        if isinstance(feature, dict) and feature.get("dtype") == "video":
            return str(feature.get("info", {}).get("video.codec", "h264"))
    return "h264"


def _unwritable(root: Path, error: OSError) -> DatasetError:
    return DatasetError(
        f"{root} cannot be written: {error}. Make room or see to its permissions; nothing finished is lost"
    )
