"""Checkpoints: a folder of safetensors and JSON that is either whole or not there, also after a power cut."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from robot.errors import ConfigError
from robot.recording.files import sync_file
from training.config import TrainConfig
from training.policies.base import PolicyShape, Stats, TrainablePolicy
from training.policies.registry import build, parse_policy_config

PREFIX = "step_"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says about itself; tensors are loaded when asked for."""

    folder: Path
    step: int
    """Steps that were done."""
    policy: PolicyShape
    train: TrainConfig
    stats: Stats
    fps: float
    """Steps of a chunk per second: the datasets' frame rate."""
    metrics: dict[str, float]
    data: str | None = None
    """Fingerprint of the data that were trained on (see ``Corpus``); older checkpoints have none."""
    schedule: dict[str, float] = field(default_factory=dict)
    """What the learning rate's schedule has to remember."""

    def weights(self, *, averaged: bool = True) -> dict[str, Tensor]:
        """State dict of the policy: the running mean of the weights where there is one, or the last."""
        mean = self.folder / "ema.safetensors"
        path = mean if averaged and mean.is_file() else self.folder / "model.safetensors"
        return dict(load_file(path))

    def optimiser(self) -> dict[str, Tensor]:
        """Moments of the optimiser by ``<parameter number>.<name>``."""
        return dict(load_file(self.folder / "optimiser.safetensors"))

    def build(self, *, averaged: bool = True) -> TrainablePolicy:
        """The policy with its weights, in evaluation mode."""
        policy = build(self.policy.untrained(), self.stats)
        policy.load_state_dict(self.weights(averaged=averaged))
        policy.eval()
        return policy


def stats_to_json(stats: Stats) -> dict[str, list[float]]:
    """Statistics as JSON lists."""
    return {name: [float(v) for v in values] for name, values in vars(stats).items()}


def stats_from_json(content: dict[str, Any]) -> Stats:
    """Inverse of ``stats_to_json``."""
    return Stats(**{name: np.array(values, np.float32) for name, values in content.items()})


def save_checkpoint(
    root: Path,
    *,
    step: int,
    policy: TrainablePolicy,
    train: TrainConfig,
    stats: Stats,
    fps: float,
    data: str,
    optimiser: dict[str, Tensor],
    averaged: dict[str, Tensor] | None,
    metrics: dict[str, float],
    schedule: dict[str, float] | None = None,
) -> Path:
    """Write ``root/step_NNNNNNNN``; it appears under its name only when complete and on the disk.

    Raises:
        ConfigError: it cannot be written, for want of room for instance.
    """
    final = root / f"{PREFIX}{step:08d}"
    partial = root / f".{final.name}.partial"
    with _or_not_at_all(partial):
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in policy.state_dict().items()},
            partial / "model.safetensors",
        )
        if averaged is not None:
            save_file(
                {k: v.detach().cpu().contiguous() for k, v in averaged.items()}, partial / "ema.safetensors"
            )
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in optimiser.items()},
            partial / "optimiser.safetensors",
        )
        config = {
            "step": step,
            "fps": fps,
            "data": data,
            "policy": policy.config.model_dump(mode="json"),
            "train": train.model_dump(mode="json"),
            "metrics": metrics,
            "schedule": schedule or {},
        }
        (partial / "config.json").write_text(json.dumps(config, indent=2, allow_nan=False), encoding="utf-8")
        (partial / "stats.json").write_text(json.dumps(stats_to_json(stats), indent=2), encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            sync_file(path)
        replaced = root / f".{final.name}.replaced"
        shutil.rmtree(replaced, ignore_errors=True)
        if final.exists():
            final.replace(replaced)
        partial.replace(final)
        sync_file(root)
        shutil.rmtree(replaced, ignore_errors=True)
    return final


@contextmanager
def _or_not_at_all(partial: Path) -> Iterator[None]:
    """What could not be written is taken away, so that it does not fill a full disk."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ConfigError(
            f"no checkpoint can be written in {partial.parent}: {error}. See to room and permissions there; "
            "a run that is started again goes on from its last checkpoint"
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint's folder, or the newest one of a training run's output folder.

    Raises:
        ConfigError: there is none, it is broken, or it is from something else.
    """
    folder = path if (path / "config.json").is_file() else newest_checkpoint(path)
    if folder is None:
        raise ConfigError(f"no checkpoint in {path}: give a folder step_... or the output_dir of a run")
    return _read(folder)


def newest_checkpoint(output_dir: Path) -> Path | None:
    """The checkpoint with the most steps in a run's output folder, or ``None`` where there is none.

    One that cannot be read is passed over with a warning.

    Raises:
        ConfigError: there are some, but none can be read.
    """
    folders = sorted((output_dir / "checkpoints").glob(f"{PREFIX}*"), reverse=True)
    for folder in folders:
        try:
            _read(folder)
        except ConfigError as error:
            log.warning("%s; it is passed over", error)
        else:
            return folder
    if folders:
        raise ConfigError(f"no checkpoint in {output_dir} can be read: delete it to train afresh")
    return None


def _read(folder: Path) -> Checkpoint:
    """A checkpoint whose files are all whole; of the tensors only the headers are read."""
    try:
        for tensors in {folder / "model.safetensors", *folder.glob("*.safetensors")}:
            with safe_open(tensors, "pt"):  # compares the file's length with what its header promises
                pass
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        stats = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
        return Checkpoint(
            folder,
            int(content["step"]),
            parse_policy_config(content["policy"]),
            TrainConfig.model_validate(content["train"]),
            stats_from_json(stats),
            float(content["fps"]),
            content["metrics"],
            content.get("data"),
            dict(content.get("schedule", {})),
        )
    except (OSError, KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise ConfigError(f"{folder} is broken or no checkpoint of this version: {error}") from error
