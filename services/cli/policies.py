"""``so101 policies``: what can be trained and what can be run."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table


def policies(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="folders of bundles, default the shipped ones")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print as JSON")] = False,
) -> None:
    """List policy bundles, and the architectures that `so101 train` knows, with their size and inputs.

    Pictures are height x width x 3, state is six joints in degrees and gripper percent, pickup_xy_m metres;
    a policy that looks back has its observation steps before that.
    """
    from services.policy_catalogue import architectures, bundles

    found: list[dict[str, Any]] = bundles(folders)
    # The number of parameters is that of the built network, so this list needs what training needs.
    if find_spec("torch") is not None:
        found += architectures()
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table("name", "kind", "parameters", "inputs", "action space")
    for entry in found:
        inputs = ", ".join(f"{key} {'x'.join(map(str, shape))}" for key, shape in entry["inputs"].items())
        parameters = "?" if entry["parameters"] is None else f"{entry['parameters']:,}"
        table.add_row(entry["name"], entry["kind"], parameters, inputs, entry["action_space"])
    Console().print(table)
