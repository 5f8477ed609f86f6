"""Corrections: a policy drives, the expert takes over where it goes wrong, and only that is learned.

The policy's own frames are recorded with ``loss_mask`` 0 (they are what led there), the expert's with
``intervention`` 1. Half of the episodes are taken over at a random moment, half only when the policy has
had its time and the cube is not in the bowl (Ross et al. 2011, with the taking-over of Kelly et al. 2019).
"""

from __future__ import annotations

import numpy as np

from inference.bundle import Bundle
from inference.ensembler import ExecutionConfig
from robot.seams import ArmState, Float32Array, FloatArray
from robot.twin.render import CAMERAS
from robot.twin.tasks import PickPlace
from training.demonstrations import Demonstrator
from training.episodes import FPS, Episode, Frame
from training.rollout import InlinePolicySource, drive
from training.stage import Stage
from training.variety import Variety, episode_rng

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
        task: what is to be done.
        variety: how different the episodes are.
    """

    def __init__(
        self,
        stage: Stage,
        bundle: Bundle,
        execution: ExecutionConfig,
        *,
        seed: int,
        task: PickPlace | None = None,
        variety: Variety | None = None,
    ) -> None:
        self.stage, self.bundle, self.execution, self.seed = stage, bundle, execution, seed
        self._demonstrator = Demonstrator(stage, task=task, variety=variety)

    def episode(self, number: int) -> Episode | None:
        """See EpisodeMaker; ``None`` where there was nothing to mend, or the expert could not."""
        stage, demonstrator = self.stage, self._demonstrator
        rng, task, variety = episode_rng(self.seed, number), demonstrator.task, demonstrator.variety
        layout = variety.confuse(task, task.sample(rng), self.seed, number)
        look, stiffness = variety.look(self.seed, number), variety.stiffness(self.seed, number)
        stage.camera_delay_s = float(rng.uniform(*demonstrator.options.camera_delay_s))
        stage.reset(layout, demonstrator.draw_start(rng), look=look, stiffness=stiffness)
        error_m = rng.normal(0.0, COORDINATE_NOISE_M, 2) * (rng.random() < 0.5)
        pickup = np.array(layout.told_xy_m) + error_m
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
            stop=lambda: task.success(stage.world) or stage.world.time_s >= until_s,
            on_tick=record,
        )
        if task.success(stage.world) or stage.world.confuser_in_bowl:
            return None  # nothing to mend, or nothing that the expert can mend
        speed = float(rng.uniform(0.9, 1.1))
        mended = demonstrator.finish(motion, rng, speed, frames, intervention=1)
        return None if mended is None else Episode(mended, layout)

    def _source(self, pickup_xy_m: Float32Array) -> InlinePolicySource:
        bundle = self.bundle
        return InlinePolicySource.of_bundle(
            self.stage, bundle.policy, bundle.manifest, pickup_xy_m, execution=self.execution
        )
