"""Options for who does simulated work: processes of this machine, or workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from robot.errors import ConfigError

if TYPE_CHECKING:
    from training.pool import Pool

ClusterOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT|local", help="a Ray cluster does it; local: one of this machine alone"),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="with --cluster: so many workers, one for each processor if not given"),
]


@contextmanager
def pool_of(cluster: str | None, workers: int | None) -> Iterator[Pool | None]:
    """The workers that are asked for; ``None`` where that is no cluster.

    Raises:
        ConfigError: workers without a cluster; see ``training.cluster.connected``.
    """
    if cluster is None:
        if workers is not None:
            raise ConfigError("--workers is for --cluster; processes of this machine are --jobs")
        yield None
        return
    from training.cluster import cluster as on_cluster

    with on_cluster(cluster, workers) as pool:
        yield pool
