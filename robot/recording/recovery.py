"""Takes that a killed writer left: finished where they had ended, cut to their last whole frame where not.

All of it can itself be killed at any moment and done again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robot.errors import DatasetError
from robot.recording.commit import commit_take, logged_features
from robot.recording.fragments import cut_to_fragments, whole_packets
from robot.recording.ledger import Ledger
from robot.recording.meta import EpisodeMeta
from robot.recording.rows import RowLayout
from robot.recording.scratch import Begun, TakeFolder, takes
from robot.recording.stats import ImageStats, Stats
from robot.recording.video import decoded

MIN_S = 1.0
"""An open take shorter than this is no episode."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of a take that a killed writer had left.

    Attributes:
        frames: how many of it are whole.
        lost_reason: what is missing of it and why; ``None`` where nothing is.
        episode: the number it got, or ``None``.
        set_aside: where it lies now, if it did not become an episode.
    """

    frames: int
    lost_reason: str | None
    episode: int | None
    set_aside: Path | None


def recover_takes(ledger: Ledger, scratch: Path, episodes: list[EpisodeMeta]) -> tuple[Recovered, ...]:
    """Bring every take below ``scratch`` to its end, in the order they were recorded in.

    Args:
        ledger: of the dataset, recovered.
        scratch: the scratch folder.
        episodes: those that are finished.

    Raises:
        DatasetError: a file cannot be written; nothing is lost, the next opening does it again.
    """
    found = []
    for folder in takes(scratch):
        try:
            recovered = _committed(ledger, folder, episodes) or _recover(ledger, folder)
        except (DatasetError, OSError) as error:
            raise DatasetError(
                f"what a killed recorder left could not be finished: {error}. It is kept in {folder.path}: "
                "make room on the disk or see to its permissions, then open the dataset again"
            ) from error
        if recovered is not None:
            found.append(recovered)
    return tuple(found)


def _committed(ledger: Ledger, folder: TakeFolder, episodes: list[EpisodeMeta]) -> Recovered | None:
    """A take that is an episode already; ``None`` where it is not."""
    committing = folder.committing()
    if committing is None or committing.episode >= len(episodes):
        return None
    episode = episodes[committing.episode]
    if episode.data != ledger.slot(committing.file):
        return None
    folder.remove()
    return Recovered(episode.length, None, episode.index, None)


def _recover(ledger: Ledger, folder: TakeFolder) -> Recovered | None:
    """One take that is not an episode yet; ``None`` where there was nothing worth a word."""
    begun, ended = folder.begun(), folder.ended()
    layout = RowLayout(logged_features(ledger))
    unwanted = not folder.rows.exists() if begun is None else not begun.keep and ended is None
    if unwanted:
        folder.remove()
        return None
    reason = _unreadable(begun, layout)
    if begun is None or reason is not None:
        return Recovered(0, reason, None, folder.set_aside(ledger.root, {"reason": reason}))
    _, rows = layout.read(folder.rows)
    if rows == 0:
        folder.remove()
        return None
    frames, stats = _whole_frames(ledger, folder, rows)
    if ended is not None and frames >= ended.length:
        episode = commit_take(ledger, folder, begun.task, ended.length, ended.label, stats, cut=True)
        return Recovered(ended.length, None, episode.index, None)
    if not begun.keep:
        folder.remove()
        return None
    known = rows if ended is None else max(rows, ended.length)
    reason = f"its writer was killed or its disk failed: {frames} of at least {known} frames are whole"
    if frames < MIN_S * ledger.fps:
        reason += f", and {MIN_S:g} s makes an episode"
        aside = folder.set_aside(ledger.root, {"reason": reason, "frames": frames})
        return Recovered(frames, reason, None, aside)
    label = None if ended is None else ended.label
    episode = commit_take(ledger, folder, begun.task, frames, label, stats, cut=True)
    return Recovered(frames, reason if frames < known else None, episode.index, None)


def _unreadable(begun: Begun | None, layout: RowLayout) -> str | None:
    if begun is None:
        return "take.json, which says what it is, never reached the disk"
    if begun.record_bytes != layout.record_bytes:
        return "it was recorded for a dataset with other features"
    return None


def _whole_frames(ledger: Ledger, folder: TakeFolder, rows: int) -> tuple[int, dict[str, Stats]]:
    """How many frames have their row and all their pictures, and the statistics of those pictures."""
    videos = {feature.name: folder.video(feature.name) for feature in ledger.videos}
    for path in videos.values():
        if path.exists():
            cut_to_fragments(path)
    frames = min([rows, *(sum(1 for _ in whole_packets(path)) for path in videos.values())])
    while frames > 0:
        stats, decodable = {}, frames
        for name, path in videos.items():
            collected, count = ImageStats(), 0
            for picture in decoded(path):
                if count == frames:
                    break
                collected.add(picture)
                count += 1
            decodable = min(decodable, count)
            if decodable < frames:
                break
            stats[name] = collected.stats()
        if decodable == frames:
            return frames, stats
        frames = decodable
    return 0, {}
