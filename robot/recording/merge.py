"""Episodes from one dataset into another, without encoding their videos again."""

from __future__ import annotations

import shutil
from pathlib import Path

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.features import DEFAULT_FEATURES
from robot.recording.meta import EpisodeMeta
from robot.recording.reader import Dataset
from robot.recording.stats import Stats
from robot.recording.writer import MERGE_SCRATCH, DatasetWriter

_FILLED_IN = frozenset(feature.name for feature in DEFAULT_FEATURES)


def append_dataset(writer: DatasetWriter, source: Dataset) -> int:
    """Append every episode of a dataset that this project wrote; returns how many.

    Raises:
        DatasetError: the datasets differ in features, robot type, units, calibration or frame rate, or the
            source keeps several episodes in one video.
    """
    for key in ("fps", "features", "robot_type"):
        if writer.info.get(key) != source.info.get(key):
            raise DatasetError(f"{source.root} and {writer.root} differ in {key}")
    extra = writer.info.get(layout.EXTRA_KEY, {})
    said = extra.get("units")
    if said != source.units:
        raise DatasetError(f"{source.root} has units {source.units}, {writer.root} has {said}")
    hashes = [each.get("calibration_sha256") for each in (source.info.get(layout.EXTRA_KEY, {}), extra)]
    if all(hashes) and hashes[0] != hashes[1]:
        raise DatasetError(
            f"{source.root} has calibration_sha256 {hashes[0]}, {writer.root} has {hashes[1]}: degrees of "
            "differently calibrated arms do not mix, keep them in datasets of their own"
        )
    stats = layout.read_episode_stats(source.root)
    scratch = writer.root / MERGE_SCRATCH
    scratch.mkdir(exist_ok=True)
    try:
        for episode in source.episodes:
            _append(writer, source, episode, stats[episode.index], scratch)
    finally:
        shutil.rmtree(scratch)
    return len(source.episodes)


def _append(
    writer: DatasetWriter, source: Dataset, episode: EpisodeMeta, stats: dict[str, Stats], scratch: Path
) -> None:
    columns = {}
    for name, column in source.load(episode.index).items():
        if name not in _FILLED_IN:
            columns[name] = column.reshape(len(column), -1)
    videos = {}
    for key, span in episode.videos.items():
        shared = [e for e in source.episodes if e is not episode and e.videos[key].slot == span.slot]
        if shared or span.from_s != 0.0:
            raise DatasetError(f"{source.root}: episode {episode.index} shares its video with others")
        videos[key] = scratch / f"{key}.mp4"
        shutil.copyfile(span.slot.path(source.root, str(source.info["video_path"]), key), videos[key])
    writer.commit_episode(episode.tasks[0], columns, {key: stats[key] for key in videos}, videos)
