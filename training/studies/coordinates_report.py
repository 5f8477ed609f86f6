"""The report of the study of coordinates: tables, maps, and sentences that are made from the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot.seams import FloatArray
from training.evaluation import wilson_95
from training.studies.kept import write_json
from training.studies.report import markdown_table, new_figure, rate, save_figure, write_report
from training.studies.variant import Findings
from training.trial_map import draw_map, success_by_cell
from training.trials import GRASPED, Trial

TITLE = "Coordinates that are obeyed: ACT with a second cube in view"
COLOURS = ("tab:green", "tab:red", "tab:orange", "tab:purple", "tab:gray")
"""Of what was grasped, in the order of ``GRASPED``."""
REPRODUCE = """## Doing it again

    so101 study coordinates            # all of it; goes on where it was interrupted
    so101 study coordinates --quick    # minutes, to see that it runs

What is done is in `configs/experiments/confuser`; the figures are in the JSON file beside this report."""


@dataclass(frozen=True)
class Row:
    """One variant; lists are by seed of the training."""

    variant: str
    findings: list[Findings]
    confuser: list[list[Trial]]
    alone: list[list[Trial]]

    @property
    def with_confuser(self) -> list[Trial]:
        """Trials with the second cube, of all seeds."""
        return [trial for trials in self.confuser for trial in trials]

    @property
    def by_itself(self) -> list[Trial]:
        """Trials without it, of all seeds."""
        return [trial for trials in self.alone for trial in trials]

    @property
    def successes(self) -> int:
        """With the second cube."""
        return won(self.with_confuser)

    @property
    def share(self) -> float:
        """The same as a share."""
        return self.successes / max(1, len(self.with_confuser))

    @property
    def attention(self) -> float | None:
        """Share of the decoder's attention on the coordinate tokens, mean over layers and seeds."""
        shares = [np.mean(each.attention) for each in self.findings if each.attention is not None]
        return float(np.mean(shares)) if shares else None

    def mean(self, name: str) -> float:
        """Mean of one of the findings over the seeds; NaN where there is none."""
        values = [getattr(each, name) for each in self.findings]
        return float(np.mean([np.nan if value is None else value for value in values]))


@dataclass(frozen=True)
class Control:
    """Trials that ought to go otherwise."""

    variant: str
    kind: str
    trials: list[Trial]


def won(trials: Sequence[Trial]) -> int:
    """Successes."""
    return sum(trial.success for trial in trials)


def interval(trials: Sequence[Trial]) -> tuple[float, float]:
    """95 % Wilson interval of the success rate."""
    return wilson_95(won(trials), len(trials))


def write_coordinates_report(
    path: Path,
    rows: Sequence[Row],
    best: Row,
    controls: Sequence[Control],
    settings: dict[str, Any],
    *,
    shortened: bool,
) -> None:
    """Write the report, its pictures and its JSON.

    Args:
        path: the markdown file.
        rows: the first is the baseline.
        best: the one with most successes with the second cube.
        controls: of the best, and of the baseline told the other cube's coordinates.
        settings: the study's, for the JSON.
        shortened: whether the run was cut short on purpose.
    """
    plot, maps = path.with_name(f"{path.stem}.png"), path.with_name(f"{path.stem}_map.png")
    _plot(rows, plot)
    _maps(rows, maps)
    shown = json_of(rows, controls) | settings | {"shortened": shortened}
    write_json(path.with_suffix(".json"), shown)
    parts = [
        _about(rows, settings["study"]),
        _successes(rows),
        f"![Successes and first grasps]({plot.name})",
        "## What it shows\n\n" + "\n".join(f"- {line}" for line in findings_of(rows, best)),
        "## Controls\n\n" + _controls(rows, controls),
        "## Where on the table\n\nSeen from behind the arm, with the second cube. A cross is a failure, its "
        f"line ends where it grasped.\n\n![Map of the table]({maps.name})",
        "## Training, and attention to the coordinates\n\n" + _training(rows),
        REPRODUCE,
    ]
    write_report(path, TITLE, parts, shortened=shortened)


