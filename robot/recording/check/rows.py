"""The rows of one episode: numbers that count up, tasks that exist, values that are numbers."""

from __future__ import annotations

import numpy as np

from robot.recording.check.findings import DELETE, REPAIR, Report, several
from robot.recording.check.survey import Columns, Survey
from robot.recording.features import ACTION, STATE
from robot.recording.meta import EpisodeMeta


def check_rows(seen: Survey, episode: EpisodeMeta, columns: Columns, report: Report) -> bool:
    """Look at one episode's rows; whether its vectors are whole and finite, so that motion can be judged."""
    _indices(seen, episode, columns, report)
    _tasks(seen, episode, columns, report)
    finite = _finite(episode, columns, report)
    return finite and all(
        name in columns and columns[name].ndim == 2 and columns[name].shape[1] == 6
        for name in (STATE, ACTION)
    )


def check_columns(seen: Survey, episode: EpisodeMeta, columns: Columns, report: Report) -> Columns:
    """The columns that are what ``info.json`` says of them; scalars have shape (frames,)."""
    right: Columns = {}
    for name, feature in seen.info["features"].items():
        kind, shape = str(feature.get("dtype")), feature.get("shape")
        if kind in ("video", "image", "string"):
            continue
        column = columns.get(name)
        wrong = ""
        if column is None:
            wrong = "the rows have no numbers for it"
        elif list(column.shape[1:] or (1,)) != shape:
            wrong = f"the rows have {list(column.shape[1:] or (1,))} numbers"
        elif kind.startswith("int") and column.dtype.kind not in "iu":
            wrong = f"the rows have {column.dtype}"
        elif column.dtype.kind in "iufb":
            right[name] = column.reshape(len(column)) if shape == [1] else column
        if wrong:
            message = f"info.json has the feature {name}, {kind} {shape}: {wrong}"
            remedy = "restore info.json and rows of one and the same dataset from a copy"
            report.find("column_wrong", message, remedy, episode=episode.index)
    return right


def _indices(seen: Survey, episode: EpisodeMeta, columns: Columns, report: Report) -> None:
    frames = np.arange(episode.length)
    expected = {
        "frame_index": frames,
        "index": frames + episode.from_index,
        "episode_index": np.full(episode.length, episode.index),
    }
    if seen.bare:
        expected["index"] = frames + int(columns["index"][0]) if "index" in columns else frames
    for name, wanted in expected.items():
        values = columns.get(name)
        if values is None or np.array_equal(values, wanted):
            continue
        frame = int((values != wanted).argmax())
        message = f"{name} of frame {frame} is {values[frame]}, {wanted[frame]} is its number"
        report.find("index_broken", message, REPAIR, episode=episode.index)
        return


def _tasks(seen: Survey, episode: EpisodeMeta, columns: Columns, report: Report) -> None:
    numbers = columns.get("task_index")
    if numbers is None or seen.tasks is None:
        return
    known = len(seen.tasks)
    strange = sorted({int(number) for number in numbers} - set(range(known)))
    if strange:
        message = f"task_index {several(strange)} has no sentence in meta/tasks.parquet, which has {known}"
        remedy = "add the sentence to meta/tasks.parquet, or " + DELETE.format(episode.index)
        report.find("task_unknown", message, remedy, episode=episode.index)


def _finite(episode: EpisodeMeta, columns: Columns, report: Report) -> bool:
    vectors_whole = True
    for name, values in columns.items():
        if values.dtype.kind != "f" or np.isfinite(values).all():
            continue
        wrong = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        message = f"{name} is not finite in {int(wrong.sum())} frames, first in frame {int(wrong.argmax())}"
        report.find("not_finite", message, DELETE.format(episode.index), episode=episode.index)
        vectors_whole = vectors_whole and name not in (STATE, ACTION)
    return vectors_whole
