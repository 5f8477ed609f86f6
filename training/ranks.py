"""One policy trained by processes that Ray starts, as ``torchrun`` would; the weights are the same."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from robot.errors import ConfigError, So101Error
from training.cluster import Freight, RayWorker
from training.config import TrainConfig
from training.loop import Trainer, TrainResult
from training.pool import Job, Tell, WorkerLostError
from training.train_log import Log

logger = logging.getLogger(__name__)


def train_rank(job: Job, tell: Tell) -> Any:
    """Train as one process of a group; tells each log entry."""
    config = TrainConfig.model_validate_json(job.given["config"])
    result = Trainer(config, lambda entry: tell(json.dumps(entry))).run()
    return [str(result.checkpoint), result.step, result.finished, result.samples_per_s]


def train_on_ranks(
    config: TrainConfig,
    ranks: int,
    resources: Mapping[str, float],
    report: Callable[[Log], None] = lambda entry: None,
) -> TrainResult:
    """Train with so many processes on the cluster that this process is connected to.

    A run that loses a process goes on once from its last checkpoint. Ctrl-C ends it with a checkpoint, a
    second one without.

    Args:
        config: the run; its paths are relative to this process's folder, on all machines.
        ranks: how many processes; each has a GPU where the cluster has that many.
        resources: what the cluster has, from ``training.cluster.connected``.
        report: is given every log entry.

    Raises:
        ConfigError: there are too few GPUs for ``device: cuda``, or a machine lacks a path.
        So101Error: processes were lost twice, or what training raises.
    """
    gpus = int(resources.get("GPU", 0))
    if config.device == "cuda" and gpus < ranks:
        raise ConfigError(f"the cluster has {gpus} GPUs: --workers {gpus} at most, or device=cpu")
    gpu = int(config.device != "cpu" and gpus >= ranks)
    for again in (True, False):
        try:
            return _train(config, ranks, gpu, report)
        except WorkerLostError as error:
            if not again:
                raise So101Error(f"training: lost twice, {error}") from error
            logger.warning("%s; training goes on from its last checkpoint", error)
    raise ConfigError("no processes")


def _train(config: TrainConfig, ranks: int, gpu: int, report: Callable[[Log], None]) -> TrainResult:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    token = output / f".seen-{secrets.token_hex(4)}"
    token.touch()
    starts = [config.init_from] if config.init_from is not None else []
    shared = [token, *map(Path, [*config.datasets, *starts])]
    group = ray.util.placement_group([{"CPU": 1, "GPU": gpu}] * ranks, strategy="PACK")
    workers: list[RayWorker] = []
    threads = ThreadPoolExecutor(ranks)
    try:
        for rank in range(ranks):
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
            options = {"num_gpus": gpu, "scheduling_strategy": place}
            workers.append(RayWorker(Freight(), folder=Path.cwd(), shared=shared, options=options))
        for worker in workers:
            worker.check()
        host, port = workers[0].ask("address")
        for rank, worker in enumerate(workers):
            # Each process sees its own GPU alone, so that it is the first of its machine.
            group_of = {"MASTER_ADDR": host, "MASTER_PORT": port, "RANK": rank, "WORLD_SIZE": ranks}
            worker.ask("set_variables", {k: str(v) for k, v in group_of.items()} | {"LOCAL_RANK": "0"})
        job = Job(
            name="training",
            entry=f"{__name__}:{train_rank.__name__}",
            given={"config": config.model_dump_json()},
        )

        def told(line: str) -> None:
            report(json.loads(line))

        futures = [threads.submit(worker.do, job, told) for worker in workers]
        checkpoint, step, finished, speed = _first(futures, workers)
        return TrainResult(Path(checkpoint), step, finished, speed)
    finally:
        for worker in workers:
            worker.stop()
        threads.shutdown()
        ray.util.remove_placement_group(group)
        token.unlink()


def _first(futures: Sequence[Future[Any]], workers: Sequence[RayWorker]) -> Any:
    """What the first process returns, when all have; ctrl-C lets them end with a checkpoint."""
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    except KeyboardInterrupt:
        for worker in workers:
            worker.ask("end")
        wait(futures, return_when=FIRST_EXCEPTION)
    failed = [future for future in futures if future.done() and future.exception() is not None]
    # One that fails lets the others wait for it; what one of them says of that explains nothing.
    return failed[0].result() if failed else futures[0].result()
