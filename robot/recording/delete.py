"""A dataset without some of its episodes."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path

from robot.errors import DatasetError
from robot.recording import meta as layout
from robot.recording.reader import Dataset
from robot.recording.scratch import SCRATCH, takes
from robot.recording.swap import remove, replacing
from robot.recording.transfer import (
    OnEpisode,
    Transferred,
    append_episodes,
    empty_info,
    new_dataset,
    transferable,
)


def parse_numbers(text: str) -> list[int]:
    """Episode numbers from ``3,5-7``, sorted.

    Raises:
        DatasetError: it is no such list.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise DatasetError(f"{text!r} is no list of episodes such as 3,5-7")
        stop = int(last or first)
        if stop < int(first):
            raise DatasetError(f"{part.strip()} counts backwards: write {stop}-{first}")
        numbers.update(range(int(first), stop + 1))
    return sorted(numbers)


def delete(
    root: Path, numbers: Collection[int], out: Path | None = None, on_episode: OnEpisode = lambda: None
) -> Transferred:
    """Make a dataset of all other episodes, numbered anew, with statistics of their own.

    Args:
        root: the dataset, ours or LeRobot's; nobody may be writing it.
        numbers: episodes that are left out. They need not be readable.
        out: folder of the result; ``None``: it takes the place of ``root``, in one step, and what is left
            out is gone.
        on_episode: called for each episode that is kept.

    Raises:
        DatasetError: an episode does not exist, none would be left, or one of the others is broken; nothing
            has changed then.
    """
    dataset = Dataset(root)
    if root.is_file():
        raise DatasetError(f"{root} is a parquet file: episodes are deleted from datasets")
    for number in numbers:
        dataset.episode(number)
    if len(set(numbers)) == len(dataset.episodes):
        raise DatasetError(f"no episode would be left of {root}: remove the folder if that is what you want")
    if takes(root / SCRATCH):
        raise DatasetError(f"{root} has takes of a recording that was killed: so101 dataset repair {root}")
    extra = dataset.info.get(layout.EXTRA_KEY, {})
    info = empty_info(dataset.info, transferable(dataset, ()), extra)
    place = nullcontext(out) if out is not None else replacing(root, remove, "deleting")
    with place as target, new_dataset(target, info) as writer:
        return append_episodes(writer, dataset, skip=set(numbers), on_episode=on_episode)
