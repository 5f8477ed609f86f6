"""The SO-101 as MuJoCo bodies: our own model from primitive shapes."""

from __future__ import annotations

from pathlib import Path

import mujoco

ARM_XML = Path(__file__).resolve().parent / "so101.xml"


def load_arm() -> mujoco.MjModel:
    """The bare arm on its base frame, without a world around it."""
    return mujoco.MjModel.from_xml_path(str(ARM_XML))
