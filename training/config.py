"""Configuration of a training run: YAML read into strict models, any of it overridable as ``key=value``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from inference.ensembler import ExecutionConfig
from robot.config import Positive, StrictModel, checked, read_yaml
from robot.errors import ConfigError
from training.settings import put

REPORTED_SEED = 1000
"""With which ``so101 eval`` draws its trials unless told otherwise; nothing may be selected on them."""


class Section(StrictModel, use_attribute_docstrings=True):
    """A part of a run's configuration; what stands below a field is its description in docs/training.md."""


class OptimiserConfig(Section):
    """Adam or AdamW, a linear warm-up and then a schedule, all counted in steps."""

    type: Literal["adamw", "adam"] = "adamw"
    """Adam adds the weight decay to the gradient, AdamW takes it off the weights."""
    lr: Positive = 1e-3
    """Full learning rate."""
    backbone_lr: Positive = 1e-3
    """Full learning rate of the image backbones; a pretrained one wants about a tenth of ``lr``."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square, each from 0 to below 1."""
    weight_decay: float = Field(default=1e-4, ge=0.0)
    """Pull of the weights towards zero."""
    warmup_steps: int = Field(default=500, ge=0)
    """Steps in which the learning rate rises from nought to its full height."""
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    """After the warm-up: a cosine down to the last step, the full rate, or the full rate times
    ``plateau_factor`` whenever the validation loss has stopped falling."""
    final_lr_share: float = Field(default=0.02, ge=0.0, le=1.0)
    """Cosine: learning rate at the last step as a share of ``lr``; plateau: the least it falls to."""
    plateau_factor: float = Field(default=0.5, gt=0.0, lt=1.0)
    """By what the learning rate is multiplied on a plateau."""
    plateau_patience: int = Field(default=2, ge=0)
    """Validations without progress that are let pass; the one after them lowers the learning rate."""
    plateau_threshold: float = Field(default=0.01, ge=0.0, lt=1.0)
    """Progress is a validation loss below the best one by this share of it."""
    grad_clip: Positive = 10.0
    """Largest norm of the whole gradient."""
    ema_decay: float = Field(default=0.999, ge=0.0, lt=1.0)
    """Of the running mean of the weights that is validated and exported; 0 switches it off."""

    @field_validator("betas")
    @classmethod
    def _decays(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"each must be from 0 to below 1, got {list(betas)}")
        return betas


class AugmentConfig(Section):
    """What is done to a batch so that the policy does not believe its inputs more than it should."""

    pickup_noise_m: float = Field(default=0.012, ge=0.0, le=0.1)
    """Standard deviation of each coordinate's noise in a noisy sample. A camera map has about 0.010."""
    pickup_noisy_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the samples whose coordinates are noisy; the others are clean."""
    pickup_dropout: float = Field(default=0.05, ge=0.0, le=1.0)
    """Share of the samples whose coordinate token is replaced by "not given"."""
    state_noise: float = Field(default=0.3, ge=0.0)
    """Standard deviation of the noise on the state, user units (degrees, percent)."""
    max_camera_delay_frames: int = Field(default=2, ge=0, le=30)
    """Pictures are taken 0 to this many frames before the state, each camera by itself."""
    brightness: float = Field(default=0.1, ge=0.0, le=1.0)
    """Largest shift of all pixels, as a share of full scale."""
    contrast: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Largest relative change of the distance of a pixel from mid grey."""
    saturation: float = Field(default=0.0, ge=0.0, le=1.0)
    """Largest relative change of the distance of a pixel from its grey. Off: colour tells things apart."""
    channel_gain: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Largest relative change of red, green and blue, each by itself, as another white balance does. Off, as
    ``saturation`` is: wanted for a camera or a light that the data do not show."""
    sharpness: float = Field(default=0.0, ge=0.0, le=1.0)
    """Largest relative change of what a Gaussian blur takes away: at 1 from fully blurred to twice as sharp.
    Off: a policy's small pictures have little to lose. Wanted where the focus may change."""
    blur_px: float = Field(default=1.0, gt=0.0, le=16.0)
    """Standard deviation of that blur, pixels of the policy's size."""
    erase_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the pictures with a rectangle of one random colour in them. Off: it may hide the object."""
    erase_side: float = Field(default=0.3, gt=0.0, le=1.0)
    """Longest side of that rectangle as a share of the picture's."""
    shift_px: int = Field(default=0, ge=0, le=64)
    """Largest shift of a picture in each direction, pixels of the policy's size, edges repeated. Off, as is
    all that moves pictures: a pixel of an overhead picture is millimetres on the table, and what moved no
    longer fits the coordinates."""
    rotate_deg: float = Field(default=0.0, ge=0.0, le=45.0)
    """Largest turn of a picture about its middle, degrees, edges repeated."""
    zoom: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Largest relative change of a picture's size about its middle, edges repeated."""
    moved_cameras: tuple[str, ...] | None = None
    """Cameras whose pictures ``shift_px``, ``rotate_deg`` and ``zoom`` move, for instance the wrist's alone;
    ``null``: all."""


