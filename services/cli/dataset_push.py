"""``so101 dataset push``: a dataset to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    dataset: Annotated[Path, typer.Argument(help="folder of a LeRobot dataset v3.0")],
    repo: Annotated[str, typer.Argument(help="repository on the Hub, user/name; made where there is none")],
    public: Annotated[
        bool, typer.Option("--public", help="let everybody see a new repository (default: only you)")
    ] = False,
) -> None:
    """Upload a dataset to the Hugging Face Hub, where LeRobot finds it. Needs the extra `hub` and a login."""
    from services import hub

    typer.echo(hub.push(dataset, repo, private=not public))
