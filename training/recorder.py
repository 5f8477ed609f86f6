"""Demonstrations into a dataset, by one process or by several; the result is the same."""

from __future__ import annotations

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from robot.errors import ConfigError, DatasetError, So101Error
from robot.recording.merge import append_dataset
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter
from robot.twin import child
from robot.twin.tasks import PickPlace
from training.demonstrations import Demonstrator, create_dataset, demonstrate, episode_rng, write_episode
from training.stage import Stage

MAX_FAILURES = 25
"""So many attempts in a row that are not kept mean that something is wrong with the twin or the expert."""

OnEpisode = Callable[[], None]
"""Called for each episode that is kept; with several processes, for each that is tried."""


def record_demonstrations(
    root: Path,
    episodes: int,
    seed: int,
    *,
    width_px: int = 256,
    height_px: int = 192,
    jobs: int = 1,
    on_episode: OnEpisode | None = None,
) -> int:
    """Record a number of successful episodes by the expert into a new dataset.

    Attempt k of a seed is always the same; the dataset holds the first ``episodes`` attempts that succeed, in
    this order, however many processes share the work.

    Args:
        root: folder of the dataset, new or empty.
        episodes: how many to keep.
        seed: seed of the whole set.
        width_px: picture width, even.
        height_px: picture height, even.
        jobs: processes.
        on_episode: for showing progress.

    Returns:
        How many attempts it took.

    Raises:
        DatasetError: the folder is in use, or a picture has an odd side.
        So101Error: the expert fails again and again, or a process died.
    """
    if episodes < 1 or jobs < 1:
        raise ConfigError(f"episodes and jobs must be at least 1, not {episodes} and {jobs}")
    stage = Stage(width_px, height_px)
    try:
        provenance = {"source": "expert", "seed": seed, "task": PickPlace().name}
        with create_dataset(root, stage, provenance) as writer:
            if jobs == 1:
                return _alone(stage, writer, episodes, seed, on_episode)
            return _shared(stage, writer, episodes, seed, jobs, on_episode)
    finally:
        stage.close()


def _alone(
    stage: Stage, writer: DatasetWriter, episodes: int, seed: int, on_episode: OnEpisode | None
) -> int:
    demonstrator, task = Demonstrator(stage), PickPlace()
    number = failures = 0
    while writer.total_episodes < episodes:
        rng = episode_rng(seed, number)
        place = task.sample(rng)
        frames = demonstrator.record(place, rng)
        number += 1
        if frames is None:
            failures += 1
            _check(failures)
            continue
        failures = 0
        write_episode(writer, frames, place)
        if on_episode is not None:
            on_episode()
    return number


def _shared(
    stage: Stage, writer: DatasetWriter, episodes: int, seed: int, jobs: int, on_episode: OnEpisode | None
) -> int:
    """Rounds of attempts, as many as episodes are missing; each process takes a stretch of numbers."""
    parts = Path(tempfile.mkdtemp(prefix=f".{writer.root.name}-", dir=writer.root.parent))
    number = 0
    try:
        while (missing := episodes - writer.total_episodes) > 0:
            edges = [number + missing * k // jobs for k in range(jobs + 1)]
            stretches = [range(a, b) for a, b in itertools.pairwise(edges) if b > a]
            for folder in _round(parts, stretches, seed, stage, on_episode):
                append_dataset(writer, Dataset(folder))
            _check(0 if episodes - writer.total_episodes < missing else missing)
            number += missing
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return number


def _round(
    parts: Path, stretches: list[range], seed: int, stage: Stage, on_episode: OnEpisode | None
) -> list[Path]:
    """Let one process each try its stretch of episodes; their datasets, in the order of the numbers."""
    folders = [parts / f"{stretch.start}" for stretch in stretches]
    size = ["--width", str(stage.width_px), "--height", str(stage.height_px), "--seed", str(seed)]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for folder, stretch in zip(folders, stretches, strict=True):
            numbers = ["--first", str(stretch.start), "--stop", str(stretch.stop)]
            processes.append(child.start_module(__name__, [str(folder), *numbers, *size]))
        lock = threading.Lock()
        readers = [threading.Thread(target=_listen, args=(p, on_episode, lock)) for p in processes]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        for process, stretch in zip(processes, stretches, strict=True):
            if process.wait() != 0:
                raise So101Error(f"episodes {stretch.start}..{stretch.stop - 1}: their process has failed")
    finally:
        for process in processes:
            child.stop(process)
    return folders


def _listen(process: subprocess.Popen[bytes], on_episode: OnEpisode | None, lock: threading.Lock) -> None:
    """Pass on what a child says: one line for each episode that it has kept."""
    if process.stdout is None:
        return
    for _ in process.stdout:
        if on_episode is not None:
            with lock:
                on_episode()


def _check(failures: int) -> None:
    if failures >= MAX_FAILURES:
        raise So101Error(f"the expert failed {failures} times in a row: the twin or its task has changed")


def main() -> int:
    """Entry of ``python -m training.recorder``, one job of several; people use ``so101 record``."""
    parser = argparse.ArgumentParser(description="Record a stretch of demonstrations.")
    parser.add_argument("root", type=Path)
    for name in ("first", "stop", "seed", "width", "height"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    child.die_with_parent()

    def tell(_number: int) -> None:
        sys.stdout.write("\n")
        sys.stdout.flush()

    try:
        numbers = range(given.first, given.stop)
        demonstrate(
            given.root, numbers, given.seed, width_px=given.width, height_px=given.height, on_episode=tell
        )
    except DatasetError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
