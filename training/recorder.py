"""Simulated episodes into a dataset, by one process or by several workers; the result is the same."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from inference.bundle import load_bundle
from robot.errors import ConfigError, So101Error
from robot.recording.merge import append_dataset
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter
from robot.twin.tasks import PickPlace, Push, Reach, task_named
from training.dagger import Corrector
from training.demonstrations import Demonstrator
from training.episodes import DemonstrationOrder, EpisodeMaker, Order, create_dataset, write_episode
from training.pool import Job, Pool, Tell
from training.stage import Stage
from training.tool_demonstrations import ToolDemonstrator
from training.worker import processes

MAX_FAILURES = 25
"""So many attempts in a row that are not kept mean that something is wrong."""
STRETCH = 10
"""Most attempts that a worker is given at once."""
KEPT = "kept"

OnEpisode = Callable[[], None]
"""Called for each episode that is kept."""


def record_episodes(
    root: Path,
    order: Order,
    episodes: int,
    *,
    jobs: int = 1,
    pool: Pool | None = None,
    on_episode: OnEpisode | None = None,
) -> int:
    """Record a number of simulated episodes into a new dataset.

    Attempt k of an order is always the same; the dataset holds the first ``episodes`` attempts that are worth
    keeping, in this order, however many workers share the work.

    Args:
        root: folder of the dataset, new or empty.
        order: what to record.
        episodes: how many to keep.
        jobs: processes of this machine.
        pool: workers that make them instead.
        on_episode: for showing progress.

    Returns:
        How many attempts it took.

    Raises:
        DatasetError: the folder is in use.
        BundleError: the policy that is to be corrected does not load.
        So101Error: attempt after attempt is not worth keeping, or workers were lost.
    """
    if episodes < 1 or jobs < 1:
        raise ConfigError(f"episodes and jobs must be at least 1, not {episodes} and {jobs}")
    stage = Stage(order.width_px, order.height_px)
    try:
        maker, provenance = open_order(order, stage)
        with create_dataset(root, stage, provenance) as writer:
            if pool is None and jobs == 1:
                return _alone(maker, writer, episodes, on_episode)
            with nullcontext(pool) if pool is not None else processes(jobs) as workers:
                return _shared(order, writer, episodes, workers, on_episode)
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
    order: Order, writer: DatasetWriter, episodes: int, pool: Pool, on_episode: OnEpisode | None
) -> int:
    """Rounds of attempts, as many as episodes are missing; workers take stretches of their numbers."""
    parts = Path(tempfile.mkdtemp(prefix=f".{writer.root.name}-", dir=writer.root.parent))
    number = failures = 0
    try:
        while (missing := episodes - writer.total_episodes) > 0:
            length = min(STRETCH, -(-missing // pool.workers))
            numbers = range(number, number + missing)
            stretches = [numbers[k : k + length] for k in range(0, missing, length)]
            for folder in _round(parts, stretches, order, pool, on_episode):
                append_dataset(writer, Dataset(folder))
                shutil.rmtree(folder)
            failures = 0 if episodes - writer.total_episodes < missing else failures + missing
            _check(failures)
            number += missing
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return number


def _round(
    parts: Path, stretches: list[range], order: Order, pool: Pool, on_episode: OnEpisode | None
) -> list[Path]:
    """Let workers try stretches of episodes; their datasets, in the order of the numbers."""
    jobs = [
        Job(
            name=f"episodes {stretch.start}..{stretch.stop - 1}",
            entry=f"{__name__}:{record_stretch.__name__}",
            given={
                "order": order.model_dump_json(),
                "first": stretch.start,
                "stop": stretch.stop,
            },
            folders={} if isinstance(order, DemonstrationOrder) else {"policy": order.policy},
            out=parts / f"{stretch.start}",
        )
        for stretch in stretches
    ]

    def told(number: int, line: str) -> None:
        if on_episode is not None and line == KEPT:
            on_episode()

    for _ in pool.map(jobs, told):
        pass
    return [job.out for job in jobs if job.out is not None]


@functools.lru_cache(maxsize=1)
def _opened(order: str, policy: Path | None) -> tuple[Stage, EpisodeMaker, dict[str, object]]:
    given: Order = TypeAdapter(Order).validate_json(order)
    if policy is not None:
        given = given.model_copy(update={"policy": policy})
    stage = Stage(given.width_px, given.height_px)
    return stage, *open_order(given, stage)


def record_stretch(job: Job, tell: Tell) -> Any:
    """Try the episodes of a job and write those that are kept to its folder."""
    stage, maker, provenance = _opened(job.given["order"], job.folders.get("policy"))
    if job.out is None:
        raise ConfigError(f"{job.name}: no folder to write to")
    with create_dataset(job.out, stage, provenance) as writer:
        for number in range(job.given["first"], job.given["stop"]):
            episode = maker.episode(number)
            if episode is not None:
                write_episode(writer, episode)
                tell(KEPT)


def _check(failures: int) -> None:
    if failures >= MAX_FAILURES:
        raise So101Error(
            f"{failures} attempts in a row gave no episode worth keeping: the twin or its task has "
            "changed, or the policy that is corrected makes no mistakes"
        )
