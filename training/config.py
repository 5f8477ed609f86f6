"""Configuration of a training run: YAML read into strict models."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from robot.config import Positive, StrictModel, load_yaml


class OptimiserConfig(StrictModel):
    """AdamW with a linear warm-up and a cosine to the end, both counted in steps."""

    lr: Positive = 1e-3
    backbone_lr: Positive = 1e-3
    """Learning rate of the image backbones; a pretrained one wants about a tenth of ``lr``."""
    weight_decay: float = Field(default=1e-4, ge=0.0)
    warmup_steps: int = Field(default=500, ge=0)
    final_lr_share: float = Field(default=0.02, ge=0.0, le=1.0)
    """Learning rate at the last step as a share of ``lr``."""
    grad_clip: Positive = 10.0
    """Largest norm of the whole gradient."""
    ema_decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    """Of the running mean of the weights that is validated and exported; 0 switches it off."""


class AugmentConfig(StrictModel):
    """What is done to a batch so that the policy does not believe its inputs more than it should."""

    pickup_noise_m: float = Field(default=0.012, ge=0.0, le=0.1)
    """Standard deviation of each coordinate's noise in a noisy sample. A camera map has about 0.010."""
    pickup_noisy_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the samples whose coordinates are noisy; the others are clean."""
    pickup_dropout: float = Field(default=0.05, ge=0.0, le=1.0)
    """Share of the samples whose coordinate token is replaced by "not given"."""
    state_noise: float = Field(default=0.3, ge=0.0)
    """Standard deviation of the noise on the state, user units (degrees, percent)."""
    brightness: float = Field(default=0.1, ge=0.0, le=1.0)
    """Largest shift of all pixels, as a share of full scale."""
    contrast: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Largest relative change of the distance of a pixel from mid grey."""
    shift_px: int = Field(default=2, ge=0, le=64)
    """Largest shift of a picture in each direction, pixels of the policy's size, edges repeated."""
    max_camera_delay_frames: int = Field(default=2, ge=0, le=30)
    """Pictures are taken 0 to this many frames before the state, each camera by itself."""


class TrainConfig(StrictModel):
    """One training run."""

    datasets: tuple[str, ...] = Field(min_length=1)
    """Folders of LeRobot v3.0 datasets, relative to the working directory."""
    policy: str = "act_small"
    """Name of a shipped policy configuration or path of a YAML file."""
    output_dir: str
    cache_dir: str = "outputs/cache"
    """Decoded pictures at the policy's size are kept here between runs."""
    init_from: str | None = None
    """Checkpoint whose weights and normalisation are the start; for fine-tuning after DAgger."""
    steps: int = Field(default=20_000, ge=1)
    batch_size: int = Field(default=64, ge=1)
    seed: int = Field(default=0, ge=0)
    optimiser: OptimiserConfig = OptimiserConfig()
    augment: AugmentConfig = AugmentConfig()
    validation_share: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of the episodes that are held out; validation L1 does not rank policies, rollouts do."""
    validate_every: int = Field(default=1000, ge=1)
    log_every: int = Field(default=50, ge=1)
    checkpoint_every: int = Field(default=2000, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16`` is autocast on a CUDA device; the weights stay fp32."""
    threads: int = Field(default=2, ge=1, le=256)

    def differences(self, later: TrainConfig) -> list[str]:
        """What makes ``later`` another run than this one, as ``key before -> after``; not ``MAY_CHANGE``."""
        before, after = _flat(self), _flat(later)
        return [
            f"{key} {before[key]!r} -> {after[key]!r}"
            for key in after
            if key not in MAY_CHANGE and before[key] != after[key]
        ]


MAY_CHANGE = frozenset(
    {
        "output_dir",
        "cache_dir",
        "policy",
        "device",
        "threads",
        "validate_every",
        "log_every",
        "checkpoint_every",
    }
)
"""Settings that may differ where a run goes on: where and how fast, not what is trained. The policy is
compared by its shape, not by its name."""


def _flat(config: TrainConfig) -> dict[str, object]:
    """Settings by name, those of a section as ``section.name``."""
    flat: dict[str, object] = {}
    for key, value in config.model_dump().items():
        flat |= {f"{key}.{name}": v for name, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def load_train_config(path: Path) -> TrainConfig:
    """Read a training run's YAML. Raises ConfigError naming what is wrong."""
    config: TrainConfig = load_yaml(path, TrainConfig)
    return config
