"""The training loop: AdamW, running mean of the weights, logs, checkpoints, exact resume.

Every random number of a step comes from (seed, step), so a run that was interrupted and resumed ends with
the same weights as one that was not.
"""

from __future__ import annotations

import json
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
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot.errors import ConfigError
from training.augment import augmented, camera_delays, to_device
from training.checkpoint import Checkpoint, load_checkpoint, newest_checkpoint, save_checkpoint
from training.config import OptimiserConfig, TrainConfig
from training.data import NO_PICKUP_STD_M, Corpus, in_batches, rows_of_step
from training.policies.base import Stats, TrainablePolicy
from training.policies.registry import build, load_policy_config

VALIDATION_SAMPLES = 2048

Log = dict[str, float | int | str]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """How a run ended."""

    checkpoint: Path
    step: int
    finished: bool
    """False when a signal ended it before the last step."""
    samples_per_s: float


def learning_rate_share(step: int, steps: int, config: OptimiserConfig) -> float:
    """Share of the full learning rate at a step: linear warm-up, then a cosine to ``final_lr_share``."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return config.final_lr_share + (1.0 - config.final_lr_share) * cosine


class Trainer:
    """One training run from its configuration; ``run`` does it."""

    def __init__(self, config: TrainConfig, report: Callable[[Log], None] = lambda entry: None) -> None:
        """Read the datasets and build, initialise or resume the policy.

        Args:
            config: the run; where ``output_dir`` has a checkpoint of the same run, it is resumed.
            report: is given every log entry.

        Raises:
            ConfigError: no such device, or the checkpoint to resume is of another policy or another run.
            DatasetError: a dataset cannot be used.
        """
        self.config = config
        self.output = Path(config.output_dir)
        self.device = _device(config.device)
        torch.set_num_threads(config.threads)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        self._report = report
        self._stop = threading.Event()

        resumed = load_checkpoint(self.output) if newest_checkpoint(self.output) is not None else None
        start = load_checkpoint(Path(config.init_from)) if config.init_from is not None else None
        policy_config = load_policy_config(config.policy)
        for other in (resumed, start):
            _check_same_policy(other, policy_config)
        self.corpus = Corpus([Path(root) for root in config.datasets], policy_config, Path(config.cache_dir))
        self._data = self.corpus.fingerprint()
        _check_same_run(resumed, config, self._data)
        self.train_rows, self.validation_rows = self.corpus.split(config.validation_share, config.seed)
        if not len(self.train_rows):
            raise ConfigError("no frames to train on: every frame is held out or has loss_mask 0")
        given = resumed or start
        self.stats: Stats = given.stats if given is not None else self.corpus.stats(self.train_rows)
        if self.stats.pickup_std.min() >= NO_PICKUP_STD_M:
            logger.warning("no dataset says where to pick up: the policy will not heed coordinates")
            self.corpus.pickup_given[:] = True  # so that the token of a coordinate learns to mean nothing

        torch.manual_seed(config.seed)
        self.policy = build(policy_config, self.stats).to(self.device)
        if given is not None:
            self.policy.load_state_dict(given.weights(averaged=resumed is None))
        self.optimiser = _optimiser(self.policy, config.optimiser)
        self.average: dict[str, Tensor] | None = None
        if config.optimiser.ema_decay > 0:
            state = resumed.weights() if resumed is not None else self.policy.state_dict()
            self.average = {name: value.detach().clone().to(self.device) for name, value in state.items()}
        self.step = 0
        if resumed is not None:
            self.step = resumed.step
            _load_moments(self.optimiser, resumed.optimiser(), self.step)
        self._metrics: dict[str, float] = {} if resumed is None else dict(resumed.metrics)

    def open_images(self, progress: Callable[[int], None] = lambda frames: None) -> None:
        """Decode the datasets' pictures where that has not been done; ``run`` does it too."""
        self.corpus.open_images(progress)

    def stop(self) -> None:
        """End ``run`` after the present step, with a checkpoint. May be called from a signal handler."""
        self._stop.set()

    def run(self) -> TrainResult:
        """Train to the last step, or until ``stop``, SIGTERM or ctrl-C; both end with a checkpoint.

        A run that had finished before is left as it is, with a warning that says so.
        """
        checkpoint = newest_checkpoint(self.output)
        if checkpoint is not None and self.step >= self.config.steps:
            logger.warning(
                "%s was finished before, at step %d: nothing was trained. To train on, start a run "
                "in another output_dir from it with init_from",
                self.output,
                self.step,
            )
            return TrainResult(checkpoint, self.step, True, 0.0)
        self.output.mkdir(parents=True, exist_ok=True)
        self.corpus.open_images()
        first, began_s = self.step, time.monotonic()
        with _logs(self.output, self._report) as log, _stopped_by_signals(self.stop):
            log(
                {
                    "event": "start",
                    "step": self.step,
                    "train_frames": len(self.train_rows),
                    "validation_frames": len(self.validation_rows),
                    "episodes": self.corpus.episodes,
                    "parameters": sum(p.numel() for p in self.policy.parameters()),
                    "device": str(self.device),
                }
            )
            since_s, since_step = began_s, first
            while self.step < self.config.steps and not self._stop.is_set():
                numbers = self._one_step()
                last = self.step == self.config.steps
                if self.step % self.config.log_every == 0 or last:
                    now_s = time.monotonic()
                    speed = (self.step - since_step) * self._batch_size / max(1e-9, now_s - since_s)
                    since_s, since_step = now_s, self.step
                    scalars = {name: float(value) for name, value in numbers.items()}
                    if not math.isfinite(scalars["loss"]):
                        raise ConfigError(f"the loss is {scalars['loss']} at step {self.step}: lower the lr")
                    log({"event": "train", "step": self.step, **scalars, "samples_per_s": speed})
                if len(self.validation_rows) and (self.step % self.config.validate_every == 0 or last):
                    self._metrics = self.validate()
                    log({"event": "validation", "step": self.step, **self._metrics})
                if self.step % self.config.checkpoint_every == 0 or last:
                    checkpoint = self.save()
            if checkpoint is None or self._stop.is_set():
                checkpoint = self.save()
            speed = (self.step - first) * self._batch_size / max(1e-9, time.monotonic() - began_s)
            finished = self.step >= self.config.steps
            log({"event": "end", "step": self.step, "finished": int(finished), "samples_per_s": speed})
        return TrainResult(checkpoint, self.step, finished, speed)

    @property
    def _batch_size(self) -> int:
        return min(self.config.batch_size, len(self.train_rows))

    def _one_step(self) -> dict[str, Tensor]:
        config = self.config
        rng = np.random.default_rng([config.seed, 2, self.step])
        torch.manual_seed(int(rng.integers(2**31)))
        rows = rows_of_step(self.train_rows, config.batch_size, config.seed, self.step)
        delays = camera_delays(config.augment, len(rows), len(self.policy.config.cameras), rng)
        inputs, labels = augmented(self.corpus.gather(rows, delays), config.augment, rng, self.device)
        share = learning_rate_share(self.step, config.steps, config.optimiser)
        for group in self.optimiser.param_groups:
            group["lr"] = group["full_lr"] * share
        self.policy.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            terms = self.policy.loss(inputs, labels)
        self.optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), config.optimiser.grad_clip)
        self.optimiser.step()
        self.step += 1
        self._update_average()
        return {
            **{name: value.detach() for name, value in terms.items()},
            "grad_norm": norm.detach(),
            "lr": torch.tensor(config.optimiser.lr * share),
        }

    @torch.no_grad()
    def _update_average(self) -> None:
        """Running mean of the weights; the decay grows from 0 so that the start is forgotten quickly."""
        if self.average is None:
            return
        decay = min(self.config.optimiser.ema_decay, (1 + self.step) / (10 + self.step))
        parameters = dict(self.policy.named_parameters())
        torch._foreach_lerp_(
            [self.average[name] for name in parameters],
            [p.detach() for p in parameters.values()],
            1.0 - decay,
        )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """L1 on held-out episodes, normalised and per joint kind in user units, with the mean weights."""
        kept = {name: value.clone() for name, value in self.policy.state_dict().items()}
        if self.average is not None:
            self.policy.load_state_dict(self.average)
        self.policy.eval()
        error, user_error, count = 0.0, np.zeros(self.stats.action_std.shape), 0
        for rows in in_batches(self.validation_rows, 256, VALIDATION_SAMPLES):
            inputs, labels = to_device(self.corpus.gather(rows), self.device)
            off = (self.policy.predict(inputs).float() - labels.actions).abs() * labels.valid[:, :, None]
            difference = off.sum((0, 1)).cpu().numpy()
            error += float((difference / self.stats.action_std).mean())
            user_error += difference
            count += int(labels.valid.sum())
        self.policy.load_state_dict(kept)
        count = max(1, count)
        found = {"val_l1": error / count}
        if self.policy.config.action_space == "joint_position":
            found["val_l1_arm_deg"] = float(user_error[:5].mean() / count)
            found["val_l1_gripper_pct"] = float(user_error[5] / count)
        else:
            found["val_l1_m"] = float(user_error.mean() / count)
        return found

    def save(self) -> Path:
        """Write a checkpoint of the present step and return its folder."""
        return save_checkpoint(
            self.output / "checkpoints",
            step=self.step,
            policy=self.policy,
            train=self.config,
            stats=self.stats,
            fps=self.corpus.fps,
            data=self._data,
            optimiser=_moments(self.optimiser),
            averaged=self.average,
            metrics=self._metrics,
        )


