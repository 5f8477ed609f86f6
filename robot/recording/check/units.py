"""What units the joints of an episode are in, told from the values alone.

A servo has 4096 steps a turn, so what was read of it lies on a grid: 0.0879 degrees apart where values are
degrees, 200 / (range_max - range_min) apart where they were normalised to -100..100 of the swept range, which
is another grid for every joint. That is proof. Values that were interpolated between readings are off it
except where a joint stood still, and values that were computed have no grid: for these the ends of the range
are looked at, which is a hint.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from robot.joints import ARM_JOINTS, GRIPPER
from robot.recording.check.findings import Report, several
from robot.recording.check.survey import Columns, Survey
from robot.recording.features import ACTION, STATE
from robot.seams import FloatArray

Kind = Literal["degrees", "m100_100", "radians", "ticks", "scaled"]

DEGREE_GRIDS = (360.0 / 4096.0, 360.0 / 4095.0)
"""Degrees a tick: as a turn has them, and as LeRobot divides (its resolution minus one)."""
SWEPT_TICKS = (600.0, 4096.0)
"""Ranges that a joint of an SO-101 can have been swept through; measured ones are 1900 to 4095."""
LEAST_VALUES = 15
"""Different values that a joint must have shown before a grid is looked for."""
ON_GRID = 0.06
"""Mean distance from the grid in steps; values that have none are 0.25 from any."""
RADIANS_AT_MOST = 3.2
"""No joint turns farther than half a turn from its middle, in radians."""


WORDS: dict[Kind, str] = {
    "degrees": "degrees",
    "m100_100": "-100..100 of the swept range",
    "radians": "radians",
    "ticks": "raw servo ticks",
    "scaled": "degrees times some factor",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the values of an episode look like, and why."""

    kind: Kind
    why: str


def judge(columns: Columns) -> Verdict | None:
    """What units an episode's arm joints look like; ``None`` where nothing tells."""
    state = columns[STATE][:, :GRIPPER].astype(np.float64)
    action = columns[ACTION][:, :GRIPPER].astype(np.float64)
    both = np.concatenate([state, action])
    if np.abs(both).max() > 400 and np.array_equal(state, np.round(state)):
        return Verdict("ticks", "they are whole numbers beyond 400")
    grids = [_grid(state[:, joint]) for joint in range(GRIPPER)]
    degrees = sum(grid == "degrees" for grid in grids)
    swept = {ARM_JOINTS[j]: grid for j, grid in enumerate(grids) if isinstance(grid, float)}
    if degrees >= 2 and degrees > len(swept):
        return Verdict("degrees", f"{degrees} joints move in steps of 0.0879, a servo's step in degrees")
    if len(swept) >= 2 and len(swept) > degrees and _one(swept.values()):
        # One grid for all joints is no swept range. Rounding makes such a grid too, of a decimal step.
        step = min(swept.values())
        rounded = abs(step - float(f"{step:.1g}")) < 1e-4 * step
        return None if rounded else Verdict("scaled", f"all joints move in steps of {step:.4f}")
    if len(swept) >= 2 and len(swept) > degrees:
        steps = several(
            f"{name} moves in steps of {step:.4f} (200 / {200 / step:.0f} servo steps)"
            for name, step in swept.items()
        )
        return Verdict("m100_100", f"{steps}, not in the 0.0879 of degrees{_pinned(both)}")
    if both.size and np.abs(both).max() <= RADIANS_AT_MOST and np.ptp(both, axis=0).max() > 0.35:
        # Twenty degrees of motion in radians; in degrees an arm within 3 of its middle that moves is rare,
        # so this is only believed beside other episodes or the dataset's own word.
        return Verdict("radians", f"no joint leaves {np.abs(both).max():.2f}")
    pinned = _pinned(both)
    if pinned and np.abs(both).max() <= 100.0 + 1e-4:
        return Verdict("m100_100", f"no joint leaves -100..100{pinned}")
    return None


