"""Workers on the machines of a Ray cluster.

Ray places processes and carries bytes. What is asked and answered is JSON, as with a worker of this machine,
and files travel as archives; no object of ours is pickled but the actor's class, by its name.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import platform
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from robot.errors import ConfigError
from training import shipping
from training.pool import Job, Pool, Tell, WorkerLostError
from training.worker import ProcessWorker, heard

LOCAL = "local"
"""In place of an address: a cluster of this machine alone, for as long as the command runs."""
LOCAL_STORE_BYTES = 256 * 2**20
PATIENCE_S = 5.0
_ANSWER = ("answer", "error", "lost")


class Node:
    """A worker process and the files for it, on whatever machine Ray has put it; runs as a Ray actor.

    Args:
        variables: of the process's environment.
        folder: where it works; ``None``: anywhere.
    """

    def __init__(self, variables: Mapping[str, str], folder: str | None) -> None:
        self._variables = dict(variables)
        self._folder = None if folder is None else Path(folder)
        self._worker: ProcessWorker | None = None

    def look(self) -> tuple[str, str]:
        """Name of the machine, and which code it has."""
        return platform.node(), shipping.code_digest()

    def address(self) -> tuple[str, int]:
        """Under which the others reach this machine, and a port that is free."""
        import ray

        host: str = ray.util.get_node_ip_address()
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
            return host, probe.getsockname()[1]

    def missing(self, paths: list[str]) -> list[str]:
        """Those of some paths that this machine does not have."""
        return [path for path in paths if not Path(path).exists()]

    def set_variables(self, variables: Mapping[str, str]) -> None:
        """More variables for the process, before its first job."""
        self._variables.update(variables)

    def lacks(self, sha256: str) -> bool:
        """Whether a folder must be sent."""
        return shipping.kept(sha256) is None

    def keep(self, sha256: str, archive: bytes) -> None:
        """Take a folder in."""
        shipping.keep(sha256, archive)

    def do(self, text: str, folders: dict[str, str]) -> Iterator[str | bytes]:
        """Lines about a job, the last of them its answer, and then its files as an archive.

        Args:
            text: the job as JSON.
            folders: digests of the folders that it reads, by name.
        """
        if self._worker is None:
            self._worker = ProcessWorker(self._variables, self._folder)
        job = Job.model_validate_json(text)
        here = {name: shipping.shelf() / sha256 for name, sha256 in folders.items()}
        with tempfile.TemporaryDirectory(prefix="so101-") as scratch:
            out = None if job.out is None else Path(scratch) / "out"
            asked = job.model_copy(update={"folders": here, "out": out})
            try:
                for line in self._worker.lines(asked.model_dump_json()):
                    yield line
                    if json.loads(line)[0] in _ANSWER:
                        break
            except WorkerLostError as error:
                self._worker.stop()
                self._worker = None
                yield json.dumps(["lost", str(error)])
                return
            if out is not None and out.is_dir():
                yield shipping.packed(out)

    def end(self) -> None:
        """Ask the process for an end, as SIGTERM does."""
        if self._worker is not None:
            self._worker.end()

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.stop()


class Freight:
    """Folders that were packed once for all workers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[str, Any]] = {}

    def of(self, folder: Path) -> tuple[str, Any]:
        """Digest of a folder and Ray's reference to its archive."""
        import ray

        with self._lock:
            if folder not in self._known:
                self._known[folder] = shipping.digest(folder), ray.put(shipping.packed(folder))
            return self._known[folder]