def train(
    config: TrainConfig,
    report: Callable[[Log], None] = lambda entry: None,
    decoding: Callable[[int], None] = lambda frames: None,
) -> TrainResult:
    """Run (or resume) one training run; see ``Trainer``."""
    trainer = Trainer(config, report)
    trainer.open_images(decoding)
    return trainer.run()


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("device 'cuda' was asked for, but torch sees no CUDA device: use 'cpu' or 'auto'")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def _check_same_policy(checkpoint: Checkpoint | None, policy: Any) -> None:
    if checkpoint is None:
        return
    theirs, ours = (
        checkpoint.policy.model_dump(exclude={"pretrained"}),
        policy.model_dump(exclude={"pretrained"}),
    )
    different = [f"{key} {theirs[key]!r} -> {ours[key]!r}" for key in ours if theirs[key] != ours[key]]
    if different:
        raise ConfigError(f"{checkpoint.folder} is of another policy: {', '.join(different)}")


def _check_same_run(checkpoint: Checkpoint | None, config: TrainConfig, data: str) -> None:
    if checkpoint is None:
        return
    if checkpoint.data is not None:  # the data themselves are compared, wherever they lie now
        theirs = checkpoint.train.model_copy(update={"datasets": config.datasets})
    else:
        theirs = checkpoint.train
    different = theirs.differences(config)
    if checkpoint.data not in {None, data}:
        different.append("other data in the datasets")
    if different:
        raise ConfigError(
            f"{checkpoint.folder} is of another run: {', '.join(different)}. Choose another output_dir, or "
            f"delete {config.output_dir} to train afresh"
        )


