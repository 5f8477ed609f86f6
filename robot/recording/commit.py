"""Takes become episodes: checked, copied and moved into the dataset, in the background and in order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from robot.errors import BrokenTakeError, DatasetError, So101Error
from robot.recording.features import SUCCESS, Feature
from robot.recording.fragments import copy_video
from robot.recording.ledger import Ledger
from robot.recording.meta import EpisodeMeta
from robot.recording.rows import RowLayout
from robot.recording.scratch import Committing, Label, TakeFolder
from robot.recording.stats import Stats

SUCCESS_OF: dict[Label | None, int] = {"success": 1, "failure": 0, None: -1}
"""Label -> value of the column ``success``."""


def logged_features(ledger: Ledger) -> list[Feature]:
    """The features that every frame of a take brings and that are no pictures."""
    return [f for f in ledger.inputs.values() if not f.is_video and f.name != SUCCESS]


def commit_take(
    ledger: Ledger,
    folder: TakeFolder,
    task: str,
    length: int,
    label: Label | None,
    image_stats: Mapping[str, Stats],
    *,
    cut: bool = False,
) -> EpisodeMeta:
    """Make the first ``length`` frames of a take an episode; the take is gone afterwards.

    Until its last step the take stays as it is, so that it can be done again after a kill.

    Args:
        ledger: of the dataset.
        folder: the take.
        task: what is done in it.
        length: frames.
        label: what a person says of it.
        image_stats: video feature -> statistics of those pictures.
        cut: whether the take may have more frames than these.

    Raises:
        BrokenTakeError: a video or the row log does not have this many frames.
        DatasetError: a file cannot be written.
        OSError: likewise.
    """
    columns, rows = RowLayout(logged_features(ledger)).read(folder.rows)
    found = {"rows": rows}
    videos = {}
    for feature in ledger.videos:
        videos[feature.name] = folder.path / f"whole {feature.name}.mp4"
        found[feature.name] = copy_video(folder.video(feature.name), videos[feature.name], length)
    if any(count < length or (count > length and not cut) for count in found.values()):
        said = ", ".join(f"{name} {count}" for name, count in found.items())
        raise BrokenTakeError(f"a take of {length} frames has {said}")
    columns = {name: column[:length] for name, column in columns.items()}
    if SUCCESS in ledger.inputs:
        columns[SUCCESS] = np.full((length, 1), SUCCESS_OF[label], dtype=np.int64)
    folder.commit(Committing(ledger.episodes, ledger.next_file))
    episode = ledger.commit(task, columns, image_stats, videos)
    folder.remove()
    return episode


_Finish = Callable[[], dict[str, Stats]]
_Commit = Callable[[dict[str, Stats]], EpisodeMeta]


@dataclass(frozen=True, slots=True)
class _Job:
    folder: TakeFolder
    finish: _Finish
    commit: _Commit


_Change = Callable[[], EpisodeMeta]


class Committer:
    """Runs commits one after the other in a thread of its own, which starts with the first.

    A take that turns out broken is set aside and the next one committed. Anything else that fails, such as a
    full disk, ends all committing: what has not become an episode stays in its folder, and the dataset's next
    opening goes on there.

    Attributes:
        done: the episodes that takes became, in order.
        failures: everything that went wrong, in order.
    """

    def __init__(self, root: Path) -> None:
        self.done: list[EpisodeMeta] = []
        self.failures: list[DatasetError] = []
        self._root = root
        self._unsaid: list[DatasetError] = []
        self._stopped: DatasetError | None = None
        self._newest_failed = False
        self._jobs: queue.Queue[_Job | _Change | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def submit(self, folder: TakeFolder, finish: _Finish, commit: _Commit) -> None:
        """Make a take an episode when those before it are.

        Args:
            folder: the take.
            finish: waits for the take's encoders and gives the statistics of its pictures.
            commit: makes it an episode, with those.
        """
        self._put(_Job(folder, finish, commit))

    def change(self, call: _Change) -> None:
        """Have something done to the newest episode when those before it are; not where it became none.

        Args:
            call: does it. A DatasetError says that nothing was done, any other error ends all committing.
        """
        self._put(call)

    def check(self, *, again: bool = True) -> None:
        """Say what has failed since this was last called, and with ``again`` what ended all every time.

        Raises:
            DatasetError: something has.
        """
        unsaid, self._unsaid = self._unsaid, []
        if again and self._stopped is not None:
            raise self._stopped
        if unsaid:
            raise unsaid[0]

    def wait(self) -> None:
        """Return when all takes that were submitted are episodes or have failed."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _put(self, job: _Job | _Change) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="commit takes", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _run(self) -> None:
        finished = False
        try:
            while (job := self._jobs.get()) is not None:
                if isinstance(job, _Job):
                    before = len(self.failures)
                    self._do(job)
                    self._newest_failed = len(self.failures) > before
                elif self._stopped is None and not self._newest_failed:
                    self._do_change(job)
            finished = True
        finally:
            if not finished:
                self._stop(DatasetError(f"{self._root}: committing stopped"))

    def _do(self, job: _Job) -> None:
        try:
            image_stats = job.finish()
            if self._stopped is None:
                self.done.append(job.commit(image_stats))
        except BrokenTakeError as error:
            try:
                aside = job.folder.set_aside(self._root, {"reason": str(error)})
            except OSError as disk:
                self._stop(DatasetError(f"{error}; it cannot be set aside: {disk}"))
                return
            self._note(DatasetError(f"{error}: it was set aside in {aside}"))
        except (So101Error, OSError, pa.ArrowException) as error:
            self._stop(
                DatasetError(
                    f"{self._root}: an episode could not be finished: {error}. What was recorded is kept in "
                    f"{job.folder.path}: make room or mend the disk, then run `so101 dataset repair`"
                )
            )

    def _do_change(self, call: _Change) -> None:
        try:
            call()
        except DatasetError as error:
            self._note(error)
        except (OSError, pa.ArrowException) as error:
            self._stop(
                DatasetError(
                    f"{self._root}: its newest episode could not be changed: {error}. No frame is lost: make "
                    "room or mend the disk, then run `so101 dataset repair`"
                )
            )

    def _stop(self, error: DatasetError) -> None:
        self._note(error)
        self._stopped = error

    def _note(self, error: DatasetError) -> None:
        self.failures.append(error)
        self._unsaid.append(error)