def json_of(rows: Sequence[Row], controls: Sequence[Control]) -> dict[str, Any]:
    """The figures behind the report."""
    return {
        "variants": {
            row.variant: {
                "findings": [asdict(each) for each in row.findings],
                "confuser": [_numbers(trials) for trials in row.confuser],
                "alone": [_numbers(trials) for trials in row.alone],
            }
            for row in rows
        },
        "controls": [{"variant": c.variant, "kind": c.kind} | _numbers(c.trials) for c in controls],
    }


def _numbers(trials: Sequence[Trial]) -> dict[str, Any]:
    x_m, y_m, shares = success_by_cell(trials)
    return {
        "trials": len(trials),
        "successes": won(trials),
        "wilson_95": list(interval(trials)),
        "grasped": dict(Counter(trial.grasped for trial in trials)),
        "grasped_in_failures": dict(Counter(trial.grasped for trial in trials if not trial.success)),
        "cells": {
            "x_m": np.round(x_m, 3).tolist(),
            "y_m": np.round(y_m, 3).tolist(),
            "success": [[None if np.isnan(v) else round(float(v), 3) for v in line] for line in shares],
        },
        "success": "".join("1" if trial.success else "0" for trial in trials),
        "first_grasp": "".join(trial.grasped[0] for trial in trials),
    }


def _about(rows: Sequence[Row], study: dict[str, Any]) -> str:
    trials, seeds = study["trials"], len(study["seeds"])
    execution = ", ".join(f"{key} {value}" for key, value in trials["execution"].items() if key != "m")
    several = "How trainings with other seeds differ is in the JSON."
    single = "One training each says nothing of how much trainings with other seeds would differ."
    return f"""Two cubes that look the same lie anywhere in the field of x 0.16 to 0.32 m, |y| <= 0.18 m,
apart from each other and from the bowl; coordinates say which one is meant. In this situation a published ACT
ended with a training loss of 0.056 and 0 % success, its arm halfway between the blocks. All variants learn
from the same {study["episode_count"]} episodes of the expert, all with the second cube in view, in
{study["steps"]:,} steps of {study["batch_size"]} samples, {seeds} training{"s" if seeds > 1 else ""} each,
and are tried on the same {trials["count"]} trials (seed {trials["seed"]}; {execution}). Each differs from the
baseline in one remedy; `shipped` is the shape of the shipped policy: several remedies, standardised pictures
and no VAE.

The baseline has what the published one has: the coordinates as one token of raw metres beside the image
tokens, and L1 plus 10 times the KL divergence of a VAE. It differs in this: a small convolutional backbone
at 96×128 pixels instead of a ResNet-18 at 480×640, so that two CPU cores can do the study; chunks of 40
instead of 100; and two cubes anywhere in the field instead of around two places. All learn from exact
coordinates. Intervals are of the trials (95 %, Wilson). {several if seeds > 1 else single}"""


def _successes(rows: Sequence[Row]) -> str:
    heads = ("variant", "with the second cube", "alone", *(f"failed: {place}" for place in GRASPED))
    cells = []
    for row in rows:
        failed = Counter(trial.grasped for trial in row.with_confuser if not trial.success)
        cells.append(
            (
                row.variant,
                rate(row.successes, len(row.with_confuser)),
                rate(won(row.by_itself), len(row.by_itself)),
                *(str(failed[place]) for place in GRASPED),
            )
        )
    return (
        markdown_table(heads, cells)
        + "\n\nOn the right, what failures with the second cube closed the jaws on at first: the cube that "
        "was meant, the other one, a place between them, elsewhere, or nothing at all."
    )


