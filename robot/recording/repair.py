"""Makes a broken dataset whole again, without guessing and without throwing anything away.

Takes that a killed recorder left become episodes or are set aside, as whenever the dataset is opened.
Counts, numbers, statistics and the table of episodes are made anew from the episodes that are whole. Those
that are not are set aside, with what is replaced, below ``set_aside``. The result takes the dataset's place
in one step.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.check.examine import Progress, look
from robot.recording.check.findings import Finding, Report
from robot.recording.check.survey import Survey
from robot.recording.creation import acquire
from robot.recording.files import read_json
from robot.recording.mended import MendedDataset, find_episodes, mend_length, mend_spans
from robot.recording.reader import Dataset
from robot.recording.recovery import Recovered
from robot.recording.scratch import SCRATCH, SET_ASIDE, takes
from robot.recording.swap import keep_below, replacing
from robot.recording.transfer import append_episodes, empty_info, new_dataset, transferable
from robot.recording.writer import DatasetWriter

BROKEN = frozenset(
    {"video_broken", "video_missing", "video_length", "data_missing", "not_finite", "task_unknown"}
)
"""What makes an episode unusable, and cannot be told from anything else."""
MENDED = frozenset(
    {"info_counts", "index_broken", "episode_table", "stats_wrong", "timestamps_off", "video_span"}
    | {"row_count", "parquet_broken"}
)
"""What the episodes that are whole say themselves."""
NEEDED = frozenset({"info_broken", "version", "column_wrong", "fps_wrong"})
"""What everything else depends on, and only a person knows."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An episode that is not whole."""

    episode: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a repair does.

    Attributes:
        mends: what is wrong and is put right, in words.
        lost: episodes that are set aside.
        takes: of a killed recorder, which are brought to their end.
        left: what is wrong and stays, because it takes a person's judgement.
    """

    mends: tuple[str, ...]
    lost: tuple[Lost, ...]
    takes: int
    left: tuple[Finding, ...]

    @property
    def rebuilds(self) -> bool:
        """Whether the dataset is made anew."""
        return bool(self.mends or self.lost)


@dataclass(frozen=True)
class Repaired:
    """What a repair has done.

    Attributes:
        plan: what it found.
        recovered: what became of the takes.
        episodes: how many the dataset has now.
        set_aside: where what was replaced lies; ``None`` where nothing was.
    """

    plan: Plan
    recovered: tuple[Recovered, ...]
    episodes: int
    set_aside: Path | None


class Repair:
    """One dataset's repair: :attr:`plan` says what it will do, :meth:`run` does it."""

    def __init__(self, root: Path, progress: Progress = lambda done, total: None) -> None:
        """Look at everything; nothing is changed.

        Args:
            root: the dataset.
            progress: is told how many of how many pictures have been looked at.

        Raises:
            DatasetError: it is being written, or what is broken cannot be told from the rest; the message
                says what to do.
        """
        if root.is_file():
            raise DatasetError(f"{root} is a parquet file: a dataset is a folder")
        os.close(acquire(root))
        here = (path for path in root.rglob("*") if not path.is_symlink())
        closed = next((path for path in here if not os.access(path, os.R_OK)), None)
        if closed is not None:
            raise DatasetError(f"{closed} may not be read: see to its permissions, it may well be whole")
        self._report = Report(str(root))
        seen = look(root, self._report, progress=progress)
        self._refuse(NEEDED if seen is not None else frozenset({"info_broken", "version"}))
        if seen is None:
            raise DatasetError(f"{root} is no dataset")
        self.root = root
        self._seen: Survey = seen
        lost = self._lost()
        self._found, unknown = find_episodes(seen)
        lost |= unknown
        mends = dict.fromkeys(f.message for f in self._of(MENDED) if f.episode not in lost)
        left = tuple(f for f in self._report.findings if f.code not in BROKEN | MENDED | {"leftovers"})
        self.plan = Plan(
            tuple(mends),
            tuple(Lost(number, reason) for number, reason in sorted(lost.items())),
            len(takes(root / SCRATCH)),
            left,
        )
        if not {episode.index for episode in (*seen.episodes, *self._found)} - lost.keys() and lost:
            first = f"episode {min(lost)}: {lost[min(lost)]}"
            raise DatasetError(f"no episode of {root} is whole ({first}): restore it from a copy")

    def run(self) -> Repaired:
        """Do it.

        Raises:
            DatasetError: another process has begun to write, or the disk fails; the dataset is as it was.
        """
        recovered: tuple[Recovered, ...] = ()
        rest = self
        if self.plan.takes and not self._broken_for_writers():
            # First, because a take that is half an episode already is known by the numbers of now.
            with DatasetWriter.open(self.root) as writer:
                recovered = writer.recovered
            rest = Repair(self.root)
        aside = rest._rebuild() if rest.plan.rebuilds else None
        if self._of(frozenset({"leftovers"})) or rest.plan.takes:
            with DatasetWriter.open(self.root) as writer:
                recovered += writer.recovered
        return Repaired(self.plan, recovered, len(Dataset(self.root).episodes), aside)

    def _broken_for_writers(self) -> bool:
        """Whether a writer would refuse the dataset as it is."""
        total = self._seen.info.get("total_episodes")
        missing = self._of(frozenset({"data_missing", "video_missing", "episode_table", "parquet_broken"}))
        return bool(missing) or not isinstance(total, int) or total > len(self._seen.episodes)

    def _of(self, codes: frozenset[str]) -> list[Finding]:
        return [finding for finding in self._report.findings if finding.code in codes]

    def _refuse(self, codes: frozenset[str]) -> None:
        for finding in self._of(codes):
            named = "" if self._report.root in finding.message else f"{self._report.root}: "
            raise DatasetError(f"{named}{finding.message}. First: {finding.remedy}")

    def _lost(self) -> dict[int, str]:
        """Episodes that are not whole, and why."""
        wrong = {f.episode for f in self._of(frozenset({"row_count"})) if f.episode is not None}
        # Where only the table's length is wrong, pictures were counted against it too.
        relength = {number for number in wrong if mend_length(self._seen, number)}
        codes = BROKEN | {"parquet_broken", "row_count"}
        lost = {
            f.episode: f.message
            for f in reversed(self._of(codes))
            if f.episode is not None
            and not (f.episode in relength and f.code in ("row_count", "video_length"))
        }
        spans = {f.episode: f.message for f in self._of(frozenset({"video_span"})) if f.episode is not None}
        astray = mend_spans(self._seen, spans.keys() - lost.keys())
        return {number: spans[number] for number in astray} | lost

    def _rebuild(self) -> Path:
        wrong_stats = bool(self._of(frozenset({"stats_wrong"})))
        source = MendedDataset(
            self._seen,
            {lost.episode for lost in self.plan.lost},
            self._found,
            pictures_counted=not wrong_stats,
        )
        extra = self._seen.info.get(layout.EXTRA_KEY, {})
        info = empty_info(source.info, transferable(source, ()), extra)
        keep = keep_below(self.root, f"{SET_ASIDE}/repair")
        with replacing(self.root, keep, "repairing") as target:
            if read_json(self.root / layout.INFO_FILE) != self._seen.info:
                raise DatasetError(f"{self.root} was written since it was looked at: repair it again")
            with new_dataset(target, info) as writer:
                append_episodes(writer, source)
        aside = max((self.root / SET_ASIDE).glob("repair-*"))
        reason = {"mended": self.plan.mends, "lost": [asdict(lost) for lost in self.plan.lost]}
        text = json.dumps(reason, indent=4, ensure_ascii=False)
        (aside / "reason.json").write_text(text, encoding="utf-8")
        return aside
