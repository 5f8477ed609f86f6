"""Clips for cameras that play a file: what the twin's cameras see while the arm moves, rendered once."""

from __future__ import annotations

import math
from pathlib import Path

import mujoco
import numpy as np

from robot.kinematics import user_to_rad
from robot.recording.video import CODECS, VideoWriter
from robot.seams import FloatArray
from robot.twin.render import CAMERAS, Renderer
from robot.twin.world import World

CLIP_S = 6.0
GRAIN = 4
"""Grey levels of noise in every picture, as a sensor has: without it there is nothing to encode."""
MIDDLE = np.array([0.0, -40.0, 40.0, 50.0, 0.0, 40.0])
SWING = np.array([40.0, 25.0, 25.0, 20.0, 40.0, 30.0])


def sway(phase: float) -> FloatArray:
    """A pose on a closed way over the table, user units, shape (6,); ``phase`` counts rounds."""
    pose: FloatArray = MIDDLE + SWING * np.sin(2.0 * math.pi * (phase + np.arange(6) / 6))
    return pose


def make_clips(folder: Path, width_px: int, height_px: int, fps: int) -> dict[str, Path]:
    """One clip for each of the twin's cameras, mp4; camera -> file."""
    world, renderer = World(), Renderer(width_px, height_px)
    grain = np.random.default_rng(0)
    paths = {camera: folder / f"{camera}.mp4" for camera in CAMERAS}
    clips = {
        camera: VideoWriter(path, height_px, width_px, fps, CODECS["h264"]) for camera, path in paths.items()
    }
    count = round(CLIP_S * fps)
    try:
        for index in range(count):
            world.data.qpos[:6] = user_to_rad(sway(index / count))
            mujoco.mj_forward(world.model, world.data)
            for camera, clip in clips.items():
                picture = renderer.render(world.render_state(), camera).astype(np.int16)
                picture += grain.integers(-GRAIN, GRAIN + 1, (height_px, width_px, 1), np.int16)
                clip.add(np.clip(picture, 0, 255).astype(np.uint8))
    finally:
        for clip in clips.values():
            clip.close()
        renderer.close()
    return paths
