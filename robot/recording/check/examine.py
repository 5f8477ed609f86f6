"""Everything that is looked at in a dataset, in order. Broken data never stop it: they are what is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from robot.recording.check.findings import Report
from robot.recording.check.frozen import check_frozen
from robot.recording.check.motion import check_motion
from robot.recording.check.rows import check_columns, check_rows
from robot.recording.check.statistics import Tally, check_stats
from robot.recording.check.survey import Survey, survey
from robot.recording.check.sync import check_sync
from robot.recording.check.timing import check_ages, check_rate
from robot.recording.check.units import Kind, Verdict, check_units, judge
from robot.recording.check.videos import VideoCheck
from robot.recording.features import STATE
from robot.seams import FloatArray

Progress = Callable[[int, int], None]
"""Told how many of how many pictures have been looked at."""


def examine(root: Path, *, decode: bool = True, progress: Progress = lambda done, total: None) -> Report:
    """Check a dataset.

    Args:
        root: LeRobot dataset v3.0, or a parquet file with its columns.
        decode: whether to look at every picture; without it frozen, black and shifted ones are not found.
        progress: is told how far it is.
    """
    report = Report(str(root))
    look(root, report, decode=decode, progress=progress)
    report.settle()
    return report


def look(
    root: Path, report: Report, *, decode: bool = True, progress: Progress = lambda done, total: None
) -> Survey | None:
    """Find everything, each episode for itself; what the dataset says of itself, where that can be read."""
    seen = survey(root, report)
    if seen is None:
        return None
    states, tally, complete = _rows(seen, report)
    total = len(seen.cameras) * sum(episode.length for episode in seen.episodes) if decode else 0
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    videos = VideoCheck(seen, report, decode=decode, progress=count)
    if not seen.bare:
        videos.run()
        check_stats(seen, tally, videos.colours, complete and seen.table_whole, report)
    late_frames = check_sync(videos.views, states, seen.hz, report)
    check_frozen(videos.views, states, late_frames, seen.hz, report)
    return seen


def _rows(seen: Survey, report: Report) -> tuple[dict[int, FloatArray], Tally, bool]:
    """Look at all rows; states by episode, what statistics are made of, whether all could be read."""
    states: dict[int, FloatArray] = {}
    verdicts: dict[int, Verdict | None] = {}
    labels: list[int] = []
    rates: list[float] = []
    tally, complete = Tally(), True
    for episode, read in seen.rows(report):
        if read is None:
            complete = False
            continue
        columns = check_columns(seen, episode, read, report)
        tally.add(columns)
        if "success" in columns:
            labels.append(int(columns["success"][-1]))
        rate = check_rate(seen, episode, columns, report)
        if rate is not None:
            rates.append(rate)
        check_ages(episode, columns, report)
        if check_rows(seen, episode, columns, report):
            verdicts[episode.index] = verdict = judge(columns)
            states[episode.index] = columns[STATE].astype(np.float64)
            check_motion(episode, columns, rates[-1] if rates else seen.fps, _units(seen, verdict), report)
    if rates:
        seen.hz = float(np.median(rates))
    check_units(seen, verdicts, report)
    _labels(labels, report)
    return states, tally, complete


def _units(seen: Survey, verdict: Verdict | None) -> Kind | None:
    """What an episode's limits are taken in: what it looks like, else what the dataset says."""
    if verdict is not None:
        return verdict.kind
    return "degrees" if seen.units == "degrees" else "m100_100" if seen.units == "m100_100" else None


def _labels(labels: list[int], report: Report) -> None:
    if labels:
        counts = {
            name: labels.count(value) for value, name in ((1, "success"), (0, "failure"), (-1, "no label"))
        }
        report.note("labels", ", ".join(f"{count} {name}" for name, count in counts.items() if count))