def check_units(seen: Survey, verdicts: dict[int, Verdict | None], report: Report) -> None:
    """Compare what episodes look like with what the dataset says, and with each other."""
    known = {episode: verdict for episode, verdict in verdicts.items() if verdict is not None}
    said = seen.units
    # A dataset of small motions near the middle looks like radians all over, one whose values were computed
    # on a grid of their own looks scaled: that alone says nothing, only beside others it does.
    kinds = {verdict.kind for verdict in known.values()}
    if kinds <= {"scaled"} or (kinds == {"radians"} and len(known) == len(verdicts) and said is None):
        known = {}
    if not known:
        if said is None:
            report.note("units_not_said", "the dataset does not say its units, and its values do not tell")
        return
    usual: Kind = Counter(verdict.kind for verdict in known.values()).most_common(1)[0][0]
    others = {episode: verdict for episode, verdict in known.items() if verdict.kind != usual}
    for episode, verdict in others.items():
        message = (
            f"the joints look like {WORDS[verdict.kind]} ({verdict.why}), those of others like {WORDS[usual]}"
        )
        remedy = f"leave the episode out: `so101 dataset delete --episodes {episode}`"
        report.find("units_mixed", message, remedy, episode=episode)
    why = next(verdict.why for verdict in known.values() if verdict.kind == usual)
    if said is None and usual == "degrees":
        report.note("units_not_said", f"the dataset does not say its units; they look like degrees: {why}")
    elif said is None:
        message = f"the dataset does not say its units; the joints look like {WORDS[usual]}: {why}"
        message += ". LeRobot before 0.4.4 recorded so" if usual == "m100_100" else ""
        remedy = "convert the joints to degrees before anything is learned from them"
        if usual == "m100_100" and seen.bare:
            remedy = f"if it is so, say `--units {usual}` to `so101 replay` and `so101 dataset view`"
        elif usual == "m100_100":
            remedy = (
                f"if it is so, `so101 dataset convert {seen.root} NEW --units {usual}` makes a copy that "
                "says so, and with `--to-degrees --calibration FILE` one in degrees"
            )
        report.find("units_look_like", message, remedy, severity="warning")
    elif said != usual:
        message = f"the dataset says {said}, the joints look like {WORDS[usual]}: {why}"
        remedy = 'correct "so101": {"units"} in meta/info.json, or restore the right data'
        report.find("units_wrong", message, remedy)


def _grid(values: FloatArray) -> Literal["degrees"] | float | None:
    """The grid that readings of one joint lie on: degrees, another (its step), or none."""
    for tried in (values, values[1:][values[1:] == values[:-1]]):
        levels = np.unique(tried)
        if len(levels) < LEAST_VALUES or np.ptp(levels) < 2.0:
            continue
        if any(_distance(levels, step) < ON_GRID for step in DEGREE_GRIDS):
            return "degrees"
        step = _own_step(levels)
        if step is not None and SWEPT_TICKS[0] <= 200.0 / step <= SWEPT_TICKS[1]:
            return step
    return None


def _one(steps: Iterable[float]) -> bool:
    """Whether steps are one and the same."""
    known = list(steps)
    return max(known) < 1.002 * min(known)


def _distance(levels: FloatArray, step: float) -> float:
    """Mean distance of values from a grid through the first of them, in steps; 0.25 where there is none."""
    places = (levels - levels[0]) / step
    # The grid's origin is any of its points, best the one that most values agree on.
    offset = np.angle(np.exp(2j * np.pi * places).mean()) / (2 * np.pi)
    rest = places - offset
    return float(np.abs(rest - np.round(rest)).mean())


def _own_step(levels: FloatArray) -> float | None:
    """The step of the grid that values lie on, from the least distance between two of them."""
    step = float(np.diff(levels).min())
    if step < 1e-3:
        return None
    reach = 8.0 * step
    # A longer stretch at a time, so that the step is known well enough to count the next.
    while True:
        near = levels[levels <= levels[0] + reach] - levels[0]
        counts = np.round(near / step)
        if counts.any():
            step = float(near @ counts / (counts @ counts))
        if reach > np.ptp(levels):
            break
        reach *= 2.0
    return step if _distance(levels, step) < ON_GRID else None


def _pinned(values: FloatArray) -> str:
    """In words: joints that stand at exactly 100 or -100, where normalised values are cut off."""
    at_end = (np.abs(np.abs(values) - 100.0) < 1e-4).sum(axis=0)
    names = [f"{ARM_JOINTS[j]} in {int(at_end[j])}" for j in range(GRIPPER) if at_end[j] >= 2]
    return f"; exactly at the end of 100: {several(names)} values" if names else ""
