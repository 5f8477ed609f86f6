"""Tasks on the twin: where things start, what a policy is told, and when the world says it is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robot.errors import TwinError
from robot.twin.world import World

BOWL_XY_M = (0.18, -0.26)
"""Middle of the scene's bowl."""
BOWL_APART_M = 0.085
"""A cube whose middle is nearer to the bowl's than this touches it in some yaw."""
CUBES_APART_M = 0.045
"""Least distance between the middles of two cubes: of the grasps that a square offers one is left."""
MAX_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class CubePlace:
    """Where a cube lies on the table."""

    x_m: float
    y_m: float
    yaw_rad: float

    @property
    def xy_m(self) -> tuple[float, float]:
        """Its middle."""
        return self.x_m, self.y_m

    def alone(self) -> Layout:
        """Nothing but this cube; a policy is told the truth."""
        return Layout(told_xy_m=self.xy_m, cube=self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What lies where when a trial begins.

    Attributes:
        told_xy_m: the coordinates that a policy is told.
        cube: the cube, ``None`` where the task has none.
        confuser: a second cube that looks the same.
        target_xy_m: middle of the disc on the table.
    """

    told_xy_m: tuple[float, float]
    cube: CubePlace | None = None
    confuser: CubePlace | None = None
    target_xy_m: tuple[float, float] | None = None

    def asked_for_the_other(self) -> Layout:
        """The same table, but the task is now about the other cube.

        Raises:
            TwinError: there are no two cubes.
        """
        if self.cube is None or self.confuser is None:
            raise TwinError("only a task with a confuser can be asked for the other cube")
        return Layout(told_xy_m=self.confuser.xy_m, cube=self.confuser, confuser=self.cube)


class Task(Protocol):
    """What a policy is to do on the twin."""

    @property
    def name(self) -> str:
        """By which it is asked for."""

    @property
    def time_limit_s(self) -> float:
        """A trial that takes longer has failed."""

    def sample(self, rng: np.random.Generator) -> Layout:
        """How a trial begins."""

    def success(self, world: World) -> bool:
        """Whether it is done."""


@dataclass(frozen=True, slots=True)
class PickPlace:
    """Pick a cube up somewhere on the table and put it into the bowl.

    The field is a rectangle of what the arm reaches, less a corner of it that the bowl takes.
    """

    name: str = "pick_place"
    min_x_m: float = 0.16
    max_x_m: float = 0.32
    max_y_m: float = 0.18
    time_limit_s: float = 12.0

    def place(self, rng: np.random.Generator) -> CubePlace:
        """A place drawn evenly from the field, any yaw."""
        for _ in range(MAX_DRAWS):
            place = CubePlace(
                x_m=float(rng.uniform(self.min_x_m, self.max_x_m)),
                y_m=float(rng.uniform(-self.max_y_m, self.max_y_m)),
                yaw_rad=float(rng.uniform(-math.pi, math.pi)),
            )
            if math.dist(place.xy_m, BOWL_XY_M) >= BOWL_APART_M:
                return place
        raise TwinError("the bowl covers the whole field")

    def sample(self, rng: np.random.Generator) -> Layout:
        """See Task."""
        return self.place(rng).alone()

    def with_confuser(self, layout: Layout, rng: np.random.Generator) -> Layout:
        """The same with a second cube, anywhere in the field but not at the first."""
        for _ in range(MAX_DRAWS):
            confuser = self.place(rng)
            if math.dist(confuser.xy_m, layout.told_xy_m) >= CUBES_APART_M:
                return Layout(told_xy_m=layout.told_xy_m, cube=layout.cube, confuser=confuser)
        raise TwinError("the field has no room for a second cube")

    def success(self, world: World) -> bool:
        """See Task: the cube that was asked for is in the bowl and the other one is not."""
        return world.cube_in_bowl and not world.confuser_in_bowl


@dataclass(frozen=True, slots=True)
class PickPlaceConfuser(PickPlace):
    """The same with a second cube that looks the same: only the coordinates say which one is meant.

    The cube of a seed lies where it lies without the confuser.
    """

    name: str = "pick_place_confuser"

    def sample(self, rng: np.random.Generator) -> Layout:
        """See Task."""
        return self.with_confuser(self.place(rng).alone(), rng)


TASKS: dict[str, Task] = {task.name: task for task in (PickPlace(), PickPlaceConfuser())}
"""Every task by name."""


def task_named(name: str) -> Task:
    """The task of this name. Raises TwinError with the names that there are."""
    if name not in TASKS:
        raise TwinError(f"no task {name!r}, there is: {', '.join(TASKS)}")
    return TASKS[name]
