"""``so101 calibrate``: what the arm, its cameras and its table measure, once and for good.

Each command has a file of its own, which imports what is heavy only when it is called.
"""

from __future__ import annotations

import typer

from services.cli.calibrate_arm import arm
from services.cli.calibrate_camera import camera
from services.cli.calibrate_reference import reference
from services.cli.calibrate_table import table

app = typer.Typer(
    help="Measure the arm, its cameras and its table.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    """Measure the arm, its cameras and its table."""


app.command("arm")(arm)
app.command("camera")(camera)
app.command("table")(table)
app.command("reference")(reference)
