"""The planned way to the ready and park poses: over the table, and round the arm's own links."""

from __future__ import annotations

import itertools
import math

import numpy as np

from robot.joints import JOINTS, N_JOINTS
from robot.safety.clearance import Clearance
from robot.seams import FloatArray

COMFORT_M = (0.028, 0.003, 0.0)
"""Clearances of table, links and box that a way keeps, unless one of its ends has less."""
BUDGET = 600
"""Poses that planning may look at; most ways need a tenth of it."""
_SAMPLE = 3.0
"""User units of the fastest joint between two poses of a way that are looked at."""
_REACH = 24.0
"""User units of the fastest joint by which a tree grows at a time."""
_TOWARDS_GOAL = 0.2
"""Share of the growth that aims at the other tree's root instead of anywhere."""
_SHORTCUTS = 20
_SEED = 101
_TOLERANCE_M = 1e-4
_FOLD = [JOINTS.index(name) for name in ("shoulder_lift", "elbow_flex", "wrist_flex")]
_VIAS = ((-60.0, 30.0, 30.0), (-95.0, 20.0, 90.0), (-30.0, -60.0, 0.0), (-80.0, -30.0, 30.0))
"""Folds (shoulder_lift, elbow_flex, wrist_flex) with the hand high up, clear of everything at any pan."""

_Tree = list[tuple[FloatArray, int]]
"""Poses, each with the place of its parent in the list; the root is its own."""


class _BudgetError(Exception):
    """Planning has looked at as many poses as it may."""


def safe_way(
    start: FloatArray, goal: FloatArray, clearance: Clearance, low: FloatArray, high: FloatArray
) -> list[FloatArray]:
    """Waypoints from a pose to another, straight in joint space between them, with ``COMFORT_M`` of room.

    Where an end has less room than that, the way has no less than that end. Tried in this order: the straight
    way; ways through a fold in which the hand is high; a search by two trees that grow towards each other
    (RRT-Connect) with always the same random numbers, so that the same question gets the same answer. It
    looks at no more than ``BUDGET`` poses. Where it finds nothing, the straight way is the answer, and the
    gate stops the arm where that leads into something.

    Args:
        start: present pose, user units.
        goal: wanted pose, user units.
        clearance: room that a pose leaves.
        low: joint limits.
        high: joint limits.
    """
    planner = Planner(start, goal, clearance, low, high)
    way = planner.way() or [start, goal]
    return [way[0], *(pose for before, pose in itertools.pairwise(way) if not np.array_equal(before, pose))]


class Planner:
    """One question to :func:`safe_way`, and what is left of its budget."""

    def __init__(
        self, start: FloatArray, goal: FloatArray, clearance: Clearance, low: FloatArray, high: FloatArray
    ) -> None:
        self._start, self._goal, self._clearance = start, goal, clearance
        self._low, self._high = low, high
        self._random = np.random.default_rng(_SEED)
        ends = zip(clearance(start), clearance(goal), COMFORT_M, strict=True)
        self._floor_m = [min(values) - _TOLERANCE_M for values in ends]
        self.looks = 0
        """Poses looked at so far."""

    def way(self) -> list[FloatArray] | None:
        """The waypoints; ``None`` if none were found within the budget."""
        try:
            return self._simple() or self._searched()
        except _BudgetError:
            return None

    def _clear(self, pose: FloatArray) -> bool:
        if self.looks >= BUDGET:
            raise _BudgetError
        self.looks += 1
        return all(room >= floor for room, floor in zip(self._clearance(pose), self._floor_m, strict=True))

    def _free(self, start: FloatArray, end: FloatArray) -> bool:
        """Whether the straight way is clear, but for its first pose, which was asked about before."""
        steps = math.ceil(float(np.abs(end - start).max()) / _SAMPLE)
        return all(self._clear(start + (end - start) * (k / steps)) for k in _spread(steps))

    # -- through a fold --------------------------------------------------------------------------------

    def _simple(self) -> list[FloatArray] | None:
        if self._free(self._start, self._goal):
            return [self._start, self._goal]
        for fold in _VIAS:
            via = [self._folded(self._start, fold), self._folded(self._goal, fold)]
            way = [self._start, *via, self._goal]
            if all(self._free(a, b) for a, b in itertools.pairwise(way)):
                return way
        return None

    def _folded(self, pose: FloatArray, fold: tuple[float, float, float]) -> FloatArray:
        folded = pose.copy()
        folded[_FOLD] = fold
        clipped: FloatArray = np.clip(folded, self._low, self._high)
        return clipped

    # -- by two trees ----------------------------------------------------------------------------------

    def _searched(self) -> list[FloatArray]:
        """Goes on until the trees meet or the budget is spent."""
        near: _Tree = [(self._start, 0)]
        far: _Tree = [(self._goal, 0)]
        forward = True
        while True:
            aim = far[0][0]
            if self._random.random() > _TOWARDS_GOAL:
                aim = self._low + self._random.random(N_JOINTS) * (self._high - self._low)
            added = self._grow(near, aim)
            if added is not None:
                met = near[added][0]
                while (step := self._grow(far, met)) is not None:
                    if np.array_equal(far[step][0], met):
                        there, back = _branch(near, added), _branch(far, step)
                        way = [*there[::-1], *back[1:]] if forward else [*back[::-1], *there[1:]]
                        return self._shortened(way)
            near, far, forward = far, near, not forward

    def _grow(self, tree: _Tree, aim: FloatArray) -> int | None:
        """Add a pose between the nearest one and ``aim``, unless that is ``aim`` itself.

        Returns:
            Its place in the tree; ``None`` where the way is blocked.
        """
        poses = np.array([pose for pose, _ in tree])
        nearest = int(np.square(poses - aim).sum(axis=1).argmin())
        start, way = poses[nearest], aim - poses[nearest]
        length = float(np.abs(way).max())
        if length == 0.0:
            return nearest
        end = aim if length <= _REACH else start + way * (_REACH / length)
        if not self._free(start, end):
            return None
        tree.append((end, nearest))
        return len(tree) - 1

    def _shortened(self, way: list[FloatArray]) -> list[FloatArray]:
        """Fewer waypoints, as long as the budget lasts."""
        try:
            for _ in range(_SHORTCUTS):
                if len(way) <= 2:
                    break
                first, last = sorted(self._random.choice(len(way), 2, replace=False).tolist())
                if last - first > 1 and self._free(way[first], way[last]):
                    way = [*way[: first + 1], *way[last:]]
        except _BudgetError:
            pass
        return way


def _branch(tree: _Tree, leaf: int) -> list[FloatArray]:
    """Poses from a leaf to the root."""
    poses = [tree[leaf][0]]
    while leaf != 0:
        leaf = tree[leaf][1]
        poses.append(tree[leaf][0])
    return poses


def _spread(count: int) -> list[int]:
    """The numbers 1..count, coarse first: what is blocked is found early."""
    stride = 8
    coarse = list(range(count, 0, -stride))
    return coarse + sorted(set(range(1, count + 1)) - set(coarse))
