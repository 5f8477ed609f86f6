"""How much room a pose leaves: over the table, between the arm's own links, and in the allowed box.

The shapes are those of ``robot/model/so101.xml``. Nothing in that model is declared to collide but the parts
that grasp, so distances are asked for here, pair by pair.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import mujoco
import numpy as np

from robot.config import GateConfig
from robot.errors import ConfigError
from robot.kinematics import user_to_rad
from robot.seams import FloatArray

FINGERS = frozenset(
    {"fixed_shell", "jaw_shell", "fixed_edge"}
    | {f"{jaw}_tip{side}" for jaw in ("fixed", "jaw") for side in ("", "_left", "_right")}
    | {f"fixed_pad_{i}" for i in (1, 2, 3, 4)}
    | {f"jaw_pad_{i}" for i in (1, 2, 3)}
)
"""Shapes that come within millimetres of the table in every grasp."""
SEEN_M = 0.05
"""Distances between links are told up to here; what is farther apart counts as this."""
_LEVEL_BODIES = frozenset({"world", "base", "shoulder"})
"""Bodies whose height no joint changes: the pan axis is vertical."""
_APART = 2
"""Joints between two bodies whose distance is watched: those that one joint connects touch always."""


class Clearances(NamedTuple):
    """Room that a pose leaves, less the margins: a pose is legal where none is negative. Metres."""

    table_m: float = math.inf
    """Of the lowest point of the moving links over the table."""
    self_m: float = math.inf
    """Between the two links of the arm that are nearest to each other, at most ``SEEN_M`` less the margin."""
    box_m: float = math.inf
    """Of the tool point to the nearest face of the allowed box."""


Clearance = Callable[[FloatArray], Clearances]
"""What a pose in user units leaves of room."""


def unlimited(_pose: FloatArray) -> Clearances:
    """Where there is nothing to meet."""
    return Clearances()


class ArmClearance:
    """Clearances of one arm model; has scratch space, so not for use from two threads at once.

    Args:
        model: the bare arm on its base frame (``robot.model.load_arm``), of boxes, spheres and capsules.
        config: the margins and the box.

    Raises:
        ConfigError: a moving link has a shape of another kind.
    """

    def __init__(self, model: mujoco.MjModel, config: GateConfig) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        self._grasp = int(model.site("grasp").id)
        self._self_margin_m = config.self_margin_m
        self._box = config.tool_box
        moving = [g for g in range(model.ngeom) if _body_of(model, g) not in _LEVEL_BODIES]
        self._moving = np.array(moving)
        shapes = np.array([_half_and_radius(model, g) for g in moving])
        self._half_m, radius_m = shapes[:, :3].copy(), shapes[:, 3]
        fingers = np.array([model.geom(g).name in FINGERS for g in moving])
        self._below_m = radius_m + np.where(fingers, config.table_margin_m, config.link_margin_m)
        pairs = np.array(
            [pair for pair in itertools.combinations(range(model.ngeom), 2) if _can_meet(model, *pair)]
        )
        self._first, self._second = pairs[:, 0].copy(), pairs[:, 1].copy()
        self._pairs: list[tuple[int, int]] = [(int(a), int(b)) for a, b in pairs]
        self._reach_m = model.geom_rbound[pairs].sum(axis=1)

    def __call__(self, user: FloatArray) -> Clearances:
        """The clearances of a pose in user units, shape (6,)."""
        self._data.qpos[:] = user_to_rad(user)
        mujoco.mj_kinematics(self._model, self._data)
        return Clearances(self._table_m(), self._self_m(), self._box_m())

    def _table_m(self) -> float:
        """The lowest point of a box with a skin, which all shapes are, is at z - |R_z| half - radius."""
        down = np.abs(self._data.geom_xmat[self._moving, 6:])
        sunk_m = np.einsum("ij,ij->i", down, self._half_m) + self._below_m
        return float((self._data.geom_xpos[self._moving, 2] - sunk_m).min())

    def _self_m(self) -> float:
        between = self._data.geom_xpos[self._first] - self._data.geom_xpos[self._second]
        at_least_m = np.sqrt(np.einsum("ij,ij->i", between, between)) - self._reach_m
        near = np.flatnonzero(at_least_m < SEEN_M)
        nearest_m = SEEN_M
        for index in near[np.argsort(at_least_m[near])].tolist():
            if at_least_m[index] >= nearest_m:
                break
            first, second = self._pairs[index]
            nearest_m = min(
                nearest_m, mujoco.mj_geomDistance(self._model, self._data, first, second, nearest_m, None)
            )
        return nearest_m - self._self_margin_m

    def _box_m(self) -> float:
        if self._box is None:
            return math.inf
        tool: list[float] = self._data.site_xpos[self._grasp].tolist()
        sides = zip(tool, self._box.min_m, self._box.max_m, strict=True)
        return min(min(x - low, high - x) for x, low, high in sides)


def _body_of(model: mujoco.MjModel, geom: int) -> str:
    return str(model.body(int(model.geom_bodyid[geom])).name)


def _half_and_radius(model: mujoco.MjModel, geom: int) -> tuple[float, float, float, float]:
    """A shape as a box with half lengths x, y, z and a skin around it."""
    x, y, z = model.geom_size[geom].tolist()
    kind = model.geom_type[geom]
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return x, y, z, 0.0
    if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        return 0.0, 0.0, y, x
    if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
        return 0.0, 0.0, 0.0, x
    name = model.geom(geom).name or f"number {geom} of {_body_of(model, geom)}"
    raise ConfigError(f"shape {name} of the arm's model must be a box, capsule or sphere")


def _can_meet(model: mujoco.MjModel, first: int, second: int) -> bool:
    """Whether at least two joints lie between the bodies of two shapes."""
    a, b = sorted((int(model.geom_bodyid[first]), int(model.geom_bodyid[second])))
    joints = 0
    while b > a:
        joints += 1
        b = int(model.body_parentid[b])
    return joints >= _APART