class RolloutsConfig(Section):
    """Trials on the twin while training, by which the best checkpoint is chosen: the loss does not tell."""

    every: int = Field(ge=1)
    """Steps between two rounds; each begins with a checkpoint. The last step has one in any case."""
    task: str = "pick_place"
    """Task on the twin."""
    episodes: int = Field(default=20, ge=1)
    """Trials in a round, the same ones in each."""
    seed: int = Field(default=77_000, ge=0)
    """Seed of the trials; not the one that success is reported with."""
    width_px: int | None = Field(default=None, ge=16, le=1920)
    """Width of the rendered pictures, their height in the policy's proportion; ``null``: the policy's size,
    which is quick but is not resized as a camera's picture is."""
    coordinate_error_m: float = Field(default=0.0, ge=0.0, le=0.1)
    """Standard deviation of the error of each pickup coordinate."""
    jobs: int = Field(default=1, ge=1)
    """Processes."""
    execution: ExecutionConfig = ExecutionConfig()
    """How chunks are executed, as in ``so101 export``."""

    @field_validator("seed")
    @classmethod
    def _not_reported(cls, seed: int) -> int:
        if seed == REPORTED_SEED:
            raise ValueError(f"{seed} is what so101 eval reports with: a policy chosen on it looks too good")
        return seed


class TrainConfig(Section):
    """One training run."""

    datasets: tuple[str, ...] = Field(min_length=1)
    """Folders of LeRobot v3.0 datasets, relative to the working directory."""
    policy: str = "act_small"
    """Name of a shipped policy configuration (``so101 policies``) or path of a YAML file."""
    output_dir: str
    """Folder of the run: checkpoints, ``log.jsonl``, TensorBoard. A run that lies there is resumed."""
    cache_dir: str = "outputs/cache"
    """Decoded pictures at the policy's size are kept here between runs."""
    init_from: str | None = None
    """Checkpoint whose weights and normalisation are the start; for fine-tuning after DAgger."""
    steps: int = Field(default=20_000, ge=1)
    """Optimiser steps of the whole run."""
    batch_size: int = Field(default=64, ge=1)
    """Samples in a step, those of all processes together."""
    seed: int = Field(default=0, ge=0)
    """Of weights, order, augmentation and validation split."""
    optimiser: OptimiserConfig = OptimiserConfig()
    """The optimiser and its schedule."""
    augment: AugmentConfig = AugmentConfig()
    """Noise on the inputs."""
    rollouts: RolloutsConfig | None = None
    """Trials on the twin that choose ``checkpoints/best``; ``null``: none."""
    validation_share: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of the episodes that are held out; validation L1 does not rank policies, rollouts do."""
    validate_every: int = Field(default=1000, ge=1)
    """Steps between two validations; there is one at the last step too."""
    log_every: int = Field(default=50, ge=1)
    """Steps between two entries of the log."""
    checkpoint_every: int = Field(default=2000, ge=1)
    """Steps between two checkpoints: what a kill can cost. There is one at the last step too."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: a CUDA device where there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16`` is autocast, on a CPU too; the weights stay fp32. fp32 on CUDA multiplies in TF32."""
    compile: Literal["auto"] | bool = False
    """``torch.compile`` of the loss, which takes a minute at the start; ``auto``: on CUDA where there is a
    C++ compiler."""
    channels_last: bool = True
    """Convolutions work on pictures as they lie in memory, colours innermost."""
    prefetch: int = Field(default=2, ge=0, le=64)
    """Batches that threads prepare ahead; 0: each when it is needed. The weights do not depend on it."""
    threads: int = Field(default=2, ge=1, le=256)
    """Threads of torch on the CPU, in each process."""

    def differences(self, later: TrainConfig) -> list[str]:
        """What makes ``later`` another run than this one, as ``key before -> after``; not ``MAY_CHANGE``."""
        before, after = _flat(self), _flat(later)
        may_change = MAY_CHANGE
        if self.optimiser.schedule == "plateau":
            may_change -= {"validate_every"}
        return [
            f"{key} {before[key]!r} -> {after[key]!r}"
            for key in after
            if key not in may_change and before[key] != after[key]
        ]


MAY_CHANGE = frozenset(
    {
        "output_dir",
        "cache_dir",
        "policy",
        "device",
        "threads",
        "compile",
        "channels_last",
        "prefetch",
        "rollouts",
        "validate_every",
        "log_every",
        "checkpoint_every",
    }
)
"""Settings that may differ where a run goes on: where and how fast, not what is trained. The policy is
compared by its shape, not by its name."""


def _flat(config: TrainConfig) -> dict[str, object]:
    """Settings by name, those of a section as ``section.name``; ``rollouts`` as a whole."""
    flat: dict[str, object] = {"rollouts": config.rollouts}
    for key, value in config.model_dump(exclude={"rollouts"}).items():
        flat |= {f"{key}.{name}": v for name, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def load_train_config(path: Path, settings: Sequence[str] = ()) -> TrainConfig:
    """Read a training run's YAML.

    Args:
        path: the file.
        settings: ``key=value`` each, which take the place of what the file says: keys of a section with a
            dot (``optimiser.lr=3e-4``), values in YAML.

    Raises:
        ConfigError: something is wrong; the message names it, and the nearest known key for a misspelt one.
    """
    content = read_yaml(path)
    for setting in settings:
        put(content, setting, TrainConfig)
    config: TrainConfig = checked(content, TrainConfig, str(path))
    if config.optimiser.schedule == "plateau" and config.validation_share == 0.0:
        raise ConfigError(f"{path}: schedule 'plateau' needs a validation_share above 0")
    return config
