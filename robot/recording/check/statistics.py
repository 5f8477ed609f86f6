"""Whether ``stats.json``, with which policies normalise, tells of the data that is there."""

from __future__ import annotations

import numpy as np

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.check.findings import REPAIR, Report, several
from robot.recording.check.survey import Columns, Survey
from robot.recording.features import DEFAULT_FEATURES
from robot.recording.files import read_json
from robot.recording.stats import Stats, from_json
from robot.seams import FloatArray

TOLERANCE = 1e-3
"""Share of a column's spread by which its statistics may be off: sums in float32 are off by less."""
PICTURE_TOLERANCE = 0.04
"""The same for mean colours, of 1: LeRobot counts a part of the pictures, thinned."""
_COUNTING = frozenset(feature.name for feature in DEFAULT_FEATURES)
"""Columns that count; nobody normalises them, and LeRobot's tools renumber them without new statistics."""


class Tally:
    """Adds up the columns of all episodes."""

    def __init__(self) -> None:
        self._sums: dict[str, list[FloatArray]] = {}
        self._broken: set[str] = set()

    def add(self, columns: Columns) -> None:
        """One more episode."""
        for name, column in columns.items():
            if name in _COUNTING or column.dtype.kind not in "fiub" or not len(column):
                continue
            self._broken |= {name} if not np.isfinite(column).all() else set()
            values = column.reshape(len(column), -1).astype(np.float64)
            row = np.stack([np.full(values.shape[1], len(values)), values.sum(0), (values**2).sum(0)])
            ends = np.stack([values.min(0), values.max(0)])
            self._sums.setdefault(name, []).append(np.concatenate([row, ends]))

    def stats(self) -> dict[str, dict[str, FloatArray]]:
        """count, mean, std, min and max of every finite column, shape (n,) each."""
        found = {}
        for name, rows in self._sums.items():
            if name in self._broken:
                continue
            stacked = np.stack(rows)
            count, total, squares = stacked[:, :3].sum(axis=0)
            mean = total / count
            found[name] = {
                "count": count[:1],
                "mean": mean,
                "std": np.sqrt(np.maximum(squares / count - mean**2, 0.0)),
                "min": stacked[:, 3].min(axis=0),
                "max": stacked[:, 4].max(axis=0),
            }
        return found


def check_stats(
    seen: Survey, tally: Tally, colours: dict[str, FloatArray], complete: bool, report: Report
) -> None:
    """Compare ``stats.json`` with the data.

    Args:
        seen: the dataset.
        tally: of the episodes that could be read.
        colours: video feature -> mean colour of its pictures, RGB in 0..1, shape (3,).
        complete: whether all episodes could be read; if not, statistics of all may well be right.
        report: where to say what is wrong.
    """
    if not complete or not seen.episodes:
        return
    try:
        said = from_json(read_json(seen.root / layout.STATS_FILE))
    except DatasetError as error:
        report.find("stats_wrong", f"the statistics cannot be read: {error}", REPAIR)
        return
    wrong = [_difference(name, actual, said.get(name)) for name, actual in tally.stats().items()]
    wrong += [_colour(name, colour, said.get(name)) for name, colour in colours.items()]
    if any(wrong):
        message = f"stats.json does not match the data: {several((text for text in wrong if text), 2)}"
        report.find("stats_wrong", message, REPAIR)


def _difference(name: str, actual: dict[str, FloatArray], said: Stats | None) -> str:
    if said is None:
        return f"it has no {name}"
    spread = np.maximum(actual["max"] - actual["min"], np.abs(actual["max"])) * TOLERANCE + 1e-6
    for key, right in actual.items():
        given = np.asarray(said.get(key, np.nan), dtype=np.float64).reshape(-1)
        allowed = 0.5 if key == "count" else spread
        if given.shape != right.shape or not (np.abs(given - right) <= allowed).all():
            entry = int((np.abs(given - right) > allowed).argmax()) if given.shape == right.shape else 0
            return f"{key} of {name}[{entry}] is {_at(given, entry)}, the data have {right[entry]:.6g}"
    return ""


def _colour(name: str, colour: FloatArray, said: Stats | None) -> str:
    if said is None:
        return f"it has no {name}"
    given = np.asarray(said.get("mean", np.nan), dtype=np.float64).reshape(-1)
    if given.shape != (3,) or not (np.abs(given - colour) <= PICTURE_TOLERANCE).all():
        texts = [" ".join(f"{v:.3f}" for v in values) for values in (given, colour)]
        return f"mean colour of {name} is {texts[0]}, the pictures have {texts[1]}"
    return ""


def _at(values: FloatArray, entry: int) -> str:
    return f"{values[entry]:.6g}" if entry < len(values) else "missing"
