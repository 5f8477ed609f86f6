"""What every study's report is made of: tables, rates with their intervals, plots, and what was shortened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.evaluation import wilson_95

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHORTENED = (
    "> **Shortened run** (`--quick`): less data, less training, fewer trials. It shows that the study runs; "
    "its figures mean nothing."
)
"""Stands on top of the report of a run that was cut short on purpose."""


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in markdown, its first column to the left and the others to the right."""
    rules = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rules, *rows))


def rate(successes: int, trials: int) -> str:
    """A success rate and its 95 % Wilson interval, in percent."""
    low, high = wilson_95(successes, trials)
    return f"{_percent(successes / max(1, trials))} ({_percent(low)} to {_percent(high)})"


def mean_sd(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation, or a dash where there are no values."""
    if not values:
        return "–"
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def new_figure(width_in: float = 8.0, height_in: float = 4.0) -> Figure:
    """An empty figure that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG; no date in it, so that the same data give the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def write_report(path: Path, title: str, parts: Sequence[str], *, shortened: bool) -> None:
    """Write a report of markdown parts, with the warning on top where the run was shortened."""
    path.parent.mkdir(parents=True, exist_ok=True)
    given = [f"# {title}", *([SHORTENED] if shortened else []), *parts]
    path.write_text("\n\n".join(part.strip() for part in given) + "\n", encoding="utf-8")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
