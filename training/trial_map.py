"""Where on the table trials succeed and where they fail, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from robot.seams import FloatArray
from robot.twin.tasks import BOWL_XY_M, PickPlace
from training.trials import Trial

CELL_M = 0.04
BOWL_RADIUS_M = 0.06


def success_by_cell(
    trials: Sequence[Trial], cell_m: float = CELL_M
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share of successes by where the trials were to grasp.

    Args:
        trials: at least one.
        cell_m: side of a cell.

    Returns:
        Edges of the cells in x (n + 1,) and in y (m + 1,), metres, and shares (n, m), NaN where nothing was
        tried. They cover the field of ``pick_place`` and whatever lies outside of it.
    """
    field = PickPlace()
    x_m, y_m = np.array([trial.x_m for trial in trials]), np.array([trial.y_m for trial in trials])
    x_edges = _edges(min(field.min_x_m, x_m.min()), max(field.max_x_m, x_m.max()), cell_m)
    widest_m = max(field.max_y_m, np.abs(y_m).max())
    y_edges = _edges(-widest_m, widest_m, cell_m)
    won = np.array([trial.success for trial in trials], dtype=np.float64)
    tried = np.histogram2d(x_m, y_m, (x_edges, y_edges))[0]
    wins = np.histogram2d(x_m, y_m, (x_edges, y_edges), weights=won)[0]
    return x_edges, y_edges, np.divide(wins, tried, out=np.full_like(wins, np.nan), where=tried > 0)


def _edges(low_m: float, high_m: float, cell_m: float) -> FloatArray:
    cells = int(np.ceil((high_m - low_m) / cell_m - 1e-9))
    return np.linspace(low_m, low_m + cells * cell_m, cells + 1)


def draw_map(axes: Axes, trials: Sequence[Trial], title: str) -> QuadMesh:
    """Draw the table as it is seen from behind the arm: +x up, +y to the left.

    Cells are coloured by their share of successes; a failure is a cross with a line to where it grasped.
    """
    x_edges, y_edges, shares = success_by_cell(trials)
    mesh = axes.pcolormesh(y_edges, x_edges, shares, cmap="RdYlGn", vmin=0.0, vmax=1.0)
    for trial in trials:
        if trial.success:
            continue
        axes.plot(trial.y_m, trial.x_m, "kx", markersize=4)
        if trial.grasp_x_m is not None and trial.grasp_y_m is not None:
            axes.plot([trial.y_m, trial.grasp_y_m], [trial.x_m, trial.grasp_x_m], "k-", linewidth=0.5)
    axes.add_patch(Circle((BOWL_XY_M[1], BOWL_XY_M[0]), BOWL_RADIUS_M, fill=False, linestyle="--"))
    axes.set_xlim(y_edges[-1] + 0.02, min(y_edges[0], BOWL_XY_M[1] - BOWL_RADIUS_M) - 0.02)
    axes.set_ylim(min(x_edges[0], BOWL_XY_M[0] - BOWL_RADIUS_M) - 0.02, x_edges[-1] + 0.02)
    axes.set_aspect("equal")
    axes.set_xlabel("y, m")
    axes.set_ylabel("x, m")
    successes = sum(trial.success for trial in trials)
    axes.set_title(f"{title}: {successes}/{len(trials)}")
    return mesh


def plot_trials(path: Path, trials: Sequence[Trial], title: str) -> None:
    """Write the map of some trials as a picture; its kind is that of the file's name."""
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    figure.colorbar(draw_map(axes, trials, title), ax=axes, label="share of successes")
    figure.savefig(path, dpi=150)
