"""Episodes of a dataset into another one, and new datasets that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.creation import acquire, blank_info
from robot.recording.cut import cut, encode, pictures, video_stats
from robot.recording.features import ACTION, DEFAULT_FEATURES, STATE, parse_features
from robot.recording.files import make_folder, publish_json, sync_file
from robot.recording.meta import EpisodeMeta
from robot.recording.reader import Dataset
from robot.recording.replay import UnitMap
from robot.recording.scratch import MERGE_SCRATCH
from robot.recording.stats import STAT_NAMES, Stats
from robot.recording.video import CODECS, CodecName
from robot.recording.writer import DatasetWriter
from robot.seams import ByteArray

FILLED_IN = frozenset(feature.name for feature in DEFAULT_FEATURES)
"""Columns that the writer makes."""

CODEC_KEY = "video.codec"
"""Where the ``info`` of a video feature says what it is encoded with."""

MEANT: dict[str, float] = {"loss_mask": 1.0, "intervention": 0, "success": -1}
"""What a dataset without such a column means: all is learned, nobody intervened, nothing was said."""

OnEpisode = Callable[[], None]
"""Called for each episode that has arrived."""


@dataclass(frozen=True)
class Transferred:
    """What came over."""

    episodes: int
    frames: int
    dropped: tuple[str, ...] = ()
    """Columns and videos that were left behind."""


@contextmanager
def new_dataset(out: Path, info: Mapping[str, Any]) -> Iterator[DatasetWriter]:
    """A writer for a dataset that gets its name when all of it is there, and is removed on an error.

    Args:
        out: folder that does not exist yet, or is empty.
        info: content of ``info.json``, see :func:`empty_info`.

    Raises:
        DatasetError: the folder is in use, or the features cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} is not empty: choose another folder")
    work = out.absolute().with_name(f".{out.absolute().name}.unfinished")
    try:
        make_folder(work.parent)
        if work.exists():  # of a process that was killed, unless it is alive
            os.close(acquire(work))
            shutil.rmtree(work)
        make_folder(work / "meta")
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        publish_json(work / layout.INFO_FILE, info, work)
        with DatasetWriter.open(work) as writer:
            yield writer
        work.replace(out)
        sync_file(out.absolute().parent)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def empty_info(
    source: Mapping[str, Any], features: Mapping[str, Any], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """``info.json`` of a dataset without episodes.

    Args:
        source: ``info.json`` of the dataset whose frame rate and robot type it has.
        features: its columns and videos, without those that the writer fills in.
        extra: its ``so101`` block.

    Raises:
        DatasetError: the frame rate is no whole number.
    """
    fps = float(source["fps"])
    if fps != int(fps) or fps < 1:
        raise DatasetError(f"{fps:g} frames per second: LeRobot v3.0 has whole numbers of them only")
    filled_in = {feature.name: feature.to_info() for feature in DEFAULT_FEATURES}
    return blank_info(int(fps), source.get("robot_type"), {**features, **filled_in}, extra)


def transferable(source: Dataset, drop: Collection[str]) -> dict[str, Any]:
    """Features of a dataset, from ``info.json``, as they can be written; single pictures become videos.

    Raises:
        DatasetError: ``drop`` names what is not there, or what every dataset needs, or there is a column that
            cannot be written (text, tables).
    """
    features = {name: dict(f) for name, f in source.info["features"].items() if name not in FILLED_IN}
    for name in sorted(drop):
        if name in (ACTION, STATE):
            raise DatasetError(f"{name} cannot be dropped: every episode needs it")
        if name not in features:
            raise DatasetError(f"{source.root} has no {name} to drop, only {', '.join(features)}")
        del features[name]
    fps = int(source.fps)
    for feature in features.values():
        if feature.get("dtype") == "image":
            height, width = _size(feature)
            feature.update(dtype="video", shape=[height, width, 3], names=["height", "width", "channels"])
            feature["info"] = CODECS["h264"].info(height, width, fps)
        feature.pop("fps", None)  # of each column, as LeRobot's converter writes it
        if "video_info" in feature:  # the name before v2.1
            feature["info"] = feature.pop("video_info")
        if _is_video(feature) and not isinstance(feature.get("info"), dict):
            feature["info"] = {}
    try:
        parse_features(features)
    except DatasetError as error:
        raise DatasetError(f"{source.root}: {error}. --drop of convert and merge leaves it behind") from error
    return features


def append_episodes(
    writer: DatasetWriter,
    source: Dataset,
    *,
    skip: Collection[int] = (),
    units: UnitMap | None = None,
    on_episode: OnEpisode = lambda: None,
) -> Transferred:
    """Append a dataset's episodes, without encoding their videos again where that can be helped.

    Args:
        writer: of the dataset that they go to; what the source lacks of it must be in ``MEANT``.
        source: where they come from.
        skip: episodes to leave behind.
        units: turns action and state into user units.
        on_episode: called for each episode that has arrived.

    Raises:
        DatasetError: an episode is not whole or has what cannot be written; the message names it.
    """
    unknown = sorted(set(skip) - {episode.index for episode in source.episodes})
    if unknown:
        raise DatasetError(f"no episode {unknown[0]}: {source.root} has {len(source.episodes)}, from 0 on")
    known = source.episode_stats()
    scratch = writer.root / MERGE_SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    episodes = frames = 0
    try:
        for episode in source.episodes:
            if episode.index in skip:
                continue
            _append(writer, source, episode, known.get(episode.index, {}), units, scratch)
            episodes, frames = episodes + 1, frames + episode.length
            on_episode()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Transferred(episodes, frames)


def _append(
    writer: DatasetWriter,
    source: Dataset,
    episode: EpisodeMeta,
    known: Mapping[str, Stats],
    units: UnitMap | None,
    scratch: Path,
) -> None:
    features = writer.info["features"]
    where = f"{source.root}: episode {episode.index}"
    loaded = source.load(episode.index)
    columns: dict[str, NDArray[Any]] = {}
    videos: dict[str, Path] = {}
    stats: dict[str, Stats] = {}
    for name, feature in features.items():
        if name in FILLED_IN:
            continue
        if _is_video(feature):
            videos[name] = scratch / f"{name}.mp4"
            videos[name].unlink(missing_ok=True)
            codec = str(feature.get("info", {}).get(CODEC_KEY, writer.codec.name))
            stats[name] = _video(source, episode, name, videos[name], codec, known.get(name, {}))
        elif name in loaded:
            columns[name] = _column(loaded[name], feature, f"{where}: {name}")
        elif name in MEANT:
            columns[name] = np.full((episode.length, 1), MEANT[name], feature["dtype"])
        else:
            raise DatasetError(f"{where} has no {name}")
    if units is not None:
        for name in (ACTION, STATE):
            columns[name] = units.to_user(columns[name]).astype(columns[name].dtype)
    writer.commit_episode(_task(source, episode, loaded, where), columns, stats, videos)


def _column(values: NDArray[Any], feature: Mapping[str, Any], where: str) -> NDArray[Any]:
    """A column as the feature says: shape (frames, n), numbers that are finite."""
    column = values.reshape(len(values), -1).astype(feature["dtype"])
    if list(column.shape[1:]) != list(feature["shape"]):
        raise DatasetError(
            f"{where} has {column.shape[1]} numbers a frame, info.json says {feature['shape']}: --drop it"
        )
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        row = int(np.argmin(np.isfinite(column).all(axis=1)))
        raise DatasetError(
            f"{where} is not finite in frame {row}: leave the episode out (delete, or convert --skip)"
        )
    return column


def _video(source: Dataset, episode: EpisodeMeta, name: str, target: Path, codec: str, known: Stats) -> Stats:
    """Make one camera's mp4 of an episode; the statistics of its pictures."""
    fps = int(source.fps)
    encoder: CodecName = "av1" if codec == "av1" else "h264"
    feature = source.info["features"][name]
    if feature.get("dtype") == "image":
        encode(_pictures(source, episode, name), target, fps, encoder)
        return video_stats(target, episode.length, fps)
    span = episode.videos.get(name)
    if span is None:
        raise DatasetError(f"{source.root}: episode {episode.index} has no video of {name}")
    path = span.slot.path(source.root, str(source.info["video_path"]), name)
    if feature.get("info", {}).get(CODEC_KEY, codec) != codec:
        encode(pictures(path, start_s=span.from_s, count=episode.length, fps=fps), target, fps, encoder)
        return video_stats(target, episode.length, fps)
    cut(path, target, start_s=span.from_s, count=episode.length, fps=fps, codec=encoder)
    whole = all(key in known for key in STAT_NAMES) and known["mean"].shape == (3, 1, 1)
    return dict(known) if whole else video_stats(target, episode.length, fps)


def _pictures(source: Dataset, episode: EpisodeMeta, name: str) -> Iterator[ByteArray]:
    """Single pictures, which the table holds as PNG files."""
    height, width = _size(source.info["features"][name])
    for number, entry in enumerate(source.cells(episode.index, name)):
        content = (entry or {}).get("bytes") or b""
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB) if content else None
        if image is None or image.shape != (height, width, 3):
            raise DatasetError(
                f"{source.root}: episode {episode.index}: {name} of frame {number} is no picture of "
                f"{width}x{height} in the table"
            )
        yield np.asarray(image, np.uint8)


def _task(source: Dataset, episode: EpisodeMeta, loaded: Mapping[str, NDArray[Any]], where: str) -> str:
    """The one task of an episode."""
    tasks = list(episode.tasks)
    if not tasks and "task_index" in loaded:
        tasks = [source.tasks[number] for number in np.unique(loaded["task_index"]).tolist()]
    if len(tasks) != 1:
        raise DatasetError(
            f"{where} has {len(tasks)} tasks ({', '.join(tasks)}): one task an episode is kept"
        )
    return tasks[0]


def _unwritable(out: Path, error: OSError) -> DatasetError:
    return DatasetError(f"{out} cannot be written: {error}. Make room, see to permissions, or choose another")


def _is_video(feature: Mapping[str, Any]) -> bool:
    return feature.get("dtype") == "video"


def _size(feature: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of an image feature, which keeps them first or last."""
    shape = [int(size) for size in feature["shape"]]
    channels_first = len(shape) == 3 and shape[0] == 3 and shape[2] != 3
    return (shape[1], shape[2]) if channels_first else (shape[0], shape[1])
