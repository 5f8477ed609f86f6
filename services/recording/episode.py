"""One episode from its first row to its label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from robot.recording.align import Row
from robot.recording.scratch import Label
from robot.recording.take import Take
from robot.telemetry import person_drives
from services.recording.dataset import INTERVENTION, LOSS_MASK, STATE_AGE, TIME, age_column
from services.recording.options import PickupPoint


@dataclass(frozen=True, slots=True)
class About:
    """What an episode is about."""

    task: str
    pickup: PickupPoint | None


@dataclass(slots=True)
class Episode:
    """Rows on their way into a take.

    It is *recording* until it is told to end, and *ending* until the rows up to then have come.
    """

    number: int
    about: About
    take: Take
    start_s: float
    """Time of the first row."""
    corrections: bool
    label: Label | None = None
    reason: str = ""
    """Why it ended, where nobody asked for it."""
    ending: bool = False
    last_s: float | None = None
    """Time of the newest row."""
    run_id: int = 0
    repeated: Counter[str] = field(default_factory=Counter)
    """Camera -> rows with the same picture as the row before."""

    @property
    def recording(self) -> bool:
        """Whether it goes on."""
        return not self.ending

    @property
    def seconds(self) -> float:
        """Time from the first row to the newest."""
        return 0.0 if self.last_s is None else self.last_s - self.start_s

    def add(self, row: Row) -> None:
        """Add the next row. Raises DatasetError as ``Take.add``; the episode is then as it was."""
        point = self.about.pickup
        where = None if point is None else np.array([point.x_m, point.y_m])
        self.take.add(row.state, row.goal, row.images, where, self._columns(row))
        self.repeated.update(row.repeated)
        self.last_s = row.time_s

    def summary(self) -> dict[str, Any]:
        """For the status."""
        return {
            "episode": self.number,
            "frames": self.take.length,
            "seconds": round(self.seconds, 2),
            "label": self.label,
            "reason": self.reason or None,
            "repeated": dict(self.repeated),
        }

    def _columns(self, row: Row) -> Mapping[str, ArrayLike]:
        corrected = self.corrections and person_drives(row.tick)
        return {
            LOSS_MASK: np.float32(corrected or not self.corrections),
            INTERVENTION: np.int64(corrected),
            TIME: row.time_s - self.start_s,
            STATE_AGE: row.state_age_s,
            **{age_column(camera): age_s for camera, age_s in row.ages_s.items()},
        }