def _training(rows: Sequence[Row]) -> str:
    heads = (
        "variant", "parameters", "training L1", "validation L1",
        "attention", "of image tokens", "if even", "samples/s", "CPU min",
    )  # fmt: skip
    cells = [
        (
            row.variant,
            f"{row.findings[0].parameters:,}",
            f"{row.mean('training_l1'):.4f}",
            f"{row.mean('validation_l1'):.4f}",
            _percent(row.attention),
            _layers(row.findings[0].attention_images),
            _percent(row.findings[0].attention_even),
            f"{row.mean('samples_per_s'):.0f}",
            f"{row.mean('cpu_s') / 60:.1f}",
        )
        for row in rows
    ]
    return (
        markdown_table(heads, cells)
        + "\n\nL1 is of normalised actions. Attention: share of the decoder's queries' attention that goes "
        "to the coordinate tokens, then that of the encoder's image tokens, layer by layer, on frames that "
        "were held out, and what it would be if all tokens were alike. Samples per second and CPU minutes "
        "are of one thread, with other trainings beside it."
    )


def findings_of(rows: Sequence[Row], best: Row) -> list[str]:
    """What the figures say, in sentences."""
    base, others = rows[0], rows[1:]
    trials = base.with_confuser
    failed = Counter(trial.grasped for trial in trials if not trial.success)
    lines = [
        f"The baseline succeeds in {rate(base.successes, len(trials))} with the second cube and in "
        f"{rate(won(base.by_itself), len(base.by_itself))} alone. {_failures(failed)}",
        *_remedies(base, others),
        f"Best: {best.variant}, {rate(best.successes, len(best.with_confuser))} with the second cube, "
        f"{rate(won(best.by_itself), len(best.by_itself))} alone.",
    ]
    shares = [row.share for row in rows]
    losses = [row.mean("validation_l1") for row in rows]
    if len(rows) > 2 and np.isfinite(losses).all():
        lines.append(
            f"Rank correlation over the {len(rows)} variants between success and validation L1: "
            f"{rank_correlation(shares, losses):+.2f} (-1: a lower loss is always a better policy), "
            f"training L1: {rank_correlation(shares, [row.mean('training_l1') for row in rows]):+.2f}."
        )
    told = [(row, row.attention) for row in rows if row.attention is not None]
    if len(told) > 2:
        most = max(told, key=lambda pair: pair[1])
        lines.append(
            f"Attention to the coordinate tokens goes from {_percent(min(a for _, a in told))} to "
            f"{_percent(most[1])} ({most[0].variant}); its rank correlation with success is "
            f"{rank_correlation([row.share for row, _ in told], [a for _, a in told]):+.2f}."
        )
    dearest = max(rows, key=lambda row: row.mean("cpu_s"))
    times = dearest.mean("cpu_s") / max(1e-9, base.mean("cpu_s"))
    lines.append(f"Dearest to train: {dearest.variant}, {times:.1f} times the baseline.")
    return lines


def _failures(failed: Counter[Any]) -> str:
    total = sum(failed.values())
    if not total:
        return "It does not fail: the published failure is not seen here."
    wrong = failed["confuser"] + failed["between"]
    return (
        f"Of its {total} failures {failed['confuser']} went for the other cube and {failed['between']} "
        f"between the two ({100 * wrong / total:.0f} % that the coordinates should have prevented); "
        f"{failed['target']} were at the right cube and lost it."
    )


def _remedies(base: Row, others: Sequence[Row]) -> list[str]:
    """Which variants differ from the baseline by more than both intervals."""
    low, high = interval(base.with_confuser)
    better = [row.variant for row in others if interval(row.with_confuser)[0] > high]
    worse = [row.variant for row in others if interval(row.with_confuser)[1] < low]
    same = [row.variant for row in others if row.variant not in {*better, *worse}]
    said = {
        "Better than the baseline beyond both intervals": better,
        "Worse beyond both intervals": worse,
        "Not told apart from the baseline by so many trials": same,
    }
    return [f"{what}: {', '.join(names) or 'none'}." for what, names in said.items() if others]


