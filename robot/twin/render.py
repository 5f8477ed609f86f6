"""Pictures of the twin's world through MuJoCo's offscreen renderer."""

from __future__ import annotations

import os
from typing import Any

import mujoco
import numpy as np

from robot.errors import TwinError
from robot.seams import ByteArray, FloatArray
from robot.twin import looks
from robot.twin.looks import Look
from robot.twin.props import PaperView
from robot.twin.scene import TABLE_TOP, load_scene_to_render

CAMERAS = ("wrist", "overhead")
"""Names of the twin's cameras."""

MESA_REMEDY = (
    "install Mesa: apt-get install libegl1 libgl1-mesa-dri libosmesa6, or set MUJOCO_GL to egl or osmesa"
)


class Renderer:
    """Renders from :meth:`robot.twin.world.World.render_state`; owns one GL context, one thread.

    Raises:
        TwinError: no offscreen GL could be had; the message names the packages.
    """

    def __init__(self, width_px: int = 640, height_px: int = 480) -> None:
        self._model = load_scene_to_render()
        self._paper = PaperView(self._model)
        self._data = mujoco.MjData(self._model)
        self.width_px, self.height_px = width_px, height_px
        # A buffer no larger than the picture is cleared and read in a fifth less time.
        self._model.vis.global_.offwidth, self._model.vis.global_.offheight = width_px, height_px
        backend = os.environ.get("MUJOCO_GL", "")
        try:
            self._renderer: Any = mujoco.Renderer(self._model, height_px, width_px)
        except Exception as error:
            message = f"no offscreen rendering with MUJOCO_GL={backend}: {error}; {MESA_REMEDY}"
            raise TwinError(message) from error
        self._option = mujoco.MjvOption()
        self._option.geomgroup[3:] = 0
        self._look = Look()

    def show(self, look: Look) -> None:
        """Let the world look like this from now on."""
        if look == self._look:
            return
        model, colour = self._model, looks.tint(look.kelvin)
        lamp = model.light("lamp")
        lamp.dir[:] = np.array(look.lamp_direction) / np.linalg.norm(look.lamp_direction)
        lamp.diffuse[:] = np.array(looks.LAMP_RGB) * look.lamp * colour
        model.vis.headlight.ambient[:] = np.array(looks.AMBIENT_RGB) * look.ambient * colour
        model.mat("cube").rgba[:3] = look.cube_rgb
        model.mat("bowl").rgba[:3] = look.bowl_rgb
        model.geom("floor").rgba[:3] = look.floor_rgb
        self._cover_table(look.table)
        self._look = look

    def _cover_table(self, surface: looks.Surface) -> None:
        plain = surface.family == "plain"
        material = self._model.mat("table" if plain else TABLE_TOP)
        self._model.geom("table").matid[:] = material.id
        if plain:
            material.rgba[:3] = surface.rgb
            return
        texture = self._model.tex(TABLE_TOP)
        pixels = looks.picture(surface).ravel()
        first = int(texture.adr[0])
        self._model.tex_data[first : first + pixels.size] = pixels
        self._renderer._gl_context.make_current()
        mujoco.mjr_uploadTexture(self._model, self._renderer._mjr_context, texture.id)

    def render(self, render_state: FloatArray, camera: str) -> ByteArray:
        """One RGB picture, uint8 (height, width, 3).

        Args:
            render_state: positions and paper as :meth:`robot.twin.world.World.render_state` gives them.
            camera: one of ``CAMERAS``.
        """
        if camera not in CAMERAS:
            raise TwinError(f"the twin has no camera {camera!r}, it has {', '.join(CAMERAS)}")
        positions, paper = np.split(render_state, [self._model.nq])
        self._data.qpos[:] = positions
        self._paper.show(paper, self._data, self._option)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._renderer.update_scene(self._data, camera, self._option)
        image: ByteArray = self._renderer.render()
        return np.ascontiguousarray(image)

    def close(self) -> None:
        """Free the GL context."""
        self._renderer.close()
