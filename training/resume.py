"""Whether a run may go on from a checkpoint, and what it may not change."""

from __future__ import annotations

from robot.errors import ConfigError
from training.checkpoint import Checkpoint
from training.config import TrainConfig
from training.policies.base import PolicyShape


def check_same_policy(checkpoint: Checkpoint | None, policy: PolicyShape) -> None:
    """Raise a ConfigError that names the differences where the checkpoint's policy is another."""
    if checkpoint is None:
        return
    theirs = checkpoint.policy.model_dump(exclude={"pretrained"})
    ours = policy.model_dump(exclude={"pretrained"})
    different = [
        f"{key} {theirs.get(key)!r} -> {ours[key]!r}" for key in ours if theirs.get(key) != ours[key]
    ]
    if different:
        raise ConfigError(f"{checkpoint.folder} is of another policy: {', '.join(different)}")


def check_same_run(checkpoint: Checkpoint | None, config: TrainConfig, data: str) -> None:
    """Raise a ConfigError that names the differences where the checkpoint is of another run.

    Args:
        checkpoint: to go on from, if any.
        config: the run.
        data: fingerprint of its data, which are compared wherever they lie now.
    """
    if checkpoint is None:
        return
    theirs = checkpoint.train
    if checkpoint.data is not None:
        theirs = theirs.model_copy(update={"datasets": config.datasets})
    different = theirs.differences(config)
    if checkpoint.data not in {None, data}:
        different.append("other data in the datasets")
    if different:
        raise ConfigError(
            f"{checkpoint.folder} is of another run: {', '.join(different)}. Choose another output_dir, or "
            f"delete {config.output_dir} to train afresh"
        )
