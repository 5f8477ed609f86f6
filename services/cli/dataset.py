"""``so101 dataset``: work on episodes.

Each command has a file of its own, which imports what is heavy only when it is called.
"""

from __future__ import annotations

import typer

from services.cli.dataset_check import check
from services.cli.dataset_convert import convert
from services.cli.dataset_delete import delete
from services.cli.dataset_info import info
from services.cli.dataset_merge import merge
from services.cli.dataset_push import push
from services.cli.dataset_repair import repair
from services.cli.dataset_view import view

app = typer.Typer(
    help="Look at, check and work on episodes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    """Look at, check and work on episodes."""


app.command("info")(info)
app.command("check")(check)
app.command("repair")(repair)
app.command("delete")(delete)
app.command("view")(view)
app.command("convert")(convert)
app.command("merge")(merge)
app.command("push")(push)
