"""The person whom the twin does not have: holds the board up, lays paper down, leads the arm."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import mujoco
import numpy as np

from calibration.markers import fingertip_m
from calibration.plane import BOARD_AT_BASE
from robot import printed
from robot.joints import GRIPPER
from robot.kinematics import Kinematics, rad_to_user, user_to_rad
from robot.seams import FloatArray
from robot.twin.client import TwinControl
from robot.twin.hand import ACCELERATION_RAD_S2, SPEED_RAD_S

OUT_OF_THE_WAY = np.array([0.0, -97.0, 25.0, 93.0, 0.0, 0.0])
"""Folded back as in the shipped ready pose: the overhead camera sees the table before it."""
WRIST_UP = np.array([0.0, -60.0, 10.0, -40.0, 0.0, 100.0])
"""Camera raised and jaws open, so that a board fits between it and the table."""
CUBE_AWAY = (0.55, 0.35)
ANYWHERE_RAD = 4.0
"""A joint may be so far from where it is led the first time."""
SETTLES_S = 1.2
"""From the end of the hand's path until the arm stands still: friction lets it creep the last half degree."""
TOUCH_M = dict(
    zip(
        printed.TOUCH_IDS,
        [(0.20, 0.16), (0.30, 0.10), (0.34, -0.02), (0.29, -0.14), (0.21, 0.03), (0.15, -0.15)],
        strict=True,
    )
)
"""Where the single markers are laid: in reach, beside the bowl, all over the field."""
TIP_M = 0.003
"""Height of the fingertip over a marker that it touches."""


class TwinPerson:
    """Acts on a live twin through its control socket.

    Args:
        control: of the twin.
        camera: the camera that is calibrated.
    """

    def __init__(self, control: TwinControl, camera: str) -> None:
        self._control, self._camera = control, camera
        self._kinematics = Kinematics()
        self._led_to: FloatArray | None = None

    def prepare(self) -> None:
        """Clear the table before the camera and get the arm out of its sight."""
        self._control.place_cube(*CUBE_AWAY)
        self.lead(WRIST_UP if self._camera == "wrist" else OUT_OF_THE_WAY)

    def lead(self, user: FloatArray) -> None:
        """Lead the limp follower to a pose, user units, shape (6,), and wait until it is there."""
        before, self._led_to = self._led_to, user_to_rad(user)
        way_rad = ANYWHERE_RAD if before is None else float(np.abs(self._led_to - before).max())
        takes_s = way_rad / SPEED_RAD_S + SPEED_RAD_S / ACCELERATION_RAD_S2 + SETTLES_S
        self._control.hand("follower", user)
        there_s = self._control.truth()["time_s"] + takes_s  # a twin on a busy machine is behind the clock
        while self._control.truth()["time_s"] < there_s:
            time.sleep(0.05)

    def show_board(self, seed: int = 0) -> Iterator[None]:
        """Hold the board before the camera, each time another way, for ever."""
        random = np.random.default_rng(seed)
        near_m, far_m = (0.20, 0.32) if self._camera == "wrist" else (0.26, 0.46)
        while True:
            distance = random.uniform(near_m, far_m)
            x, y = random.uniform(-0.42, 0.42, 2) * distance * [1.15, 0.9]
            yaw, pitch, roll = np.radians(random.uniform([-35, -35, -25], [35, 35, 25]))
            turn = _quaternion(yaw, pitch, roll).tolist()
            self._control.place_board((x, y, -distance), turn, before=self._camera)
            yield

    def lay_board(self, at: tuple[float, float, float] = BOARD_AT_BASE) -> None:
        """Lay the board on the table."""
        half = math.radians(at[2] - 90.0) / 2
        self._control.place_board((at[0], at[1], 0.0), (math.cos(half), 0.0, 0.0, math.sin(half)))

    def lay_markers(self) -> None:
        """Lay all single markers on the table."""
        for index, marker in enumerate(printed.TOUCH_IDS):
            self._control.place_marker(marker, *TOUCH_M[marker], yaw_rad=0.4 * index)

    def touch(self, marker: int) -> None:
        """Lead the closed fingertip onto the middle of a marker."""
        wanted = np.array([*TOUCH_M[marker], TIP_M])
        aim, user = wanted + np.array([0.0, 0.0, 0.01]), OUT_OF_THE_WAY
        for _ in range(6):  # the solver places the point where a cube sits, the closed tips lie beside it
            user = rad_to_user(self._kinematics.solve(aim, pitch_deg=None))
            user[GRIPPER] = 0.0
            aim = aim + wanted - fingertip_m(self._kinematics, user)
        self.lead(user)


def _quaternion(yaw: float, pitch: float, roll: float) -> FloatArray:
    """Turned about y, then x, then z of the moved frame."""
    turn, part = np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(4)
    for angle, axis in ((yaw, (0.0, 1.0, 0.0)), (pitch, (1.0, 0.0, 0.0)), (roll, (0.0, 0.0, 1.0))):
        mujoco.mju_axisAngle2Quat(part, np.array(axis), angle)
        mujoco.mju_mulQuat(turn, turn.copy(), part)
    return turn
