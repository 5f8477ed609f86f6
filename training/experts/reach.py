"""The expert of ``reach``: straight over the disc, in the plane in which it begins."""

from __future__ import annotations

import numpy as np

from robot.seams import FloatArray
from robot.twin.world import World
from training.experts.tool import GAIN_PER_S, SPEED_MPS, limited


class ReachExpert:
    """Leads the tool in one world.

    Args:
        world: the twin, with the disc placed.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def velocity_mps(self) -> FloatArray:
        """See ToolExpert; without a disc the tool stays where it is."""
        disc = self._world.props.disc_xy_m
        if disc is None:
            return np.zeros(3)
        left_m = np.append(disc - self._world.tool_m[:2], 0.0)
        return limited(GAIN_PER_S * left_m, SPEED_MPS)
