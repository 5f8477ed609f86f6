"""What a policy that looks back is shown: its last observations, as far apart as its steps."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from robot.seams import Observation


class ObservationHistory:
    """The last observations of one run.

    Args:
        steps: observations that the policy sees at once; with one they pass through as they are.
        spacing_ticks: control ticks from one to the next.

    Attributes:
        steps: the same.
    """

    def __init__(self, steps: int, spacing_ticks: float) -> None:
        self.steps, self._spacing = steps, spacing_ticks
        self._kept: deque[Observation] = deque()

    @classmethod
    def at_rate(cls, steps: int, fps: float, control_hz: float) -> ObservationHistory:
        """One whose observations are ``1 / fps`` apart."""
        return cls(steps, control_hz / fps)

    def forget(self) -> None:
        """Begin anew: a run begins, or somebody else has driven."""
        self._kept.clear()

    def add(self, observation: Observation) -> Observation:
        """Take the newest observation, and give what the policy sees with it.

        Of each step it is the one whose tick comes nearest. Before the first there was nothing to see: it
        is repeated.

        Returns:
            The observation with pictures (S, H, W, 3) and state (S, 6), oldest first; as it is with one step.
        """
        if self.steps == 1:
            return observation
        self._kept.append(observation)
        wanted = [observation.tick - k * self._spacing for k in range(self.steps - 1, -1, -1)]
        while len(self._kept) > 1 and self._kept[1].tick <= wanted[0]:
            self._kept.popleft()
        seen = [self._nearest(at) for at in wanted]
        return replace(
            observation,
            state=np.stack([one.state for one in seen]),
            images={name: np.stack([one.images[name] for one in seen]) for name in observation.images},
        )

    def _nearest(self, tick: float) -> Observation:
        """The observation that was made nearest to a tick, the older of two."""
        return min(self._kept, key=lambda one: abs(one.tick - tick))
