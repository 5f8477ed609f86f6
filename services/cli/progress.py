"""The one look of progress bars: on stderr, so that stdout stays for results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


@contextmanager
def counting(
    description: str, total: int, console: Console | None = None
) -> Iterator[tuple[Progress, TaskID]]:
    """A bar that counts to ``total`` and says how long it still takes; none where nobody watches."""
    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress, progress.add_task(description, total=total)
