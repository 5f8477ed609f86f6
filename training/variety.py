"""What differs from trial to trial, and where the randomness of each trial comes from."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from robot.config import StrictModel
from robot.twin.looks import Look, draw_look
from robot.twin.tasks import Layout, PickPlace

PURPOSES = ("confuser", "look", "stiffness", "start", "coordinates")


def episode_rng(seed: int, number: int, purpose: str | None = None) -> np.random.Generator:
    """Randomness of one episode: a function of seed and number alone.

    Args:
        seed: of the set.
        number: of the episode.
        purpose: one of ``PURPOSES``: a stream of its own, so that what is drawn for one thing does not
            depend on whether another is drawn.
    """
    return np.random.default_rng(
        [seed, number] if purpose is None else [seed, number, 1 + PURPOSES.index(purpose)]
    )


class Variety(StrictModel):
    """How different the trials of one set are from each other, beyond where the cube lies."""

    confuser_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the trials with a second cube that looks the same."""
    look_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the trials in a look of their own, see robot.twin.looks."""
    unseen_looks: bool = False
    """Whether those looks are such as are kept for tests."""
    stiffness_spread: float = Field(default=0.0, ge=0, le=0.5)
    """The servos' stiffness is drawn evenly from 1 - spread to 1 + spread times what it is."""

    def confuse(self, task: PickPlace, layout: Layout, seed: int, number: int) -> Layout:
        """The layout of a trial, with a confuser where there is to be one."""
        rng = episode_rng(seed, number, "confuser")
        if layout.confuser is not None or rng.random() >= self.confuser_share:
            return layout
        return task.with_confuser(layout, rng)

    def look(self, seed: int, number: int) -> Look:
        """How the trial of a number looks."""
        rng = episode_rng(seed, number, "look")
        return draw_look(rng, unseen=self.unseen_looks) if rng.random() < self.look_share else Look()

    def stiffness(self, seed: int, number: int) -> float:
        """Factor on the servos' stiffness in the trial of a number."""
        rng = episode_rng(seed, number, "stiffness")
        return 1.0 + self.stiffness_spread * float(rng.uniform(-1.0, 1.0))