class RayWorker:
    """A worker somewhere in the cluster that this process is connected to.

    Args:
        freight: of all workers.
        variables: of its environment, beside that of Ray's processes there.
        folder: where it works.
        shared: what its machine must see, as this one does.
        options: of the Ray actor, for instance what it needs.
    """

    def __init__(
        self,
        freight: Freight,
        *,
        variables: Mapping[str, str] | None = None,
        folder: Path | None = None,
        shared: Sequence[Path] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        import ray

        # Two threads: one is in a job, the other can end it.
        wanted = {"num_cpus": 1, "max_concurrency": 2, "max_restarts": 0, **(options or {})}
        chosen = {"MUJOCO_GL": os.environ["MUJOCO_GL"]} if "MUJOCO_GL" in os.environ else {}
        actor = ray.remote(Node).options(**wanted)
        self.actor = actor.remote({**chosen, **(variables or {})}, None if folder is None else str(folder))
        self._freight = freight
        self._shared = [*([folder] if folder is not None else []), *shared]
        self.host: str | None = None

    def ask(self, method: str, *given: object) -> Any:
        """What a method of the node returns. Raises WorkerLostError."""
        import ray

        try:
            return ray.get(getattr(self.actor, method).remote(*given))
        except ray.exceptions.RayError as error:
            raise WorkerLostError(f"{self._title}: {first_line(error)}") from error

    @property
    def _title(self) -> str:
        return f"the worker on {self.host}" if self.host is not None else "a worker of the cluster"

    def check(self) -> None:
        """Wait until it runs. Raises ConfigError where its machine lacks files or has other code."""
        if self.host is not None:
            return
        host, code = self.ask("look")
        if code != shipping.code_digest():
            raise ConfigError(
                f"{host} has another version of so101-deploy than this machine, and may not give the same "
                "results: install the same one on both"
            )
        missing = self.ask("missing", [str(path.absolute()) for path in self._shared])
        if missing:
            raise ConfigError(
                f"{host} has no {', '.join(missing)}: all machines must see the same file system there"
            )
        self.host = host

    def do(self, job: Job, tell: Tell) -> Any:
        """See ``Worker``."""
        import ray

        self.check()
        digests: dict[str, str] = {}
        for name, folder in job.folders.items():
            digests[name], archive = self._freight.of(folder)
            if self.ask("lacks", digests[name]):
                self.ask("keep", digests[name], archive)
        answer = None
        try:
            stream = self.actor.do.options(num_returns="streaming")
            for reference in stream.remote(job.model_dump_json(exclude={"folders"}), digests):
                said = ray.get(reference)
                if isinstance(said, bytes) and job.out is not None:
                    shipping.unpack(said, job.out)
                else:
                    answer = heard(said, tell) or answer
        except ray.exceptions.RayError as error:
            raise WorkerLostError(f"{self._title}: {first_line(error)}") from error
        except WorkerLostError as error:
            raise WorkerLostError(f"{self._title}: {error}") from error
        if answer is None:
            raise WorkerLostError(f"{self._title} gave no answer")
        return answer.value

    def stop(self) -> None:
        """See ``Worker``."""
        import ray

        if not ray.is_initialized():
            return
        try:
            ray.get(self.actor.close.remote(), timeout=2 * PATIENCE_S)  # longer than child.stop waits
        except ray.exceptions.RayError:
            pass
        finally:
            ray.kill(self.actor)


def first_line(error: BaseException) -> str:
    """What an error of Ray says first, which is followed by pages."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def need_ray() -> None:
    """Raise a ConfigError that says what to install where Ray is not there."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "ray not installed: --cluster needs the extra 'cluster' (pip install 'so101-deploy[cluster]')"
        )


@contextmanager
def connected(address: str, cpus: int | None = None) -> Iterator[dict[str, float]]:
    """Connected to a cluster inside; what it has, by name (``CPU``, ``GPU``).

    Args:
        address: of a running cluster, ``HOST:PORT``; or ``local`` for one of this machine alone.
        cpus: how many workers a local one has room for.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster.
    """
    need_ray()
    # Before the import, which reads them: nobody is told what is run, and one machine talks to itself alone.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        given: dict[str, Any] = {
            "num_cpus": cpus or os.cpu_count(),
            "include_dashboard": False,
            "object_store_memory": LOCAL_STORE_BYTES,
        }
    else:
        _check_reachable(address)
        given = {}
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **given)
    except Exception as error:  # Ray raises Exception itself where its processes do not start
        ray.shutdown()
        remedy = "start it again" if address == LOCAL else "on this machine: ray start --address=HEAD:PORT"
        raise ConfigError(f"no Ray cluster at {address} ({first_line(error)}): {remedy}") from error
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--cluster is HOST:PORT of the head, or local, not {address!r}")
    try:
        socket.create_connection((host, int(port)), PATIENCE_S).close()
    except OSError as error:
        raise ConfigError(
            f"no Ray cluster at {address} ({error}): start one with ray start --head on its first machine"
        ) from error


def workers_of(resources: Mapping[str, float], workers: int | None) -> int:
    """How many workers there are to be: so many, or one for each processor. Raises ConfigError."""
    there = int(resources.get("CPU", 0))
    if workers is not None and workers > there:
        raise ConfigError(f"the cluster has {there} processors: --workers {there} at most")
    return workers or there


def ray_pool(workers: int, folder: Path | None = None, shared: Sequence[Path] = ()) -> Pool:
    """Workers in the cluster that this process is connected to, see ``RayWorker``."""
    return Pool(workers, partial(RayWorker, Freight(), folder=folder, shared=shared))


@contextmanager
def cluster(
    address: str, workers: int | None, folder: Path | None = None, shared: Sequence[Path] = ()
) -> Iterator[Pool]:
    """A pool on a cluster.

    Args:
        address: see ``connected``.
        workers: how many; one for each processor if not given.
        folder: where they work, which all machines have; anywhere if not given.
        shared: what all machines must see.

    Raises:
        ConfigError: see ``connected``; more workers than processors.
    """
    with (
        connected(address, workers) as resources,
        ray_pool(workers_of(resources, workers), folder, shared) as pool,
    ):
        yield pool
