"""Tasks on the twin: where things start, and when the world says they are done."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class CubePlace:
    """Where a cube lies on the table."""

    x_m: float
    y_m: float
    yaw_rad: float


@dataclass(frozen=True, slots=True)
class PickPlace:
    """Pick a cube up somewhere on the table and put it into the bowl.

    The field is the rectangle of the project's own success figures: x 0.18..0.30 m, |y| <= 0.15 m.
    """

    name: str = "pick_place"
    min_x_m: float = 0.18
    max_x_m: float = 0.30
    max_y_m: float = 0.15
    time_limit_s: float = 12.0

    def sample(self, rng: np.random.Generator) -> CubePlace:
        """A place drawn evenly from the field, any yaw."""
        return CubePlace(
            x_m=float(rng.uniform(self.min_x_m, self.max_x_m)),
            y_m=float(rng.uniform(-self.max_y_m, self.max_y_m)),
            yaw_rad=float(rng.uniform(-math.pi, math.pi)),
        )


TASKS: dict[str, PickPlace] = {"pick_place": PickPlace()}
"""Every task by name."""
