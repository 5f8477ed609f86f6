"""Tasks on the twin: where things start, what a policy is told, and when the world says it is done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robot.errors import TwinError
from robot.hand_ik import HandIk
from robot.kinematics import Kinematics, rad_to_user
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
        start: pose in which the arm begins, user units; ``None``: about its ready pose.
    """

    told_xy_m: tuple[float, float]
    cube: CubePlace | None = None
    confuser: CubePlace | None = None
    target_xy_m: tuple[float, float] | None = None
    start: tuple[float, ...] | None = None

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

    @property
    def settle_s(self) -> float:
        """So long it has to stay done."""

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
    settle_s: float = 0.5

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


REACH_POSE = (0.0, -29.0, 49.7, 46.4, 0.0, 0.0)
"""Jaws closed and 67 degrees down, the tool 50 mm over the middle of the field; user units. Held like this
the hand comes to every place of the field; straight down it would not reach the far ones."""
PUSH_POSE = (0.0, -43.3, 42.0, 68.4, 0.0, 0.0)
"""The same hand, 90 mm over the table."""


class _Hand:
    """Poses with the pitch, roll and jaws of one pose."""

    def __init__(self, pose: tuple[float, ...]) -> None:
        kinematics, user = Kinematics(), np.array(pose)
        low, high = (rad_to_user(limit) for limit in (kinematics.min_rad, kinematics.max_rad))
        self.tool_m = kinematics.tool_position_m(user)
        self._ik = HandIk(kinematics, user, low, high)

    def pose(self, x_m: float, y_m: float, z_m: float) -> tuple[float, ...]:
        """User units for a place of the tool. Raises UnreachableError."""
        return tuple(self._ik.solve(np.array([x_m, y_m, z_m]))[0].tolist())


@dataclass(frozen=True, slots=True)
class Reach:
    """Bring the tool over a disc on the table, in a level plane."""

    name: str = "reach"
    sentence: str = "Bring the closed jaws over the blue disc."
    min_x_m: float = 0.16
    max_x_m: float = 0.32
    max_y_m: float = 0.18
    apart_m: float = 0.05
    """Least distance between where the tool begins and the disc."""
    within_m: float = 0.012
    """The tool is over the disc when it is so near to its middle."""
    time_limit_s: float = 6.0
    settle_s: float = 0.2

    def sample(self, rng: np.random.Generator) -> Layout:
        """See Task: start and disc are drawn evenly from the field of pick-and-place."""
        hand = _Hand(REACH_POSE)
        for _ in range(MAX_DRAWS):
            start, disc = _point(self, rng), _point(self, rng)
            if math.dist(start, disc) >= self.apart_m:
                pose = hand.pose(*start, float(hand.tool_m[2]))
                return Layout(told_xy_m=disc, target_xy_m=disc, start=pose)
        raise TwinError("the field has no room for a start and a disc")

    def success(self, world: World) -> bool:
        """See Task."""
        disc = world.props.disc_xy_m
        return disc is not None and math.dist(disc, world.tool_m[:2]) < self.within_m


@dataclass(frozen=True, slots=True)
class Push:
    """Push the cube onto a disc on the table, with closed jaws.

    The field is smaller than that of pick-and-place: the hand has to come behind the cube, wherever the disc
    is, and keeps away from the bowl.
    """

    name: str = "push"
    sentence: str = "Push the red cube onto the blue disc."
    min_x_m: float = 0.17
    max_x_m: float = 0.29
    max_y_m: float = 0.15
    apart_m: tuple[float, float] = (0.06, 0.15)
    """Distance between cube and disc."""
    behind_m: float = 0.044
    """The hand has to reach so far behind the cube."""
    bowl_apart_m: float = 0.12
    start_m: float = 0.02
    """The tool begins so far, at most, from the middle of its start in x and y."""
    within_m: float = 0.025
    """Distance of the middles of cube and disc at which the cube is there."""
    time_limit_s: float = 20.0
    settle_s: float = 0.5

    def sample(self, rng: np.random.Generator) -> Layout:
        """See Task: cube, any yaw, and disc are drawn evenly from what the hand can do."""
        hand = _Hand(PUSH_POSE)
        x_m, y_m, z_m = (float(v) for v in hand.tool_m)
        aside = rng.uniform(-self.start_m, self.start_m, 2)
        start = hand.pose(x_m + float(aside[0]), y_m + float(aside[1]), z_m)
        for _ in range(MAX_DRAWS):
            cube, disc = _point(self, rng), _point(self, rng)
            if self._feasible(cube, disc):
                place = CubePlace(*cube, yaw_rad=float(rng.uniform(-math.pi, math.pi)))
                return Layout(told_xy_m=disc, cube=place, target_xy_m=disc, start=start)
        raise TwinError("the field has no room for a cube and a disc")

    def success(self, world: World) -> bool:
        """See Task."""
        disc = world.props.disc_xy_m
        return disc is not None and math.dist(disc, world.cube_xyz_m[:2]) < self.within_m

    @staticmethod
    def start(x_m: float, y_m: float, z_m: float) -> tuple[float, ...]:
        """A pose to begin in, the tool somewhere else. Raises UnreachableError."""
        return _Hand(PUSH_POSE).pose(x_m, y_m, z_m)

    def _feasible(self, cube: tuple[float, float], disc: tuple[float, float]) -> bool:
        far = math.dist(cube, disc)
        if not self.apart_m[0] <= far <= self.apart_m[1]:
            return False
        behind = [c + self.behind_m * (c - d) / far for c, d in zip(cube, disc, strict=True)]
        x_m, y_m = behind
        if not (self.min_x_m - 0.02 < x_m < self.max_x_m + 0.01 and abs(y_m) < self.max_y_m + 0.02):
            return False
        return all(math.dist(point, BOWL_XY_M) > self.bowl_apart_m for point in (cube, disc, behind))


def _point(task: Reach | Push, rng: np.random.Generator) -> tuple[float, float]:
    """A point of the task's field."""
    return float(rng.uniform(task.min_x_m, task.max_x_m)), float(rng.uniform(-task.max_y_m, task.max_y_m))


TASKS: dict[str, Task] = {task.name: task for task in (PickPlace(), PickPlaceConfuser(), Reach(), Push())}
"""Every task by name."""


def task_named(name: str) -> Task:
    """The task of this name. Raises TwinError with the names that there are."""
    if name not in TASKS:
        raise TwinError(f"no task {name!r}, there is: {', '.join(TASKS)}")
    return TASKS[name]