def _controls(rows: Sequence[Row], controls: Sequence[Control]) -> str:
    seen = {row.variant: row for row in rows}
    heads = ("variant", "what is changed", "success", *(f"first grasp: {place}" for place in GRASPED))
    cells, lines = [], []
    for control in controls:
        before, after = seen[control.variant].confuser[0], control.trials
        for what, trials in (("nothing", before), (control.kind, after)):
            grasped = Counter(trial.grasped for trial in trials)
            cell = (control.variant, what, rate(won(trials), len(trials)))
            cells.append((*cell, *(str(grasped[place]) for place in GRASPED)))
        if "black" in control.kind:
            fewer = interval(after)[1] < interval(before)[0]
            lines.append(
                f"- {control.variant} with black cameras: {won(after)} of {len(after)}, not {won(before)}"
                + ("; it looks." if fewer else "; not told apart by so many trials.")
            )
        else:
            lines.append(
                f"- {control.variant}, the same {len(after)} tables, told once where the one cube lies and "
                "once where the other does: it goes for the told one both times on "
                f"{both_obeyed(before, after)}, for the same one both times on "
                f"{never_switched(before, after)}."
            )
    cells = list(dict.fromkeys(cells))
    meaning = "Told the other cube's coordinates, that cube is the target: success is it in the bowl."
    return "\n\n".join([markdown_table(heads, cells), meaning, "\n".join(lines)])


def both_obeyed(before: Sequence[Trial], after: Sequence[Trial]) -> int:
    """Tables on which the jaws first closed at the told cube, whichever it was."""
    pairs = zip(before, after, strict=True)
    return sum(one.grasped == "target" and other.grasped == "target" for one, other in pairs)


def never_switched(before: Sequence[Trial], after: Sequence[Trial]) -> int:
    """Tables on which they closed at the same cube whatever was told."""
    pairs = zip(before, after, strict=True)
    return sum({one.grasped, other.grasped} == {"target", "confuser"} for one, other in pairs)


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's coefficient; equal values share their rank. 0 where one of them does not vary."""
    ranks = [_ranks(np.asarray(values, np.float64)) for values in (one, other)]
    if min(float(np.ptp(each)) for each in ranks) == 0:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: FloatArray) -> FloatArray:
    below = (values[:, None] > values[None]).sum(1)
    equal = (values[:, None] == values[None]).sum(1)
    ranks: FloatArray = below + (equal + 1) / 2
    return ranks


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _layers(shares: Sequence[float] | None) -> str:
    return "–" if shares is None else ", ".join(_percent(share) for share in shares)


def _plot(rows: Sequence[Row], path: Path) -> None:
    figure = new_figure(9.0, 1.0 + 0.4 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(rows))[::-1]
    for offset, name, colour in ((0.2, "with_confuser", "tab:blue"), (-0.2, "by_itself", "tab:cyan")):
        groups = [getattr(row, name) for row in rows]
        shares = [100 * won(trials) / max(1, len(trials)) for trials in groups]
        ends = [[100 * end for end in interval(trials)] for trials in groups]
        spread = [[s - low for s, (low, _) in zip(shares, ends, strict=True)],
                  [high - s for s, (_, high) in zip(shares, ends, strict=True)]]  # fmt: skip
        label = "with the second cube" if offset > 0 else "alone"
        left.barh(places + offset, shares, 0.4, xerr=np.abs(spread), color=colour, label=label, capsize=2)
    left.set_yticks(places, [row.variant for row in rows])
    left.set_xlim(0, 100)
    left.set_xlabel("success, %")
    left.legend(fontsize="small", loc="lower left")
    begin = np.zeros(len(rows))
    for place, colour in zip(GRASPED, COLOURS, strict=True):
        share = [100 * np.mean([trial.grasped == place for trial in row.with_confuser]) for row in rows]
        right.barh(places, share, 0.7, left=begin, color=colour, label=place)
        begin += share
    right.set_xlabel("first grasp with the second cube, %")
    right.legend(fontsize="small", ncols=5, loc="upper center", bbox_to_anchor=(0.5, 1.12))
    save_figure(figure, path)


def _maps(rows: Sequence[Row], path: Path) -> None:
    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    figure = new_figure(3.6 * columns, 2.4 * lines)
    grid = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    for axes, row in zip(grid, rows, strict=False):
        draw_map(axes, row.with_confuser, row.variant)
        axes.set_xlabel("")
        axes.set_ylabel("")
    for axes in grid[len(rows) :]:
        axes.remove()
    save_figure(figure, path)