def _optimiser(policy: TrainablePolicy, config: OptimiserConfig) -> torch.optim.AdamW:
    backbone = {id(parameter) for parameter in policy.backbone_parameters()}
    trainable = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) not in backbone], "full_lr": config.lr},
        {"params": [p for p in trainable if id(p) in backbone], "full_lr": config.backbone_lr},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def _moments(optimiser: torch.optim.AdamW) -> dict[str, Tensor]:
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def _load_moments(optimiser: torch.optim.AdamW, moments: dict[str, Tensor], step: int) -> None:
    if not moments and step > 0:
        raise ConfigError("the checkpoint has no optimiser state: start from it with init_from instead")
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in moments.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    content = optimiser.state_dict()
    content["state"] = state
    optimiser.load_state_dict(content)


@contextmanager
def _logs(folder: Path, report: Callable[[Log], None]) -> Iterator[Callable[[Log], None]]:
    """A function that writes an entry to ``log.jsonl`` and TensorBoard and hands it to ``report``."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    with (
        (folder / "log.jsonl").open("a", encoding="utf-8") as lines,
        SummaryWriter(folder / "tensorboard") as board,
    ):

        def log(entry: Log) -> None:
            lines.write(json.dumps(entry) + "\n")
            lines.flush()
            if entry["event"] in {"train", "validation"}:
                for name, value in entry.items():
                    if isinstance(value, float):
                        board.add_scalar(f"{entry['event']}/{name}", value, int(entry["step"]))
            report(entry)

        yield log


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
