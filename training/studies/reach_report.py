"""The report of the study of planar reach: a table, a plot, and what it says about how often to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.studies.report import markdown_table, mean_sd, new_figure, rate, save_figure, write_report
from training.trials import Trial

STEPS_PER_S = 10.0
"""Steps of the policies: every third of 30 frames."""
HEADS = ("policy", "execution", "parameters", "success (95 %)", "steps", "path inefficiency", "failed")
REPRODUCE = """## Doing it again

    so101 study reach            # episodes, training, trials, this report; goes on where it was interrupted
    so101 study reach --quick    # minutes, to see that it runs"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    policy: str
    mode: str
    parameters: int | None
    trials: list[Trial]

    @property
    def steps(self) -> list[float]:
        """Steps until the tool was over the disc, of the trials in which it was."""
        return [STEPS_PER_S * trial.done_s for trial in self.trials if trial.done_s is not None]

    @property
    def inefficiency(self) -> list[float]:
        """Way of the tool over the straight one, of the same trials."""
        return [trial.path_m / trial.straight_m for trial in self.trials if trial.done_s is not None]


def write_reach_report(
    path: Path, rows: Sequence[Row], *, episodes: int, frames: int, shortened: bool
) -> None:
    """Write the report and, beside it, its plot.

    Args:
        path: the markdown file.
        rows: the first is the expert's.
        episodes: in the training data.
        frames: the same.
        shortened: whether the run was cut short on purpose.
    """
    trials = len(rows[0].trials)
    cells = [
        (
            row.policy,
            row.mode,
            "" if row.parameters is None else f"{row.parameters:,}",
            rate(sum(trial.success for trial in row.trials), len(row.trials)),
            mean_sd(row.steps),
            mean_sd(row.inefficiency),
            str(sum(not trial.success for trial in row.trials)),
        )
        for row in rows
    ]
    about = f"""The tool is brought over a disc on the table, in a level plane, from a random place of the
field. Policies see the overhead camera alone, at 128×128 pixels, and say how far the tool moves in x and y in
each of their steps, ten a second; the expert moves it at most 10 mm a step. All were trained on the same
{episodes} episodes ({frames:,} frames) by the expert and tried on the same {trials} trials. Success: within
12 mm of the disc's middle for 0.2 s, after at most 60 steps. Steps and path inefficiency (way of the tool
over the straight one) are of successful trials, mean ± standard deviation."""
    plot = path.with_name(f"{path.stem}.png")
    _plot(rows, plot)
    parts = [
        about,
        markdown_table(HEADS, cells),
        f"![Steps and success]({plot.name})",
        _findings(rows),
        REPRODUCE,
    ]
    write_report(path, "Planar reach: small policies, and how often they look", parts, shortened=shortened)


def _findings(rows: Sequence[Row]) -> str:
    """What the table says, in sentences that are made from it."""
    lines = ["## What it shows", ""]
    tried = [row for row in rows[1:] if row.steps]
    if tried:
        best = min(tried, key=lambda row: (-_success(row), _mean_steps(row)))
        lines.append(f"- Best: {best.policy}, {best.mode}: {_told(best)}; the expert: {_told(rows[0])}.")
    for policy in dict.fromkeys(row.policy for row in rows[1:]):
        modes = [row for row in rows if row.policy == policy]
        if len(modes) > 1:
            lines.append(f"- {policy}: {'; '.join(f'{row.mode}: {_told(row)}' for row in modes)}.")
    return "\n".join(lines)


def _told(row: Row) -> str:
    steps = f" in {_mean_steps(row):.1f} steps" if row.steps else ""
    return f"{100 * _success(row):.0f} %{steps}"


def _success(row: Row) -> float:
    return sum(trial.success for trial in row.trials) / max(1, len(row.trials))


def _mean_steps(row: Row) -> float:
    return float(np.mean(row.steps)) if row.steps else float("nan")


def _plot(rows: Sequence[Row], path: Path) -> None:
    figure = new_figure(8.0, 0.6 + 0.3 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(rows))[::-1]
    names = [f"{row.policy}, {row.mode}".rstrip(", ") for row in rows]
    left.barh(places, [_mean_steps(row) for row in rows], color="tab:blue")
    left.set_yticks(places, names)
    left.set_xlabel("steps to the disc (successes)")
    right.barh(places, [100 * _success(row) for row in rows], color="tab:green")
    right.set_xlabel("success, %")
    save_figure(figure, path)
