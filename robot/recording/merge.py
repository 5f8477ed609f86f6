"""Several datasets in one, without encoding their videos again where that can be helped."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.convert_v2 import open_any
from robot.recording.reader import Dataset
from robot.recording.replay import units_of
from robot.recording.transfer import (
    CODEC_KEY,
    FILLED_IN,
    MEANT,
    OnEpisode,
    Transferred,
    append_episodes,
    empty_info,
    new_dataset,
    transferable,
)
from robot.recording.video import CODECS
from robot.recording.writer import DatasetWriter

_SAME_ARM = {"so101_follower": "so_follower"}
"""LeRobot's name before 0.4.4 and the one since."""


def merge(
    roots: Sequence[Path],
    out: Path,
    *,
    units: str | None = None,
    common: bool = False,
    drop: Collection[str] = (),
    on_episode: OnEpisode = lambda: None,
) -> Transferred:
    """Make a new dataset of the episodes of several, in their order; these stay as they are.

    Args:
        roots: datasets of v2.0, v2.1 or v3.0, ours or LeRobot's.
        out: folder of the new one; it does not exist yet, or is empty. It appears when all is there.
        units: unit of the joints in those that do not say it, ``degrees`` or ``m100_100``.
        common: keep only the columns that all have, instead of refusing where they differ. Columns with a
            meaning where they are missing (loss_mask, intervention, success) are kept and filled in.
        drop: columns and videos to leave behind, where a dataset has them.
        on_episode: called for each episode that has been added.

    Raises:
        DatasetError: the datasets do not go together, or one is broken; the message names what differs.
        ConfigError: units are missing, or not what a dataset says.
    """
    if len(roots) < 2:
        raise DatasetError("merging takes two datasets or more")
    sources = [open_any(root) for root in roots]
    spoken = [units_of(source, units) for source in sources]
    first = sources[0]
    for source, said in zip(sources, spoken, strict=True):
        if said != spoken[0]:
            raise DatasetError(
                f"{source.root} has units {said}, {first.root} has {spoken[0]}: convert one of them "
                "(so101 dataset convert --to-degrees --calibration FILE)"
            )
        _check_same(first, source)
    present = {name for source in sources for name in source.info["features"]} - FILLED_IN
    missing = sorted(set(drop) - present)
    if missing:
        raise DatasetError(f"no dataset has {', '.join(missing)} to drop, only {', '.join(sorted(present))}")
    parts = [transferable(source, set(drop) & source.info["features"].keys()) for source in sources]
    names = list(dict.fromkeys(name for part in parts for name in part))
    not_in_all = {name for name in names if name not in MEANT and any(name not in part for part in parts)}
    if not_in_all and not common:
        raise DatasetError(_who_lacks(not_in_all, sources, parts))
    features = {name: _one(name, sources, parts) for name in names if name not in not_in_all}
    extra = _extra(sources, spoken[0])
    dropped: set[str] = set(drop) | not_in_all
    with new_dataset(out, empty_info(first.info, features, extra)) as writer:
        done = [append_episodes(writer, source, on_episode=on_episode) for source in sources]
    return Transferred(
        sum(part.episodes for part in done), sum(part.frames for part in done), tuple(sorted(dropped))
    )


def append_dataset(writer: DatasetWriter, source: Dataset) -> int:
    """Append every episode of a dataset to one that is being written; returns how many.

    Raises:
        DatasetError: the datasets differ in features, robot type, units, calibration or frame rate.
    """
    for key in ("fps", "features", "robot_type"):
        if writer.info.get(key) != source.info.get(key):
            raise DatasetError(f"{source.root} and {writer.root} differ in {key}")
    said = writer.info.get(layout.EXTRA_KEY, {}).get("units")
    if said != source.units:
        raise DatasetError(f"{source.root} has units {source.units}, {writer.root} has {said}")
    _check_calibration(writer.root, writer.info, source)
    return append_episodes(writer, source).episodes


def _check_same(first: Dataset, source: Dataset) -> None:
    """Refuse what no choice of columns can mend."""
    if source.fps != first.fps:
        raise DatasetError(f"{source.root} has {source.fps:g} fps, {first.root} has {first.fps:g}")
    arms = [str(dataset.info.get("robot_type")) for dataset in (source, first)]
    if len({_SAME_ARM.get(arm, arm) for arm in arms}) != 1:
        raise DatasetError(f"{source.root} is of a {arms[0]}, {first.root} of a {arms[1]}")
    _check_calibration(first.root, first.info, source)


def _check_calibration(root: Path, info: Mapping[str, Any], source: Dataset) -> None:
    hashes = [each.get(layout.EXTRA_KEY, {}).get("calibration_sha256") for each in (source.info, info)]
    if all(hashes) and hashes[0] != hashes[1]:
        raise DatasetError(
            f"{source.root} has calibration_sha256 {hashes[0]}, {root} has {hashes[1]}: degrees of "
            "differently calibrated arms do not mix, keep them in datasets of their own"
        )


def _who_lacks(names: Collection[str], sources: Sequence[Dataset], parts: Sequence[Mapping[str, Any]]) -> str:
    pairs = zip(sources, parts, strict=True)
    lacks = {source.root: sorted(set(names) - part.keys()) for source, part in pairs}
    lines = [f"{root} lacks {', '.join(missing)}" for root, missing in lacks.items() if missing]
    return f"{'; '.join(lines)}: --common leaves out what not all have"


def _one(name: str, sources: Sequence[Dataset], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A feature as all have it that have it: of a video's encoder what does not differ, and one codec."""
    having = [(s.root, part[name]) for s, part in zip(sources, parts, strict=True) if name in part]
    first_root, first = having[0]
    feature: dict[str, Any] = dict(first)
    for root, other in having[1:]:
        for key in ("dtype", "shape", "names"):
            ours, theirs = first.get(key), other.get(key)
            if ours != theirs and not (key == "names" and None in (ours, theirs)):
                raise DatasetError(
                    f"{name}: {key} is {theirs} in {root}, {ours} in {first_root}: --drop it, or keep the "
                    "datasets apart"
                )
    infos = [part.get("info") for _, part in having]
    if all(isinstance(info, dict) for info in infos):
        feature["info"] = {
            key: value for key, value in first["info"].items() if all(i.get(key) == value for i in infos)
        }
        # LeRobot joins the videos of a camera to one file, which works with one codec only.
        said = [str(info[CODEC_KEY]) for info in infos if CODEC_KEY in info]
        if len(set(said)) > 1:
            feature["info"][CODEC_KEY] = next((codec for codec in said if codec in CODECS), "h264")
    return feature


def _extra(sources: Sequence[Dataset], units: str) -> dict[str, Any]:
    """The ``so101`` block: what all say alike, and the calibration that any says."""
    blocks = [source.info.get(layout.EXTRA_KEY, {}) for source in sources]
    same = {key: value for key, value in blocks[0].items() if all(b.get(key) == value for b in blocks)}
    hashes = [block["calibration_sha256"] for block in blocks if block.get("calibration_sha256")]
    return {
        **same,
        "units": units,
        "calibration_sha256": hashes[0] if hashes else None,
        "merged_from": [source.root.absolute().name for source in sources],
    }
