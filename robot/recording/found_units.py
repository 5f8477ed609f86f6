"""In what units a dataset's joints are: what it says, or what its values prove."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from robot.errors import DatasetError
from robot.joints import N_JOINTS
from robot.recording.check.units import judge
from robot.recording.creation import Units
from robot.recording.features import ACTION, STATE
from robot.recording.reader import Dataset
from robot.recording.replay import UNITS

EPISODES_LOOKED_AT = 10


@dataclass(frozen=True)
class FoundUnits:
    """Units, and how they are known."""

    units: Units
    why: str


def units_found(dataset: Dataset) -> FoundUnits | None:
    """The units of a dataset; ``None`` where it does not say and its values do not tell.

    LeRobot's datasets never say. What a servo was read as lies on a grid, by which degrees and -100..100 of
    the swept range are told apart; values that were computed have none.

    Raises:
        DatasetError: its values are in something else.
    """
    for known in UNITS:
        if dataset.units == known:
            return FoundUnits(known, f"{dataset.root} says that it is in {known}")
    chosen = np.unique(np.linspace(0, len(dataset.episodes) - 1, EPISODES_LOOKED_AT).astype(int))
    episodes = [dataset.load(int(number)) for number in chosen]
    vectors = [columns.get(name, np.empty(0)) for columns in episodes for name in (STATE, ACTION)]
    if any(vector.shape[1:] != (N_JOINTS,) or not np.isfinite(vector).all() for vector in vectors):
        return None
    verdicts = [judge(columns) for columns in episodes]
    # Small motions look like radians, computed values like degrees times a factor: neither proves anything.
    believed = [v for v in verdicts if v is not None and v.kind not in ("radians", "scaled")]
    if not believed:
        return None
    usual = Counter(verdict.kind for verdict in believed).most_common(1)[0][0]
    why = next(verdict.why for verdict in believed if verdict.kind == usual)
    for known in UNITS:
        if usual == known:
            return FoundUnits(known, f"{dataset.root} looks like {known} ({why})")
    raise DatasetError(f"{dataset.root} looks like {usual} ({why}), not {' or '.join(UNITS)}")
