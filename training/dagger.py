"""Corrections: a policy drives, the expert takes over where it goes wrong, and only that is learned.

The policy's own frames are recorded with ``loss_mask`` 0 (they are what led there), the expert's with
``intervention`` 1. Half of the episodes are taken over at a random moment, half only when the policy has
had its time and the cube is not in the bowl (Ross et al. 2011, with the taking-over of Kelly et al. 2019).
"""

from __future__ import annotations

import numpy as np

from inference.bundle import Bundle
from inference.ensembler import ExecutionConfig, make_executor
from robot.seams import ArmState, Float32Array, FloatArray
from robot.twin.render import CAMERAS
from training.demonstrations import Demonstrator
from training.episodes import FPS, Episode, Frame, episode_rng
from training.rollout import InlinePolicySource, drive
from training.stage import Stage

PATIENCE_S = 6.5
"""A policy that has not finished after this long is helped."""
COORDINATE_NOISE_M = 0.008
"""Standard deviation of the coordinates' error in half of the episodes, so that misses occur to be mended."""


class Corrector:
    """Makes corrected episodes on one stage.

    Args:
        stage: the lockstep twin.
        bundle: the policy that drives first.
        execution: how its chunks are executed.
        seed: seed of the set; use another than the demonstrations'.
    """

    def __init__(self, stage: Stage, bundle: Bundle, execution: ExecutionConfig, *, seed: int) -> None:
        self.stage, self.bundle, self.execution, self.seed = stage, bundle, execution, seed
        self._demonstrator = Demonstrator(stage)

    def episode(self, number: int) -> Episode | None:
        """See EpisodeMaker; ``None`` where there was nothing to mend, or the expert could not."""
        stage, demonstrator = self.stage, self._demonstrator
        rng = episode_rng(self.seed, number)
        place = demonstrator.task.sample(rng)
        stage.camera_delay_s = float(rng.uniform(*demonstrator.options.camera_delay_s))
        stage.reset(place, demonstrator.draw_start(rng))
        error_m = rng.normal(0.0, COORDINATE_NOISE_M, 2) * (rng.random() < 0.5)
        pickup = np.array([place.x_m, place.y_m]) + error_m
        until_s = float(rng.uniform(0.5, 5.0)) if rng.random() < 0.5 else PATIENCE_S
        frames: list[Frame] = []
        every = stage.robot.control_hz // FPS

        def record(tick: int, state: ArmState, sent: FloatArray) -> None:
            if tick % every == 1 % every:
                frames.append(Frame(state.position, sent, stage.images(CAMERAS), 0.0, 0))

        # Not by the controller's own limit: it would brake, and the expert is to go on from the motion.
        motion = drive(
            stage,
            self._source(pickup.astype(np.float32)),
            limit_s=2 * PATIENCE_S,
            stop=lambda: stage.world.cube_in_bowl or stage.world.time_s >= until_s,
            on_tick=record,
        )
        if stage.world.cube_in_bowl:
            return None
        speed = float(rng.uniform(0.9, 1.1))
        mended = demonstrator.finish(motion, rng, speed, frames, intervention=1)
        return None if mended is None else Episode(mended, place)

    def _source(self, pickup_xy_m: Float32Array) -> InlinePolicySource:
        manifest = self.bundle.manifest
        camera = manifest.cameras[0]
        return InlinePolicySource(
            self.stage,
            self.bundle.policy,
            make_executor(self.execution, self.stage.robot.control_hz, manifest.fps),
            pickup_xy_m,
            fps=manifest.fps,
            camera_px=(camera.height_px, camera.width_px),
        )
