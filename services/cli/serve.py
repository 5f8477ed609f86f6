"""``so101 serve``: the service."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class ExecutionMode(StrEnum):
    """How chunks become targets."""

    ENSEMBLE = "ensemble"
    RECEDING = "receding"
    OPEN_LOOP = "open_loop"


class ExecutionProvider(StrEnum):
    """What a policy runs on; the names are those of ``inference.runtime.PROVIDERS``."""

    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


ProviderOption = Annotated[
    ExecutionProvider, typer.Option(help="what the policy runs on; an error where that is not there")
]
ThreadsOption = Annotated[
    int, typer.Option(min=1, help="threads of the policy; leave a core to the control loop")
]


def serve(
    robot: Annotated[str, typer.Option(help="twin, or the YAML file of a robot")] = "twin",
    policy: Annotated[
        str | None,
        typer.Option(help="folder of a policy bundle, default the shipped one; 'none' runs without any"),
    ] = None,
    host: Annotated[
        str, typer.Option(help="address to listen on; 0.0.0.0 lets the whole network move the arm")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port")] = 8000,
    execution: Annotated[
        ExecutionMode | None, typer.Option(help="instead of the mode that the bundle recommends")
    ] = None,
    actions_per_inference: Annotated[
        int | None, typer.Option(min=1, help="policy steps per chunk, with --execution receding")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="seed of what the twin draws: an unreliable bus")] = 0,
    provider: ProviderOption = ExecutionProvider.CPU,
    threads: ThreadsOption = 1,
) -> None:
    """Start the twin or the arm, the policy and the HTTP service; Ctrl-C parks the arm and ends all.

    The address is printed once /readyz says yes. Commands: POST /v1/start, POST /v1/pickups, POST /v1/stop;
    see /docs. Lengths are metres in the arm's base frame.
    """
    from services.serving import ServeOptions
    from services.serving import serve as run
    from services.shipped import default_policy

    logging.basicConfig(level=logging.INFO, format="%(asctime)s serve %(levelname)s %(message)s")
    bundle = None if policy == "none" else Path(policy) if policy else default_policy()
    chosen: dict[str, Any] | None = None
    if execution is not None or actions_per_inference is not None:
        chosen = _execution(bundle, execution, actions_per_inference)
    options = ServeOptions(robot, bundle, host, port, chosen, seed, provider.value, threads)
    if host not in ("127.0.0.1", "::1", "localhost"):
        typer.echo(f"warning: everybody who reaches {host}:{port} can move the arm", err=True)
    run(options, typer.echo)


def _execution(bundle: Path | None, mode: ExecutionMode | None, actions: int | None) -> dict[str, Any] | None:
    from inference.manifest import read_manifest

    if bundle is None:
        return None
    recommended = read_manifest(bundle).execution.model_dump()
    changes = {"mode": None if mode is None else mode.value, "actions_per_inference": actions}
    return {**recommended, **{key: value for key, value in changes.items() if value is not None}}
