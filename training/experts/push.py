"""The expert of ``push``: round the cube through the air, down behind it, and straight for the disc.

A finger that pushes a cube off its middle turns it, and loses it in the end. The expert then goes up, round
and down again, as often as it takes. Which of these it does follows from where fingertips, cube and disc are.
"""

from __future__ import annotations

import numpy as np

from robot.seams import FloatArray
from robot.twin.world import World
from training.experts.tool import GAIN_PER_S, SPEED_MPS, limited

HIGH_M = 0.075
"""Height of the fingertips on the way round."""
CLEAR_M = 0.060
"""Below this they do not travel: the cube is 28 mm high, and the jaws hang lower than their tips."""
LOW_M = 0.022
"""Height at which they push; the arm's weight takes some of it."""
DOWN_M = 0.034
"""Below this they are behind the cube, not above it."""
BEHIND_M = 0.044
"""From the middle of the cube to where the fingertips come down: half its diagonal, a finger, some room."""
AIMED_M, STRAY_M = 0.006, 0.012
"""Off the place behind the cube: near enough to go down, and too far to go on."""
BESIDE_M = 0.010
"""Fingertips that are not so far behind the cube's middle are beside it."""
ARRIVED_M = 0.008
"""The cube's middle is so near to the disc's: done."""
STEERING_PER_S = 6.0
"""Sideways speed per distance off the line through cube and disc."""
SLOWEST_MPS = 0.02


class PushExpert:
    """Leads the closed jaws in one world.

    Args:
        world: the twin, with cube and disc placed.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def velocity_mps(self) -> FloatArray:
        """See ToolExpert; without a disc the tool stays where it is."""
        disc = self._world.props.disc_xy_m
        if disc is None:
            return np.zeros(3)
        return limited(self._wish(disc), SPEED_MPS)

    def _wish(self, disc: FloatArray) -> FloatArray:
        cube, tips = self._world.cube_xyz_m[:2], self._world.fingertips_m
        height_m = float(tips[2])
        way = disc - cube
        left_m = float(np.linalg.norm(way))
        if left_m < ARRIVED_M:
            return _vertical(HIGH_M - height_m)
        ahead = way / left_m
        aside = np.array([-ahead[1], ahead[0]])
        from_cube = tips[:2] - cube
        along_m, aside_m = float(from_cube @ ahead), float(from_cube @ aside)
        if height_m < DOWN_M and abs(aside_m) < STRAY_M and -BEHIND_M - STRAY_M < along_m < -BESIDE_M:
            speed = min(SPEED_MPS, GAIN_PER_S * left_m + SLOWEST_MPS)
            level = speed * ahead - STEERING_PER_S * aside_m * aside
            return np.append(level, GAIN_PER_S * (LOW_M - height_m))
        off = cube - BEHIND_M * ahead - tips[:2]
        off_m = float(np.linalg.norm(off))
        if off_m < (AIMED_M if height_m > CLEAR_M else STRAY_M):
            return np.append(GAIN_PER_S * off, min(GAIN_PER_S * (LOW_M - height_m), -SLOWEST_MPS))
        if height_m < CLEAR_M:
            return _vertical(HIGH_M - height_m)
        return np.append(GAIN_PER_S * off, GAIN_PER_S * (HIGH_M - height_m))


def _vertical(distance_m: float) -> FloatArray:
    return np.array([0.0, 0.0, GAIN_PER_S * distance_m])
