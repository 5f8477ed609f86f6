"""Loading the twin's scene."""

from __future__ import annotations

from pathlib import Path

import mujoco

from robot.joints import JOINTS
from robot.twin.props import add_paper

SCENE_XML = Path(__file__).resolve().parent / "scene.xml"


def load_scene() -> mujoco.MjModel:
    """The twin's scene: arm, table, bowl, cube, confuser, cameras."""
    return mujoco.MjModel.from_xml_path(str(SCENE_XML))


def load_scene_to_render() -> mujoco.MjModel:
    """The same with the paper of :mod:`robot.twin.props`, which takes no part in the physics."""
    spec = mujoco.MjSpec.from_file(str(SCENE_XML))
    add_paper(spec)
    return spec.compile()


def joint_addresses(model: mujoco.MjModel) -> list[int]:
    """Addresses of the six arm joints in ``qpos``, in the order of ``JOINTS``."""
    return [int(model.joint(name).qposadr[0]) for name in JOINTS]


def dof_addresses(model: mujoco.MjModel) -> list[int]:
    """Addresses of the six arm joints in ``qvel``, in the order of ``JOINTS``."""
    return [int(model.joint(name).dofadr[0]) for name in JOINTS]
