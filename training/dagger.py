"""Corrections: a policy drives, the expert takes over where it goes wrong, and only that is learned.

The policy's own frames are recorded with ``loss_mask`` 0 (they are what led there), the expert's with
``intervention`` 1. Half of the episodes are taken over at a random moment, half only when the policy has
had its time and the cube is not in the bowl (Ross et al. 2011, with the taking-over of Kelly et al. 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from inference.bundle import Bundle
from inference.ensembler import ExecutionConfig, make_executor
from robot.seams import ArmState, FloatArray
from robot.twin.render import CAMERAS
from robot.twin.tasks import CubePlace, PickPlace
from training.demonstrations import FPS, Demonstrator, FrameRecord, create_dataset, episode_rng, write_episode
from training.rollout import InlinePolicySource, drive
from training.stage import Stage

PATIENCE_S = 6.5
"""A policy that has not finished after this long is helped."""
COORDINATE_NOISE_M = 0.008
"""Standard deviation of the coordinates' error in half of the episodes, so that misses occur to be mended."""


def correct(
    bundle: Bundle,
    root: Path,
    episodes: range,
    seed: int,
    *,
    execution: ExecutionConfig,
    width_px: int = 256,
    height_px: int = 192,
    on_episode: Callable[[int], None] | None = None,
) -> int:
    """Record corrected episodes into a new dataset; returns how many were kept.

    Args:
        bundle: the policy that drives first.
        root: folder of the dataset.
        episodes: numbers of the episodes.
        seed: seed of the set; use another than the demonstrations'.
        execution: how chunks are executed.
        width_px: picture width.
        height_px: picture height.
        on_episode: called with the number of each finished episode.
    """
    stage = Stage(width_px, height_px)
    task = PickPlace()
    demonstrator = Demonstrator(stage)
    source = {"source": "corrections", "seed": seed, "task": task.name, "policy": bundle.manifest.name}
    writer = create_dataset(root, stage, source)
    kept = 0
    try:
        for episode in episodes:
            frames, place = _episode(bundle, demonstrator, task, episode_rng(seed, episode), execution)
            if frames is not None:
                write_episode(writer, frames, place)
                kept += 1
            if on_episode is not None:
                on_episode(episode)
    finally:
        writer.close()
        stage.close()
    return kept


def _episode(
    bundle: Bundle,
    demonstrator: Demonstrator,
    task: PickPlace,
    rng: np.random.Generator,
    execution: ExecutionConfig,
) -> tuple[list[FrameRecord] | None, CubePlace]:
    stage = demonstrator.stage
    place = task.sample(rng)
    stage.camera_delay_s = float(rng.uniform(*demonstrator.options.camera_delay_s))
    stage.reset(place, demonstrator.draw_start(rng))
    error_m = rng.normal(0.0, COORDINATE_NOISE_M, 2) * (rng.random() < 0.5)
    pickup = np.array([place.x_m, place.y_m]) + error_m
    until_s = float(rng.uniform(0.5, 5.0)) if rng.random() < 0.5 else PATIENCE_S
    frames: list[FrameRecord] = []
    every = stage.robot.control_hz // FPS

    def record(tick: int, state: ArmState, sent: FloatArray) -> None:
        if tick % every == 1 % every:
            frames.append(FrameRecord(state.position, sent, stage.images(CAMERAS), 0.0, 0))

    camera = bundle.manifest.cameras[0]
    source = InlinePolicySource(
        stage,
        bundle.policy,
        make_executor(execution, stage.robot.control_hz, bundle.manifest.fps),
        pickup.astype(np.float32),
        fps=bundle.manifest.fps,
        camera_px=(camera.height_px, camera.width_px),
    )
    command = drive(stage, source, limit_s=until_s, stop=lambda: stage.world.cube_in_bowl, on_tick=record)
    if stage.world.cube_in_bowl:
        return None, place
    return demonstrator.finish(command, rng, float(rng.uniform(0.9, 1.1)), frames, intervention=1), place
