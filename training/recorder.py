"""Simulated episodes into a dataset, by one process or by several; the result is the same."""

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

from pydantic import TypeAdapter

from inference.bundle import load_bundle
from robot.errors import ConfigError, So101Error
from robot.recording.merge import append_dataset
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter
from robot.twin import child
from robot.twin.tasks import PickPlace, Push, Reach, task_named
from training.dagger import Corrector
from training.demonstrations import Demonstrator
from training.episodes import DemonstrationOrder, EpisodeMaker, Order, create_dataset, write_episode
from training.stage import Stage
from training.tool_demonstrations import ToolDemonstrator

MAX_FAILURES = 25
"""So many attempts in a row that are not kept mean that something is wrong."""

OnEpisode = Callable[[], None]
"""Called for each episode that is kept."""


def record_episodes(
    root: Path, order: Order, episodes: int, *, jobs: int = 1, on_episode: OnEpisode | None = None
) -> int:
    """Record a number of simulated episodes into a new dataset.

    Attempt k of an order is always the same; the dataset holds the first ``episodes`` attempts that are worth
    keeping, in this order, however many processes share the work.

    Args:
        root: folder of the dataset, new or empty.
        order: what to record.
        episodes: how many to keep.
        jobs: processes.
        on_episode: for showing progress.

    Returns:
        How many attempts it took.

    Raises:
        DatasetError: the folder is in use.
        BundleError: the policy that is to be corrected does not load.
        So101Error: attempt after attempt is not worth keeping, or a process died.
    """
    if episodes < 1 or jobs < 1:
        raise ConfigError(f"episodes and jobs must be at least 1, not {episodes} and {jobs}")
    stage = Stage(order.width_px, order.height_px)
    try:
        maker, provenance = open_order(order, stage)
        with create_dataset(root, stage, provenance) as writer:
            if jobs == 1:
                return _alone(maker, writer, episodes, on_episode)
            return _shared(order, writer, episodes, jobs, on_episode)
    finally:
        stage.close()


def open_order(order: Order, stage: Stage) -> tuple[EpisodeMaker, dict[str, object]]:
    """Who makes the episodes of an order, and what the dataset says of their origin."""
    task = task_named(order.task)
    origin: dict[str, object] = {
        "seed": order.seed,
        "task": task.name,
        **order.variety.model_dump(mode="json"),
    }
    if isinstance(task, Reach | Push) and isinstance(order, DemonstrationOrder):
        shown = ToolDemonstrator(stage, task, seed=order.seed, variety=order.variety)
        return shown, {"source": "expert", **origin}
    if not isinstance(task, PickPlace):
        raise ConfigError(f"nobody corrects the task {task.name!r}: its expert only demonstrates")
    if isinstance(order, DemonstrationOrder):
        demonstrator = Demonstrator(stage, seed=order.seed, task=task, variety=order.variety)
        return demonstrator, {"source": "expert", **origin}
    bundle = load_bundle(order.policy, threads=1)
    execution = order.execution or bundle.manifest.execution
    origin |= {"policy": bundle.manifest.name, "execution": execution.model_dump(mode="json")}
    corrector = Corrector(stage, bundle, execution, seed=order.seed, task=task, variety=order.variety)
    return corrector, {"source": "corrections", **origin}


def _alone(maker: EpisodeMaker, writer: DatasetWriter, episodes: int, on_episode: OnEpisode | None) -> int:
    number = failures = 0
    while writer.total_episodes < episodes:
        episode = maker.episode(number)
        number += 1
        if episode is None:
            failures += 1
            _check(failures)
            continue
        failures = 0
        write_episode(writer, episode)
        if on_episode is not None:
            on_episode()
    return number


def _shared(
    order: Order, writer: DatasetWriter, episodes: int, jobs: int, on_episode: OnEpisode | None
) -> int:
    """Rounds of attempts, as many as episodes are missing; each process takes a stretch of numbers."""
    parts = Path(tempfile.mkdtemp(prefix=f".{writer.root.name}-", dir=writer.root.parent))
    number = failures = 0
    try:
        while (missing := episodes - writer.total_episodes) > 0:
            edges = [number + missing * k // jobs for k in range(jobs + 1)]
            stretches = [range(a, b) for a, b in itertools.pairwise(edges) if b > a]
            for folder in _round(parts, stretches, order, on_episode):
                append_dataset(writer, Dataset(folder))
            failures = 0 if episodes - writer.total_episodes < missing else failures + missing
            _check(failures)
            number += missing
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return number


def _round(parts: Path, stretches: list[range], order: Order, on_episode: OnEpisode | None) -> list[Path]:
    """Let one process each try its stretch of episodes; their datasets, in the order of the numbers."""
    folders = [parts / f"{stretch.start}" for stretch in stretches]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for folder, stretch in zip(folders, stretches, strict=True):
            numbers = ["--first", str(stretch.start), "--stop", str(stretch.stop)]
            given = [str(folder), *numbers, "--order", order.model_dump_json()]
            processes.append(child.start_module(__name__, given))
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
    """Pass on what a child says: a line for each attempt."""
    if process.stdout is None:
        return
    for line in process.stdout:
        if on_episode is not None and line == b"kept\n":
            with lock:
                on_episode()


def _check(failures: int) -> None:
    if failures >= MAX_FAILURES:
        raise So101Error(
            f"{failures} attempts in a row gave no episode worth keeping: the twin or its task has "
            "changed, or the policy that is corrected makes no mistakes"
        )


def main() -> int:
    """Entry of ``python -m training.recorder``, one job of several; people use ``so101 record``."""
    parser = argparse.ArgumentParser(description="Record a stretch of an order.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--stop", type=int, required=True)
    parser.add_argument("--order", type=TypeAdapter(Order).validate_json, required=True)
    given = parser.parse_args()
    child.die_with_parent()
    stage = Stage(given.order.width_px, given.order.height_px)
    try:
        maker, provenance = open_order(given.order, stage)
        with create_dataset(given.root, stage, provenance) as writer:
            for number in range(given.first, given.stop):
                episode = maker.episode(number)
                if episode is not None:
                    write_episode(writer, episode)
                sys.stdout.write("kept\n" if episode is not None else "dropped\n")
                sys.stdout.flush()
    except So101Error as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        stage.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
