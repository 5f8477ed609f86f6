"""The scripted expert at the real-time twin, as one more person who teleoperates.

It sees the arm by telemetry and knows what lies on the table from the twin, plans on a copy of the world,
and streams the poses of its plan. A plan takes a tenth of a second or more; it is made in another thread
while the arm stands still, so that no pose of the stream comes late.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import mujoco

from robot.errors import UnreachableError
from robot.kinematics import user_to_rad
from robot.seams import Clock, FloatArray, MonotonicClock
from robot.twin.world import World
from training.demonstrations import LOST_M, MAX_ATTEMPTS
from training.experts.pick_place import PickPlaceExpert, Plan

STREAM_HZ = 60.0
LOOK_S = 0.1
"""Time between two looks at whether the cube is still in the jaws."""
LOOKS = 3
"""So many looks in a row have to miss it."""
REST_S = 0.6
"""After a plan's end: the arm arrives, what was let go comes to rest."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What telemetry says of the arm.

    Attributes:
        position: measured, user units, shape (6,).
        goal: last command, user units, shape (6,).
    """

    position: FloatArray
    goal: FloatArray


class Scene(Protocol):
    """Where the live expert works."""

    def seen(self) -> Seen:
        """The arm as it is now."""

    def truth(self) -> dict[str, Any]:
        """What lies on the table, see ``World.truth``."""

    def send(self, pose: FloatArray) -> None:
        """Stream one pose, user units, shape (6,)."""

    def ended(self) -> bool:
        """Whether the arm has been taken from the expert: stopped, a fault, the end of the session."""


class Mirror:
    """A copy of the live world: the arm and the cubes as they were seen, at rest."""

    def __init__(self) -> None:
        self.world = World()
        self._cube = int(self.world.model.joint("cube").qposadr[0])

    def show(self, position: FloatArray, truth: dict[str, Any]) -> None:
        """Take over what was seen."""
        world, cube = self.world, truth["cube"]
        world.data.qvel[:] = 0.0
        world.data.qpos[:6] = user_to_rad(position)
        world.place_cube(cube["x_m"], cube["y_m"], cube["yaw_rad"])
        world.data.qpos[self._cube + 2] = cube["z_m"]
        if (confuser := truth["confuser"]) is None:
            world.remove_confuser()
        else:
            world.place_confuser(confuser["x_m"], confuser["y_m"])
        mujoco.mj_forward(world.model, world.data)


class LiveExpert:
    """Performs the task in a scene, in the thread that asks; a second thread plans and looks.

    Args:
        scene: where.
        clock: time of the stream.
    """

    def __init__(self, scene: Scene, clock: Clock | None = None) -> None:
        self._scene = scene
        self._clock = clock or MonotonicClock()
        self._mirror = Mirror()
        self._expert = PickPlaceExpert(self._mirror.world)
        self._thinker = ThreadPoolExecutor(1, thread_name_prefix="expert")

    def __enter__(self) -> LiveExpert:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thinker.shutdown(cancel_futures=True)

    def perform(self, speed: float = 1.0) -> bool:
        """Do the task from here, trying again after a miss; whether the cube lies in the bowl in the end.

        Args:
            speed: factor on the expert's cruising speed.
        """
        for _ in range(MAX_ATTEMPTS):
            try:
                plan = self._while_holding(lambda: self._plan(speed))
            except UnreachableError:
                return False
            if plan is None:
                return False
            self._follow(plan)
            self._rest()
            if self._scene.ended():
                return False
            if self._scene.truth()["cube_in_bowl"]:
                return True
        return False

    def _plan(self, speed: float) -> Plan:
        seen = self._scene.seen()
        self._mirror.show(seen.position, self._scene.truth())
        return self._expert.plan(seen.goal, speed=speed)

    def _while_holding(self, think: Callable[[], Plan]) -> Plan | None:
        """Think in the other thread; ``None`` where the arm was taken away meanwhile.

        Nothing is sent: the arm stays where it was last told to be.
        """
        thought = self._thinker.submit(think)
        while not thought.done():
            if self._scene.ended():
                return None
            self._clock.sleep_until_s(self._clock.now_s() + 1.0 / STREAM_HZ)
        return thought.result()

    def _follow(self, plan: Plan) -> None:
        """Stream a plan to its end, or until the cube was lost on the way."""
        began_s = due_s = self._clock.now_s()
        look_s, looking, missed = began_s, None, 0
        while (time_s := self._clock.now_s() - began_s) < plan.duration_s:
            if self._scene.ended():
                return
            pose, segment = plan.at(time_s)
            self._scene.send(pose)
            if looking is not None and looking.done():
                missed = missed + 1 if looking.result() and segment == "carry" else 0
                looking = None
                if missed >= LOOKS:
                    return
            if looking is None and time_s + began_s >= look_s and segment == "carry":
                look_s = time_s + began_s + LOOK_S
                looking = self._look()
            due_s = max(due_s + 1.0 / STREAM_HZ, self._clock.now_s())
            self._clock.sleep_until_s(due_s)
        self._scene.send(plan.at(plan.duration_s)[0])

    def _look(self) -> Future[bool]:
        return self._thinker.submit(self._lost)

    def _lost(self) -> bool:
        """Whether the cube that should be in the jaws is not."""
        self._mirror.show(self._scene.seen().position, self._scene.truth())
        return self._expert.distance_to_cube_m() > LOST_M

    def _rest(self) -> None:
        until_s = self._clock.now_s() + REST_S
        while not self._scene.ended() and self._clock.now_s() < until_s:
            self._clock.sleep_until_s(self._clock.now_s() + LOOK_S)
