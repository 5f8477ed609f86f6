"""What happened in a trial on the twin: whether and when it was done, how the tool went, what it grasped."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import TypeAdapter, ValidationError

from robot.errors import ConfigError
from robot.joints import GRIPPER
from robot.seams import FloatArray
from robot.twin.tasks import Layout, Task
from robot.twin.world import World
from training.smoothness import Jerk

Grasped = Literal["target", "confuser", "between", "elsewhere", "none"]
GRASPED: tuple[Grasped, ...] = get_args(Grasped)
InBowl = Literal["target", "confuser", "both", "none"]
OPENED_PCT, CLOSING_PCT = 33.0, 25.0
"""The jaws have been open above the one, and close when their goal falls below the other."""
NEAR_M = 0.035
"""A grasp further than this from a cube's middle was not at it."""
BETWEEN_M = 0.015
"""So near to the middle third of the line from one cube to the other a grasp was at neither."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How one trial went."""

    number: int
    success: bool
    duration_s: float
    x_m: float
    """Of the cube that was meant, or of what is told in a task without one, when the trial began."""
    y_m: float
    yaw_rad: float
    end_x_m: float
    """Of the cube, or of the tool in a task without one."""
    end_y_m: float
    end_z_m: float
    done_s: float | None = None
    """When it was done for good; ``None`` where it was not."""
    path_m: float = 0.0
    """Way of the tool over the table until then."""
    straight_m: float = 0.0
    """Distance between the ends of that way."""
    told_x_m: float | None = None
    """What the policy was told."""
    told_y_m: float | None = None
    confuser_x_m: float | None = None
    confuser_y_m: float | None = None
    grasped: Grasped = "none"
    """What the jaws closed at first."""
    grasp_x_m: float | None = None
    """Where the tool was then."""
    grasp_y_m: float | None = None
    in_bowl: InBowl = "none"
    """Which cube lay in the bowl at the end."""
    look: str = "plain"
    """Family of the table top."""
    stiffness: float = 1.0
    jerk_dps3: float = 0.0
    """Mean jerk of the commands, see ``training.smoothness``."""


def grasped_at(grasp_m: FloatArray, target_m: FloatArray, confuser_m: FloatArray | None) -> Grasped:
    """What a grasp was at; all points are on the table, shape (2,)."""
    if confuser_m is not None:
        way = confuser_m - target_m
        along = float((grasp_m - target_m) @ way / (way @ way))
        if 1 / 3 < along < 2 / 3 and math.dist(grasp_m, target_m + along * way) < BETWEEN_M:
            return "between"
        if math.dist(grasp_m, confuser_m) < min(NEAR_M, math.dist(grasp_m, target_m)):
            return "confuser"
    return "target" if math.dist(grasp_m, target_m) < NEAR_M else "elsewhere"


class Watch:
    """Follows a trial, asked every tick: since when it is done, how the tool has moved, where it grasped.

    Args:
        world: at its beginning.
        task: what is to be done.
    """

    def __init__(self, world: World, task: Task) -> None:
        self._world, self._task = world, task
        self._begin_m = self._last_m = world.tool_m[:2]
        self._path_m = 0.0
        self._done: tuple[float, float, float] | None = None
        self._opened = False
        self._jerk = Jerk()
        self._grasp: tuple[FloatArray, Grasped] | None = None

    def settled(self) -> bool:
        """Look; whether it has stayed done for as long as the task wants."""
        world, tool_m = self._world, self._world.tool_m[:2]
        self._path_m += math.dist(tool_m, self._last_m)
        self._last_m = tool_m
        if not self._task.success(world):
            self._done = None
        elif self._done is None:
            self._done = world.time_s, self._path_m, math.dist(tool_m, self._begin_m)
        return self._done is not None and world.time_s - self._done[0] > self._task.settle_s

    def commanded(self, command: FloatArray) -> None:
        """Look at a command, user units, shape (6,): the first that closes open jaws says where it grasps."""
        self._jerk.add(self._world.time_s, command)
        self._opened |= bool(command[GRIPPER] > OPENED_PCT)
        if self._grasp is None and self._opened and command[GRIPPER] < CLOSING_PCT:
            tool_m, confuser = self._world.tool_m[:2], self._world.confuser_xyz_m
            other = None if confuser is None else confuser[:2]
            self._grasp = tool_m, grasped_at(tool_m, self._world.cube_xyz_m[:2], other)

    def trial(
        self,
        number: int,
        layout: Layout,
        *,
        told_xy_m: Sequence[float] | None = None,
        look: str = "plain",
        stiffness: float = 1.0,
    ) -> Trial:
        """How it ended.

        Args:
            number: of the trial.
            layout: how it began.
            told_xy_m: what the policy was told, where that is not the truth.
            look: family of the table top.
            stiffness: factor on the servos' stiffness.
        """
        world, cube, confuser = self._world, layout.cube, layout.confuser
        success = self._task.success(world)
        x_m, y_m = layout.told_xy_m if cube is None else cube.xy_m
        told_x_m, told_y_m = layout.told_xy_m if told_xy_m is None else told_xy_m
        end_x_m, end_y_m, end_z_m = (world.tool_m if cube is None else world.cube_xyz_m).tolist()
        done_s, path_m, straight_m = (self._done if success else None) or (None, self._path_m, 0.0)
        grasp = None if cube is None else self._grasp
        grasp_x_m, grasp_y_m = (None, None) if grasp is None else grasp[0].tolist()
        return Trial(
            number=number,
            success=success,
            duration_s=world.time_s,
            x_m=x_m,
            y_m=y_m,
            yaw_rad=0.0 if cube is None else cube.yaw_rad,
            end_x_m=end_x_m,
            end_y_m=end_y_m,
            end_z_m=end_z_m,
            done_s=done_s,
            path_m=path_m,
            straight_m=straight_m,
            told_x_m=told_x_m,
            told_y_m=told_y_m,
            confuser_x_m=None if confuser is None else confuser.x_m,
            confuser_y_m=None if confuser is None else confuser.y_m,
            grasped="none" if grasp is None else grasp[1],
            grasp_x_m=grasp_x_m,
            grasp_y_m=grasp_y_m,
            in_bowl=_IN_BOWL[cube is not None and world.cube_in_bowl, world.confuser_in_bowl],
            look=look,
            stiffness=stiffness,
            jerk_dps3=self._jerk.mean_dps3,
        )


_IN_BOWL: dict[tuple[bool, bool], InBowl] = {
    (False, False): "none",
    (True, False): "target",
    (False, True): "confuser",
    (True, True): "both",
}


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """One JSON object a line, a trial each."""
    lines = [json.dumps(asdict(trial)) + "\n" for trial in trials]
    path.write_text("".join(lines), encoding="utf-8")


def read_trials(path: Path) -> list[Trial]:
    """Trials that :func:`write_trials` wrote.

    Raises:
        ConfigError: it is no such file; the message names the line.
    """
    adapter, trials = TypeAdapter(Trial), []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            trials.append(adapter.validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ConfigError(
                f"{path}, line {number}: {first['msg']}; so101 eval --trials-out writes it"
            ) from error
    return trials
