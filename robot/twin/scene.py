"""Loading the twin's scene."""

from __future__ import annotations

from pathlib import Path

import mujoco

from robot.joints import JOINTS
from robot.twin.looks import TABLE_M, TEXTURE_PX
from robot.twin.props import add_paper

TABLE_TOP = "table_top"
"""Texture and material that a look puts on the table."""
SCENE_XML = Path(__file__).resolve().parent / "scene.xml"


def load_scene() -> mujoco.MjModel:
    """The twin's scene: arm, table, bowl, cube, confuser, cameras."""
    return mujoco.MjModel.from_xml_path(str(SCENE_XML))


def load_scene_to_render() -> mujoco.MjModel:
    """The same with what only cameras see: the paper of :mod:`robot.twin.props` and a table top for looks."""
    spec = mujoco.MjSpec.from_file(str(SCENE_XML))
    add_paper(spec)
    texture = spec.add_texture(name=TABLE_TOP, type=mujoco.mjtTexture.mjTEXTURE_2D, nchannel=3)
    texture.height = texture.width = TEXTURE_PX
    texture.data = bytes(3 * TEXTURE_PX * TEXTURE_PX)
    top = spec.add_material(name=TABLE_TOP, specular=0.0, reflectance=0.0, texuniform=True)
    top.texrepeat = [1.0 / TABLE_M, 1.0 / TABLE_M]
    top.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = TABLE_TOP
    return spec.compile()


def joint_addresses(model: mujoco.MjModel) -> list[int]:
    """Addresses of the six arm joints in ``qpos``, in the order of ``JOINTS``."""
    return [int(model.joint(name).qposadr[0]) for name in JOINTS]


def dof_addresses(model: mujoco.MjModel) -> list[int]:
    """Addresses of the six arm joints in ``qvel``, in the order of ``JOINTS``."""
    return [int(model.joint(name).dofadr[0]) for name in JOINTS]
