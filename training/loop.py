"""The training loop: steps, running mean of the weights, validation, rollouts, checkpoints, exact resume.

Every random number of a step comes from (seed, step), so a run that was interrupted and resumed ends with
the same weights as one that was not.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor

from robot.errors import ConfigError
from training.batches import Batches
from training.checkpoint import PREFIX, load_checkpoint, newest_checkpoint, save_checkpoint
from training.config import TrainConfig
from training.data import NO_PICKUP_STD_M, Corpus
from training.devices import compiled_loss, device_of, set_up
from training.optimisers import Schedule, load_moments, make_optimiser, moments
from training.parallel import Group
from training.policies.base import Inputs, Labels, Stats
from training.policies.registry import build, load_policy_config
from training.preflight import check
from training.resume import check_same_policy, check_same_run
from training.rollouts import Rollouts, Stopped
from training.train_log import Log, opened
from training.validation import validated

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """How a run ended."""

    checkpoint: Path
    step: int
    finished: bool
    """False when a signal ended it before the last step."""
    samples_per_s: float | None
    """``None`` where there was nothing left to train."""


class Trainer:
    """One training run from its configuration; ``run`` does it."""

    def __init__(self, config: TrainConfig, report: Callable[[Log], None] = lambda entry: None) -> None:
        """Read the datasets and build, initialise or resume the policy.

        Args:
            config: the run; where ``output_dir`` has a checkpoint of the same run, it is resumed.
            report: is given every log entry, in the first process of a group alone.

        Raises:
            ConfigError: no such device, the checkpoint to resume is of another policy or another run, or
                something of the data, the disk or the memory forbids the run (``training.preflight``).
        """
        self.config = config
        self.output = Path(config.output_dir)
        self.group = Group()
        self.device = device_of(config.device, self.group.local_rank)
        set_up(config.threads)
        self._report = report
        self._stop = threading.Event()

        resumed = load_checkpoint(self.output) if newest_checkpoint(self.output) is not None else None
        start = load_checkpoint(Path(config.init_from)) if config.init_from is not None else None
        policy_config = load_policy_config(config.policy)
        for other in (resumed, start):
            check_same_policy(other, policy_config)
        done = 0 if resumed is None else resumed.step
        ready = check(config, policy_config, self.device, processes=self.group.size, done=done)
        self.notes = ready.notes
        """What is worth knowing before it begins."""
        self.corpus = Corpus(ready.frames, policy_config, Path(config.cache_dir))
        self._data = self.corpus.fingerprint()
        check_same_run(resumed, config, self._data)
        self.train_rows, self.validation_rows = self.corpus.split(config.validation_share, config.seed)
        if not len(self.train_rows):
            raise ConfigError("no frames to train on: every frame is held out or has loss_mask 0")
        self.batches = Batches(self.corpus, self.train_rows, config, self.group, self.device)
        given = resumed or start
        self.stats: Stats = given.stats if given is not None else self.corpus.stats(self.train_rows)
        if self.stats.pickup_std.min() >= NO_PICKUP_STD_M:
            logger.warning("no dataset says where to pick up: the policy will not heed coordinates")
            self.corpus.pickup_given[:] = True  # so that the token of a coordinate learns to mean nothing

        torch.manual_seed(config.seed)
        self.policy = build(policy_config, self.stats)
        if given is not None:
            self.policy.load_state_dict(given.weights(averaged=resumed is None))
        self.policy.to(self.device)
        if config.channels_last:
            self.policy.to(memory_format=torch.channels_last)
        self._loss = compiled_loss(self.policy, config.compile, self.device)
        self.optimiser = make_optimiser(self.policy, config.optimiser)
        self.schedule = Schedule(config.optimiser, config.steps, {} if resumed is None else resumed.schedule)
        self._average: dict[str, Tensor] | None = None
        if config.optimiser.ema_decay > 0:
            state = resumed.weights() if resumed is not None else self.policy.state_dict()
            self._average = {
                name: torch.empty_like(p).copy_(state[name]) for name, p in self.policy.named_parameters()
            }
        self.step = 0
        if resumed is not None:
            self.step = resumed.step
            load_moments(self.optimiser, resumed.optimiser(), self.step)
        self._metrics: dict[str, float] = {} if resumed is None else dict(resumed.metrics)

    def open_images(self, progress: Callable[[int], None] = lambda frames: None) -> None:
        """Decode the datasets' pictures where that has not been done; ``run`` does it too."""
        self.corpus.open_images(progress)

    def stop(self) -> None:
        """End ``run`` after the present step, with a checkpoint. May be called from a signal handler."""
        self._stop.set()

    def run(
        self,
        decoding: Callable[[int], None] = lambda frames: None,
        stepped: Callable[[int], None] = lambda step: None,
    ) -> TrainResult:
        """Train to the last step, or until ``stop``, SIGTERM or ctrl-C; both end with a checkpoint.

        A run that had finished before is left as it is, with a warning that says so.

        Args:
            decoding: called with the number of pictures that were decoded, where that is done first.
            stepped: called with the number of steps that are done, after each.

        Raises:
            ConfigError: the loss or a weight is no longer finite, or a checkpoint cannot be written.
        """
        checkpoint = newest_checkpoint(self.output)
        rollouts = None
        if self.config.rollouts is not None:
            rollouts = Rollouts(self.config.rollouts, self.output, self.config.steps)
        complete = self.step >= self.config.steps and (rollouts is None or not rollouts.due(self.step))
        if checkpoint is not None and complete:
            logger.warning(
                "%s was finished before, at step %d: nothing was trained. To train on, start a run "
                "in another output_dir from it with init_from",
                self.output,
                self.step,
            )
            return TrainResult(checkpoint, self.step, True, None)
        self.output.mkdir(parents=True, exist_ok=True)
        with self.group.joined(self.device):
            if self.group.first:  # alone it decodes what is not decoded yet
                self.corpus.open_images(decoding)
            self.group.wait()
            if not self.group.first:
                self.corpus.open_images()
            with self._log() as log, _stopped_by_signals(self.stop):
                return self._train(log, rollouts, stepped)

    def _train(
        self, log: Callable[[Log], None], rollouts: Rollouts | None, stepped: Callable[[int], None]
    ) -> TrainResult:
        config, first, began_s = self.config, self.step, time.monotonic()
        log(
            {
                "event": "start",
                "step": self.step,
                "train_frames": len(self.train_rows),
                "validation_frames": len(self.validation_rows),
                "episodes": self.corpus.episodes,
                "parameters": sum(p.numel() for p in self.policy.parameters()),
                "device": str(self.device),
                "processes": self.group.size,
            }
        )
        since_s, since_step = began_s, first
        checkpoint: Path | None = None
        stopping = False
        if rollouts is not None and rollouts.due(self.step):
            self._roll_out(rollouts, self.save(), log)
        with self.batches.ahead(self.step) as batches:
            alone = self.group.size == 1
            while self.step < config.steps and not (stopping or (alone and self._stop.is_set())):
                numbers, stopping = self._one_step(*next(batches))
                last, checkpoint = self.step == config.steps, None
                stepped(self.step)
                if self.step % config.log_every == 0 or last:
                    scalars = self._scalars(numbers)
                    now_s = time.monotonic()
                    speed = (self.step - since_step) * self.batches.size / max(1e-9, now_s - since_s)
                    log({"event": "train", "step": self.step, **scalars, "samples_per_s": speed})
                if len(self.validation_rows) and (self.step % config.validate_every == 0 or last):
                    self._metrics = self.validate()
                    self._must_be_finite("validation loss", self._metrics["val_l1"])
                    self.schedule.validated(self._metrics["val_l1"])
                    log({"event": "validation", "step": self.step, **self._metrics})
                due = rollouts is not None and rollouts.due(self.step)
                if self.step % config.checkpoint_every == 0 or last or due:
                    checkpoint = self.save()
                if rollouts is not None and due and checkpoint is not None:
                    self._roll_out(rollouts, checkpoint, log)
                if self.step % config.log_every == 0:
                    since_s, since_step = time.monotonic(), self.step
        checkpoint = checkpoint or self.save()
        trained = self.step - first
        speed = trained * self.batches.size / max(1e-9, time.monotonic() - began_s) if trained else 0.0
        finished = self.step >= config.steps
        log({"event": "end", "step": self.step, "finished": int(finished), "samples_per_s": speed})
        return TrainResult(checkpoint, self.step, finished, speed if trained else None)

    def _one_step(self, inputs: Inputs, labels: Labels) -> tuple[dict[str, Tensor], bool]:
        """Scalars of the step, and whether a process of the group wants to stop."""
        config = self.config
        rng = np.random.default_rng([config.seed, 3, self.step])
        torch.manual_seed(int(rng.integers(2**31)) + self.group.rank)
        share = self.schedule.share(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = group["full_lr"] * share
        self.policy.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            terms = self._loss(inputs, labels)
        self.optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        stopping = self.group.mean_gradients(self.policy.parameters(), self._stop.is_set())
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), config.optimiser.grad_clip)
        self.optimiser.step()
        self.step += 1
        self._update_average()
        numbers = {name: value.detach() for name, value in terms.items()}
        numbers |= {"grad_norm": norm.detach(), "lr": torch.tensor(config.optimiser.lr * share)}
        return numbers, stopping

    def _scalars(self, numbers: dict[str, Tensor]) -> dict[str, float]:
        """Means over the processes, as floats. Raises ConfigError where the loss is not finite."""
        values = torch.stack([value.float().to(self.device) for value in numbers.values()])
        means = (self.group.summed(values) / self.group.size).tolist()
        scalars = dict(zip(numbers, means, strict=True))
        self._must_be_finite("loss", scalars["loss"])
        return scalars

    def _must_be_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise ConfigError(
                f"the {what} is {value} at step {self.step}: lower the lr, in another output_dir"
            )

    @torch.no_grad()
    def _update_average(self) -> None:
        """Running mean of the weights; the decay grows from 0 so that the start is forgotten quickly."""
        if self._average is None:
            return
        decay = min(self.config.optimiser.ema_decay, (1 + self.step) / (10 + self.step))
        parameters = dict(self.policy.named_parameters())
        torch._foreach_lerp_(
            [self._average[name] for name in parameters],
            [p.detach() for p in parameters.values()],
            1.0 - decay,
        )

    @property
    def average(self) -> dict[str, Tensor] | None:
        """State dict with the running mean of the weights and the present buffers; ``None``: switched off."""
        return None if self._average is None else {**self.policy.state_dict(), **self._average}

    def validate(self) -> dict[str, float]:
        """L1 on held-out episodes with the mean weights, see ``training.validation``."""
        average = self.average
        kept = {name: value.clone() for name, value in self.policy.state_dict().items()}
        if average is not None:
            self.policy.load_state_dict(average)
        try:
            found: dict[str, float] = validated(
                self.policy, self.corpus, self.validation_rows, self.group, self.device
            )
            return found
        finally:
            self.policy.load_state_dict(kept)

    def _roll_out(self, rollouts: Rollouts, checkpoint: Path, log: Callable[[Log], None]) -> None:
        if self.group.first:
            try:
                log({"event": "rollouts", "step": self.step, **rollouts.run(checkpoint, self._stop.is_set)})
            except Stopped:
                logger.warning(
                    "the rollouts of step %d were left; they are done when the run goes on", self.step
                )
        self.group.wait()

    def save(self) -> Path:
        """Write a checkpoint of the present step, in the first process alone, and return its folder.

        Raises:
            ConfigError: the weights are no longer finite, so that nothing could go on from them, or it cannot
                be written.
        """
        norms = [parameter.detach().float().norm() for parameter in self.policy.parameters()]
        self._must_be_finite("norm of the weights", float(torch.stack(norms).norm()))
        folder = self.output / "checkpoints" / f"{PREFIX}{self.step:08d}"
        if self.group.first:
            save_checkpoint(
                self.output / "checkpoints",
                step=self.step,
                policy=self.policy,
                train=self.config,
                stats=self.stats,
                fps=self.corpus.chunk_fps,
                data=self._data,
                optimiser=moments(self.optimiser),
                averaged=self.average,
                metrics=self._metrics,
                schedule=self.schedule.state(),
            )
        self.group.wait()
        return folder

    @contextmanager
    def _log(self) -> Iterator[Callable[[Log], None]]:
        if not self.group.first:
            yield lambda entry: None
            return
        with opened(self.output, self.step, self._report) as log:
            yield log


def train(
    config: TrainConfig,
    report: Callable[[Log], None] = lambda entry: None,
    decoding: Callable[[int], None] = lambda frames: None,
) -> TrainResult:
    """Run (or resume) one training run; see ``Trainer``."""
    return Trainer(config, report).run(decoding)


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and ctrl-C call ``stop`` inside; only the main thread can receive signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, frame: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
