"""The report of the study of executions: a table, a plot, and published results beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.manifest import Manifest
from training.evaluation import wilson_95
from training.studies.kept import write_json
from training.studies.report import markdown_table, new_figure, rate, save_figure, write_report
from training.trials import Trial

TITLE = "Executing chunks: ensembling and horizons"
PUBLISHED = """## What others found

| who | what | success |
| --- | --- | ---: |
| LeRobot, pull request 319 (ALOHA transfer cube, 500 trials) | open loop, no ensembling | 87.6 % |
| | ensemble, m = 0.1 | 57.4 % |
| | ensemble, m = 0.01 (ACT's) | 70.8 % |
| | ensemble, m = -0.01 | 62.2 % |
| | ensemble, m = -0.1 | 6.6 % |
| | one step of each chunk | 0 % |
| D. Bryars (SO-101, pick and place, 50 trials) | no ensembling, then m = -0.01 | 82 %, then 90 % |
| the same, two cameras and a vision transformer | no ensembling, then m = -0.01 | 58 %, then 50 % |
| the same (10 trials each) | 1, 2, 5 steps of each chunk | 0 % |
| | 10, 20, 50, 100 steps of each chunk | 80, 100, 80, 90 % |

The sign of m is as in ACT: above 0 the oldest prediction weighs most. Bryars's 0.01 lets the newest weigh
most, which is m = -0.01 here. Theirs ran without delay and joined chunks without a fade. Here a chunk comes
two control ticks after its observation, pictures are 70 ms old, and a new chunk fades in over 0.1 s, so that
one step of each chunk is a short average as well."""
REPRODUCE = """## Doing it again

    so101 study execution            # goes on where it was interrupted; another bundle: its folder
    so101 study execution --quick    # minutes, to see that it runs"""


@dataclass(frozen=True)
class Cell:
    """Trials of one execution under one condition."""

    way: str
    condition: str
    trials: list[Trial]

    @property
    def successes(self) -> int:
        """How many."""
        return sum(trial.success for trial in self.trials)

    @property
    def share(self) -> float:
        """Of the trials."""
        return self.successes / max(1, len(self.trials))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the share."""
        return wilson_95(self.successes, len(self.trials))

    @property
    def median_s(self) -> float | None:
        """Duration of successes."""
        durations = [trial.duration_s for trial in self.trials if trial.success]
        return float(np.median(durations)) if durations else None

    @property
    def jerk_dps3(self) -> float:
        """Mean jerk of the commands, all trials."""
        return float(np.mean([trial.jerk_dps3 for trial in self.trials]))


def write_execution_report(
    path: Path, cells: Sequence[Cell], manifest: Manifest, *, trials: int, shortened: bool
) -> None:
    """Write the report, its picture and its JSON.

    Args:
        path: the markdown file.
        cells: every execution under every condition.
        manifest: of the bundle.
        trials: of each.
        shortened: whether the run was cut short on purpose.
    """
    conditions = list(dict.fromkeys(cell.condition for cell in cells))
    plot = path.with_name(f"{path.stem}.png")
    _plot(cells, conditions, plot)
    figures = [
        {
            "execution": cell.way,
            "condition": cell.condition,
            "trials": len(cell.trials),
            "successes": cell.successes,
            "wilson_95": list(cell.interval),
            "median_duration_s": cell.median_s,
            "mean_jerk_dps3": cell.jerk_dps3,
            "success": "".join("1" if trial.success else "0" for trial in cell.trials),
        }
        for cell in cells
    ]
    about = {"bundle": manifest.name, "chunk_size": manifest.chunk_size, "fps": manifest.fps}
    write_json(path.with_suffix(".json"), about | {"cells": figures, "shortened": shortened})
    parts = [
        f"""The bundle `{manifest.name}` ({manifest.chunk_size} actions a chunk, {manifest.fps:g} a second)
on the lockstep twin, the same {trials} trials for every way to execute its chunks: pick and place with exact
coordinates, with coordinates that are wrong by 10 mm (standard deviation of each), and with a second cube
that looks the same. Success with its 95 % Wilson interval; median duration of successes; jerk: mean length
of the third derivative of the commanded arm joints, in 1000 °/s³, of all trials with exact coordinates.""",
        _table(cells, conditions),
        f"![Success and jerk]({plot.name})",
        "## What it shows\n\n" + "\n".join(f"- {line}" for line in findings_of(cells)),
        PUBLISHED,
        REPRODUCE,
    ]
    write_report(path, TITLE, parts, shortened=shortened)


def _by_way(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    return {way: [cell for cell in cells if cell.way == way] for way in dict.fromkeys(c.way for c in cells)}


def _table(cells: Sequence[Cell], conditions: Sequence[str]) -> str:
    heads = ("execution", *conditions, "median s", "jerk")
    lines = []
    for way, row in _by_way(cells).items():
        first = row[0]
        rates = [rate(cell.successes, len(cell.trials)) for cell in row]
        median = "–" if first.median_s is None else f"{first.median_s:.1f}"
        lines.append((way, *rates, median, f"{first.jerk_dps3 / 1000:.0f}"))
    return markdown_table(heads, lines)


def findings_of(cells: Sequence[Cell]) -> list[str]:
    """What the figures say, in sentences."""
    lines = []
    for condition in dict.fromkeys(cell.condition for cell in cells):
        tried = [cell for cell in cells if cell.condition == condition]
        best = max(tried, key=lambda cell: cell.share)
        worse = [cell.way for cell in tried if cell.interval[1] < best.interval[0]]
        lines.append(
            f"{condition[0].upper()}{condition[1:]}: most successes with {best.way} "
            f"({best.successes} of {len(best.trials)}); worse beyond both intervals: "
            f"{'; '.join(worse) or 'none'}."
        )
    ways = _by_way(cells)
    open_loop = next(row for way, row in ways.items() if way.startswith("open loop"))
    for name, row in ways.items():
        if name in {"ensemble, m = 0.01", "ensemble, m = -0.1", "receding, 1"}:
            told = [
                f"{cell.condition} {cell.successes} ({against.successes})"
                for cell, against in zip(row, open_loop, strict=True)
            ]
            lines.append(f"Successes with {name}, in brackets open loop: {', '.join(told)}.")
    exact = {way: row[0] for way, row in ways.items()}
    smooth = min(exact, key=lambda way: exact[way].jerk_dps3)
    rough = max(exact, key=lambda way: exact[way].jerk_dps3)
    lines.append(
        f"Smoothest: {smooth} ({exact[smooth].jerk_dps3 / 1000:.0f}); "
        f"roughest: {rough} ({exact[rough].jerk_dps3 / 1000:.0f})."
    )
    return lines


def _plot(cells: Sequence[Cell], conditions: Sequence[str], path: Path) -> None:
    ways = _by_way(cells)
    figure = new_figure(9.0, 1.0 + 0.35 * len(ways))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    places = np.arange(len(ways))[::-1]
    for number, condition in enumerate(conditions):
        tried = [cell for cell in cells if cell.condition == condition]
        shares = np.array([100 * cell.share for cell in tried])
        ends = 100 * np.array([cell.interval for cell in tried])
        spread = np.abs(np.stack([shares - ends[:, 0], ends[:, 1] - shares]))
        left.errorbar(shares, places + 0.2 * (1 - number), xerr=spread, fmt="o", capsize=2, label=condition)
    left.set_yticks(places, list(ways))
    left.set_xlabel("success, %")
    left.legend(fontsize="small", loc="lower left")
    right.barh(places, [row[0].jerk_dps3 / 1000 for row in ways.values()], color="tab:gray")
    right.set_xlabel("jerk, 1000 °/s³")
    save_figure(figure, path)
