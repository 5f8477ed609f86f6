"""Which checkpoint of a run is the best: trials on the twin while it trains."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from robot.errors import ConfigError
from training.checkpoint import load_checkpoint
from training.config import RolloutsConfig

if TYPE_CHECKING:
    from training.trials import Trial

ROLLOUTS_FILE = "rollouts.json"
BEST = "best"
"""Link in a run's ``checkpoints`` to the best of them."""

log = logging.getLogger(__name__)


class Stopped(Exception):  # noqa: N818 - it is no error
    """A round was left because the run is to end."""


class Rollouts:
    """The rounds of one run, those that were done before it was interrupted too.

    Args:
        config: what a round is.
        output: folder of the run.
        steps: steps of the run.
    """

    def __init__(self, config: RolloutsConfig, output: Path, steps: int) -> None:
        self._config, self._output, self._steps = config, output, steps
        self._file = output / ROLLOUTS_FILE
        self._rounds: list[dict[str, float]] = []
        if self._file.is_file():
            content = json.loads(self._file.read_text(encoding="utf-8"))
            if content["config"] == config.model_dump(mode="json", exclude={"every", "jobs"}):
                self._rounds = content["rounds"]
            else:
                log.warning("%s is of other trials: the best is chosen anew", self._file)

    def due(self, step: int) -> bool:
        """Whether there is to be a round after so many steps that has not been done."""
        wanted = step == self._steps or (step > 0 and step % self._config.every == 0)
        return wanted and all(done["step"] != step for done in self._rounds)

    def run(self, checkpoint: Path, stopped: Callable[[], bool]) -> dict[str, float]:
        """One round with a checkpoint's mean weights; links ``checkpoints/best``.

        The bundle is written as ``so101 export`` would write it: what is tried is what will be run.

        Args:
            checkpoint: its folder.
            stopped: asked between trials whether to leave.

        Returns:
            ``success_rate``, ``wilson_low``, ``wilson_high``, ``successes``, ``episodes``, ``best_step``.

        Raises:
            Stopped: it was left; nothing is kept of it.
        """
        from training.evaluation import (
            EvaluationOptions,
            evaluate,
            wilson_95,
        )  # the twin, which few runs want
        from training.export import export_bundle

        config = self._config
        source = load_checkpoint(checkpoint)
        height, width = max(source.policy.picture_size_px(camera) for camera in source.policy.cameras)
        if config.width_px is not None:
            height, width = round(height * config.width_px / width), config.width_px
        bundle = self._output / ".rollouts"

        def heard(trials: list[Trial]) -> None:
            if stopped():
                raise Stopped

        try:
            export_bundle(checkpoint, bundle, camera_size_px=(height, width), execution=config.execution)
            options = EvaluationOptions(
                task=config.task, seed=config.seed, coordinate_error_m=config.coordinate_error_m
            )
            trials = evaluate(bundle, config.episodes, options, jobs=config.jobs, on_trials=heard)
        finally:
            shutil.rmtree(bundle, ignore_errors=True)
        successes = sum(trial.success for trial in trials)
        low, high = wilson_95(successes, len(trials))
        found = {
            "success_rate": successes / len(trials),
            "wilson_low": low,
            "wilson_high": high,
            "successes": successes,
            "episodes": len(trials),
        }
        self._keep({"step": source.step, **found})
        return {**found, "best_step": self.best_step}

    @property
    def best_step(self) -> int:
        """The step with most successes; of several the last, which has trained longest."""
        return int(max(self._rounds, key=lambda done: (done["successes"], done["step"]))["step"])

    def _keep(self, done: dict[str, float]) -> None:
        self._rounds = sorted([*self._rounds, done], key=lambda each: each["step"])
        content = {
            "config": self._config.model_dump(mode="json", exclude={"every", "jobs"}),
            "rounds": self._rounds,
        }
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=2), encoding="utf-8")
        partial.replace(self._file)
        checkpoints = self._output / "checkpoints"
        link = checkpoints / f".{BEST}"
        link.unlink(missing_ok=True)
        link.symlink_to(f"step_{self.best_step:08d}")
        link.replace(checkpoints / BEST)


def best_checkpoint(run: Path) -> Path:
    """The checkpoint of a run that did best in its rollouts. Raises ConfigError where there is none."""
    link = run / "checkpoints" / BEST
    if not link.is_dir():
        raise ConfigError(
            f"{run} has no best checkpoint: it is chosen by trials on the twin, which the run's section "
            "'rollouts' asks for"
        )
    return link.resolve()
