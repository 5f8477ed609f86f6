"""The optimiser, its learning rate from step to step, and both on their way to a checkpoint and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robot.errors import ConfigError
from training.config import OptimiserConfig
from training.policies.base import TrainablePolicy


def make_optimiser(policy: TrainablePolicy, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The optimiser of a run; each group's full learning rate is its ``full_lr``."""
    backbone = {id(parameter) for parameter in policy.backbone_parameters()}
    trainable = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) not in backbone], "full_lr": config.lr},
        {"params": [p for p in trainable if id(p) in backbone], "full_lr": config.backbone_lr},
    ]
    kind = torch.optim.AdamW if config.type == "adamw" else torch.optim.Adam
    optimiser: torch.optim.Optimizer = kind(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )
    return optimiser


def moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What it keeps of each parameter, by ``<parameter number>.<name>``."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def load_moments(optimiser: torch.optim.Optimizer, kept: dict[str, Tensor], step: int) -> None:
    """Inverse of ``moments``. Raises ConfigError where there are none after ``step`` steps."""
    if not kept and step > 0:
        raise ConfigError("the checkpoint has no optimiser state: start from it with init_from instead")
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for key, value in kept.items():
        number, _, name = key.partition(".")
        like = parameters[int(number)]
        # In the parameter's own order in memory: the fused step does not look at strides.
        placed = torch.empty_like(like).copy_(value) if value.shape == like.shape else value.clone()
        state.setdefault(int(number), {})[name] = placed
    content = optimiser.state_dict()
    content["state"] = state
    optimiser.load_state_dict(content)


class Schedule:
    """Share of the full learning rates at each step: a linear warm-up, then what the configuration says."""

    def __init__(self, config: OptimiserConfig, steps: int, state: dict[str, float]) -> None:
        """Begin, or go on from what ``state`` said."""
        self._config, self._steps = config, steps
        self._plateau_share = state.get("plateau_share", 1.0)
        self._best = state.get("plateau_best", math.inf)
        self._waited = state.get("plateau_waited", 0.0)

    def state(self) -> dict[str, float]:
        """What it has to remember between two runs."""
        if not math.isfinite(self._best):
            return {}
        return {
            "plateau_share": self._plateau_share,
            "plateau_best": self._best,
            "plateau_waited": self._waited,
        }

    def share(self, step: int) -> float:
        """At a step, counted from 0."""
        config = self._config
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        if config.schedule == "constant":
            return 1.0
        if config.schedule == "plateau":
            return max(self._plateau_share, config.final_lr_share)
        progress = (step - config.warmup_steps) / max(1, self._steps - config.warmup_steps)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
        return config.final_lr_share + (1.0 - config.final_lr_share) * cosine

    def validated(self, loss: float) -> None:
        """Hear of a validation: the plateau's rule."""
        config = self._config
        if loss < self._best * (1.0 - config.plateau_threshold):
            self._best, self._waited = loss, 0.0
            return
        self._waited += 1.0
        if self._waited > config.plateau_patience:
            self._plateau_share *= config.plateau_factor
            self._waited = 0.0
