"""Paper in the twin's world: the printed board, single markers, a disc. Cameras see it, nothing touches it.

They are in the renderer's model only. The world knows where they are and hands that on with its positions;
while none is placed they are not drawn, and pictures are what they were without them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mujoco
import numpy as np

from robot import printed
from robot.errors import TwinError
from robot.seams import ByteArray, FloatArray

GROUP = 5
"""Geom group of the printed paper: drawn only while some of it is placed."""
DISC_GROUP = 4
"""Geom group of the disc, which has no texture: drawn only while it is placed."""
DISC_RADIUS_M = 0.030
DISC_RGBA = (0.10, 0.28, 0.72, 1.0)
"""Blue: neither the cube's red nor the orange and grey of what else is there."""
SCALE = 2
"""Texture pixels to each pixel of the printed image, so that smoothing does not reach far into a cell."""
HALF_THICKNESS_M = 0.0001
PROPS = ("board", *(f"marker_{marker}" for marker in printed.TOUCH_IDS), "disc")
AWAY = (0.0, 0.0, -5.0, 1.0, 0.0, 0.0, 0.0)
"""Pose of what is not placed: far below the floor."""
_LOWEST_M = -1.0
_DISC = PROPS.index("disc")
FLAT = (math.sqrt(0.5), 0.0, 0.0, -math.sqrt(0.5))
"""Quaternion of paper on the table that is read from where the base stands: its top points to +x."""


class Props:
    """Where the paper is. A sheet's own frame: x to the right, y to the top, z out of the printed side.

    The board's origin is the middle of its squares, a marker's its own middle.
    """

    def __init__(self) -> None:
        self._poses = np.tile(np.array(AWAY), (len(PROPS), 1))

    @property
    def state(self) -> FloatArray:
        """Positions and quaternions for the renderer, shape (7 * number of props,)."""
        return self._poses.ravel()

    def remove(self) -> None:
        """Take all paper away."""
        self._poses[:] = AWAY

    def place_board(self, position_m: Sequence[float], rotation: Sequence[float] = FLAT) -> None:
        """Put the middle of the board somewhere, base frame; ``rotation`` is a quaternion (w, x, y, z).

        Raises:
            TwinError: a number is missing, not finite, or the quaternion is zero.
        """
        self._place(0, position_m, rotation)

    def place_board_before(
        self, data: mujoco.MjData, camera: str, position_m: Sequence[float], rotation: Sequence[float]
    ) -> None:
        """As :meth:`place_board`, in a camera's frame: x right, y up, z towards the camera.

        Raises:
            TwinError: as :meth:`place_board`, or there is no such camera.
        """
        try:
            seen_from = data.camera(camera)
        except KeyError as error:
            raise TwinError(f"the twin has no camera {camera!r}") from error
        turn, turned = np.zeros(4), np.zeros(4)
        mujoco.mju_mat2Quat(turn, seen_from.xmat)
        mujoco.mju_mulQuat(turned, turn, _numbers(rotation, 4))
        offset = seen_from.xmat.reshape(3, 3) @ _numbers(position_m, 3)
        self._place(0, (seen_from.xpos + offset).tolist(), turned.tolist())

    def place_marker(self, marker: int, x_m: float, y_m: float, yaw_rad: float = 0.0) -> None:
        """Lay the middle of a single marker at a point of the table.

        Raises:
            TwinError: there is no such marker, or a number is not finite.
        """
        if marker not in printed.TOUCH_IDS:
            raise TwinError(f"there is no marker {marker}, there are {list(printed.TOUCH_IDS)}")
        half = (yaw_rad - math.pi / 2) / 2
        turn = (math.cos(half), 0.0, 0.0, math.sin(half))
        self._place(1 + printed.TOUCH_IDS.index(marker), (x_m, y_m, HALF_THICKNESS_M), turn)

    def place_disc(self, x_m: float, y_m: float) -> None:
        """Lay the middle of the disc, which says where something shall come, on a point of the table.

        Raises:
            TwinError: a number is not finite.
        """
        self._place(_DISC, (x_m, y_m, HALF_THICKNESS_M), AWAY[3:])

    def remove_disc(self) -> None:
        """Take the disc away, and leave the rest."""
        self._poses[_DISC] = AWAY

    @property
    def disc_xy_m(self) -> FloatArray | None:
        """Middle of the disc, base frame, shape (2,); ``None`` while it is away."""
        x, y, z = self._poses[_DISC, :3]
        return None if z < _LOWEST_M else np.array([x, y])

    def _place(self, index: int, position_m: Sequence[float], rotation: Sequence[float]) -> None:
        quaternion = _numbers(rotation, 4)
        length = float(np.linalg.norm(quaternion))
        if length < 1e-6:
            raise TwinError("a rotation is a quaternion (w, x, y, z), and not zero")
        self._poses[index] = [*_numbers(position_m, 3), *(quaternion / length)]


def _numbers(values: Sequence[float], count: int) -> FloatArray:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise TwinError(f"a place needs {count} finite numbers, not {values!r}")
    return numbers


def add_paper(spec: mujoco.MjSpec) -> None:
    """Add every sheet to a scene that is to be rendered: no mass, no contact, the printed texture on top."""
    sheet, left_top = np.array(printed.SHEET_MM), np.array(printed.BOARD_LEFT_TOP_MM)
    middle = left_top + np.array(printed.SQUARES) * printed.SQUARE_MM / 2
    offset = (sheet / 2 - middle) * [1, -1] / 1000.0
    _add(spec, PROPS[0], printed.board_sheet_image(), sheet, offset)
    cut = np.full(2, printed.TOUCH_CUT_MM)
    for name, marker in zip(PROPS[1:_DISC], printed.TOUCH_IDS, strict=True):
        _add(spec, name, printed.marker_sheet_image(marker), cut, np.zeros(2))
    disc = spec.worldbody.add_body(name="disc", mocap=True, pos=AWAY[:3])
    disc.add_geom(
        name="disc",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[DISC_RADIUS_M, HALF_THICKNESS_M, 0.0],
        rgba=DISC_RGBA,
        group=DISC_GROUP,
        contype=0,
        conaffinity=0,
    )


def _add(spec: mujoco.MjSpec, name: str, image: ByteArray, size_mm: FloatArray, offset_m: FloatArray) -> None:
    pixels = np.repeat(np.repeat(image, SCALE, axis=0), SCALE, axis=1)
    texture = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, nchannel=3)
    texture.height, texture.width = pixels.shape
    texture.data = np.repeat(pixels[..., None], 3, axis=2).astype(np.uint8).tobytes()
    material = spec.add_material(name=name, specular=0.0, reflectance=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    body = spec.worldbody.add_body(name=name, mocap=True, pos=AWAY[:3])
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[*offset_m, 0.0],
        size=[*(size_mm / 2000.0), HALF_THICKNESS_M],
        material=name,
        group=GROUP,
        contype=0,
        conaffinity=0,
    )


class PaperView:
    """The paper in a renderer's model, put where the world has it."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._rows = [int(model.body(name).mocapid[0]) for name in PROPS]

    def show(self, state: FloatArray, data: mujoco.MjData, option: mujoco.MjvOption) -> None:
        """Take over :attr:`Props.state`."""
        poses = state.reshape(len(PROPS), 7)
        data.mocap_pos[self._rows], data.mocap_quat[self._rows] = poses[:, :3], poses[:, 3:]
        placed = poses[:, 2] > _LOWEST_M
        option.geomgroup[GROUP] = int(placed[:_DISC].any())
        option.geomgroup[DISC_GROUP] = int(placed[_DISC])
