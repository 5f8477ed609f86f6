"""The lockstep twin as a stage: reset, command, observe, with cameras that lag as real ones do."""

from __future__ import annotations

import os
from collections import deque

import mujoco
import numpy as np

from robot.config import RobotConfig, load_robot
from robot.joints import GRIPPER
from robot.kinematics import user_to_rad
from robot.seams import ByteArray, FloatArray
from robot.twin.lockstep import LockstepArm, LockstepClock
from robot.twin.looks import Look
from robot.twin.render import CAMERAS, Renderer
from robot.twin.tasks import CubePlace, Layout
from robot.twin.world import World, WorldConfig

SUPERSAMPLE_LIMIT_PX = 200
"""Pictures narrower than this are rendered twice as wide and averaged, against jagged edges."""
MAX_DELAY_TICKS = 30
CUBE_ASIDE = CubePlace(x_m=0.60, y_m=0.50, yaw_rad=0.0)
"""Where the cube lies in a task that has none: outside every picture."""


class Stage:
    """One twin, its follower and its cameras, stepped by control ticks.

    Args:
        width_px: width of the pictures that :meth:`images` gives.
        height_px: their height.
        camera_delay_s: age of a picture when it is seen: exposure, transfer and decoding.
        config: servo parameters of the twin.
    """

    def __init__(
        self,
        width_px: int = 640,
        height_px: int = 480,
        *,
        camera_delay_s: float = 0.05,
        config: WorldConfig | None = None,
    ) -> None:
        self.robot: RobotConfig = load_robot("twin")[0]
        self.world = World(config)
        self.arm = LockstepArm(self.world)
        self.clock = LockstepClock(self.world)
        self.width_px, self.height_px = width_px, height_px
        self._scale = 2 if width_px < SUPERSAMPLE_LIMIT_PX else 1
        self._renderer: Renderer | None = None
        self._look = Look()
        self.blackout: frozenset[str] = frozenset()
        """Cameras whose pictures are black."""
        self._history: deque[FloatArray] = deque(maxlen=MAX_DELAY_TICKS + 1)
        self.camera_delay_s = camera_delay_s

    def reset(
        self, layout: Layout, start: FloatArray, *, look: Look | None = None, stiffness: float = 1.0
    ) -> FloatArray:
        """Power-cycle the arm in a pose, put everything in its place, energise. Returns the first command.

        Args:
            layout: what lies where.
            start: pose in user units, shape (6,).
            look: how everything looks; ``None``: as the scene is.
            stiffness: factor on the position stiffness of the servos.
        """
        self._look = look or Look()
        self.world.reset(stiffness)
        pose = user_to_rad(start)
        self.world.data.qpos[:6] = pose
        self.world.follower.reset_pose(pose)
        cube = layout.cube or CUBE_ASIDE
        self.world.place_cube(cube.x_m, cube.y_m, cube.yaw_rad)
        if layout.target_xy_m is not None:
            self.world.props.place_disc(*layout.target_xy_m)
        if (confuser := layout.confuser) is not None:
            self.world.place_confuser(confuser.x_m, confuser.y_m, confuser.yaw_rad)
        mujoco.mj_forward(self.world.model, self.world.data)
        self._history.clear()
        self._history.append(self.world.render_state())
        command = self.arm.enable()
        command[GRIPPER] = np.clip(command[GRIPPER], 0.0, 100.0)
        return command

    def advance(self) -> None:
        """Let one control tick pass."""
        self.clock.sleep_until_s(self.clock.now_s() + self.robot.dt_s)
        self._history.append(self.world.render_state())

    def images(self, cameras: tuple[str, ...] = CAMERAS) -> dict[str, ByteArray]:
        """Pictures as they arrive now: of the world as it was ``camera_delay_s`` ago."""
        if self._renderer is None:
            # Here a process to each core is what is fast; Mesa's own threads cost a sixth of the time.
            os.environ.setdefault("LP_NUM_THREADS", "0")
            self._renderer = Renderer(self.width_px * self._scale, self.height_px * self._scale)
        self._renderer.show(self._look)
        ticks = round(self.camera_delay_s * self.robot.control_hz)
        seen = self._history[max(len(self._history) - 1 - ticks, 0)]
        return {name: self._image(self._renderer, seen, name) for name in cameras}

    def _image(self, renderer: Renderer, seen: FloatArray, camera: str) -> ByteArray:
        if camera in self.blackout:
            return np.zeros((self.height_px, self.width_px, 3), np.uint8)
        return shrink(renderer.render(seen, camera), self._scale)

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def shrink(image: ByteArray, factor: int) -> ByteArray:
    """Average an RGB picture by a whole factor in both directions, rounding to nearest."""
    if factor == 1:
        return image
    height, width, channels = image.shape
    blocks = image.reshape(height // factor, factor, width // factor, factor, channels)
    small: ByteArray = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return small


def enlarge(image: ByteArray, height_px: int, width_px: int) -> ByteArray:
    """Repeat pixels until a picture has the wanted size; by a whole factor it is :func:`shrink`'s inverse."""
    rows = ((np.arange(height_px) + 0.5) * image.shape[0] / height_px).astype(np.intp)
    columns = ((np.arange(width_px) + 0.5) * image.shape[1] / width_px).astype(np.intp)
    return np.ascontiguousarray(image[rows][:, columns])
