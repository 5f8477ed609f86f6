"""How a study tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

Advance = Callable[[int], None]
"""Takes how much more has been done; from any thread."""


class Show(Protocol):
    """Somebody who watches."""

    def say(self, line: str) -> None:
        """One line."""

    def counting(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """Something that is counted up to ``total``, with how long it still takes."""


def minutes(time_s: float) -> str:
    """A time for a person."""
    return f"{time_s / 60:.0f} min" if time_s >= 90 else f"{time_s:.0f} s"
