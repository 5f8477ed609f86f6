"""Reading a ``pretrained_model`` folder of LeRobot: what it says, without converting any of it.

Two generations: since 0.4.0 normalisation is in ``policy_preprocessor.json`` and
``policy_postprocessor.json`` with their safetensors; before, it is in buffers among the weights. Nothing is
unpickled: a folder with ``pytorch_model.bin`` alone is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from robot.errors import ConfigError
from robot.seams import FloatArray

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TRAIN_FILE = "train_config.json"
PREPROCESSOR_FILE = "policy_preprocessor.json"
POSTPROCESSOR_FILE = "policy_postprocessor.json"
PREFIX = "model."
"""Of the network's tensors."""
EPSILON = 1e-8
"""LeRobot adds it to every standard deviation that it divides by."""

FeatureStats = dict[str, FloatArray]
"""``mean``, ``std``, ``min``, ``max``, ``q01``, ... of one feature, each (n,)."""

_HARMLESS_STEPS = frozenset({"rename_observations_processor", "to_batch_processor", "device_processor"})
"""Steps of a processor that change no number."""
_BUFFERS = ("normalize_inputs.buffer_", "normalize_targets.buffer_", "unnormalize_outputs.buffer_")


class FeatureFile(BaseModel):
    """One input or output in ``config.json``."""

    type: str
    shape: tuple[int, ...]


class ActFile(BaseModel):
    """What of LeRobot's ``config.json`` says what the network is and how it is run."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    input_features: dict[str, FeatureFile]
    output_features: dict[str, FeatureFile]
    normalization_mapping: dict[str, str] = Field(default_factory=dict)
    n_obs_steps: int = 1
    chunk_size: int = Field(ge=1)
    n_action_steps: int = Field(ge=1)
    vision_backbone: str
    replace_final_stride_with_dilation: bool = False
    pre_norm: bool
    dim_model: int
    n_heads: int
    dim_feedforward: int
    feedforward_activation: str
    n_encoder_layers: int
    n_decoder_layers: int
    use_vae: bool
    latent_dim: int
    n_vae_encoder_layers: int
    temporal_ensemble_coeff: float | None = Field(default=None, allow_inf_nan=False)
    dropout: float
    kl_weight: float
    use_peft: bool = False


@dataclass(frozen=True)
class Pretrained:
    """A checkpoint of LeRobot's ACT."""

    folder: Path
    config: ActFile
    tensors: dict[str, Tensor]
    """The network's, by name without ``model.``."""
    modes: dict[str, str]
    """How each feature is normalised: MEAN_STD, MIN_MAX, QUANTILES, QUANTILE10 or IDENTITY."""
    stats: dict[str, FeatureStats]
    """By feature, of those that the checkpoint brings statistics of."""
    trained_on: Path | None
    """The dataset that it was trained on, where it is on this machine."""

    @property
    def features(self) -> dict[str, FeatureFile]:
        """Inputs and outputs by name."""
        return {**self.config.input_features, **self.config.output_features}


def read_pretrained(folder: Path) -> Pretrained:
    """Read a checkpoint.

    Raises:
        ConfigError: it is none, of another policy, not whole, or has something that is not known here; the
            message names it and says what to do.
    """
    folder = _found(folder)
    content = _json(folder / CONFIG_FILE)
    kind = content.get("type")
    if kind != "act":
        raise ConfigError(
            f"{folder} is a policy of type {kind!r}: only LeRobot's ACT (type 'act') can be imported. Train "
            "one on the same dataset, here or with LeRobot"
        )
    if "input_features" not in content:
        raise ConfigError(
            f"{folder / CONFIG_FILE} has no input_features, it is from before LeRobot 0.2: load and save it "
            "with a LeRobot of 2025 first"
        )
    try:
        config = ActFile.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise ConfigError(f"{folder / CONFIG_FILE}: {problems}") from error
    if config.use_peft:
        raise ConfigError(f"{folder} holds adapters (use_peft), not weights: merge them with LeRobot first")
    everything = _tensors(folder / WEIGHTS_FILE)
    network = {
        name.removeprefix(PREFIX): tensor.float()
        for name, tensor in everything.items()
        if name.startswith(PREFIX)
    }
    features = {**config.input_features, **config.output_features}
    if (folder / PREPROCESSOR_FILE).is_file():
        modes, stats = _from_processors(folder, features)
    else:
        modes = {name: config.normalization_mapping.get(f.type, "IDENTITY") for name, f in features.items()}
        stats = _from_buffers(everything, features)
    return Pretrained(folder, config, network, modes, stats, _trained_on(folder))


def _found(folder: Path) -> Path:
    for place in (folder, folder / "pretrained_model"):
        if (place / CONFIG_FILE).is_file():
            return place
    raise ConfigError(
        f"{folder} is no checkpoint of LeRobot: it has no {CONFIG_FILE}. Give the folder pretrained_model, "
        "such as outputs/train/RUN/checkpoints/last/pretrained_model"
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing: the checkpoint was not copied whole") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Copy the checkpoint again") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no JSON object: copy the checkpoint again")
    return content


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        pickled = path.with_name("pytorch_model.bin").is_file()
        raise ConfigError(
            f"{path} is missing: "
            + (
                "pytorch_model.bin is a pickle, which is not read here. Save it as safetensors with LeRobot"
                if pickled
                else "the checkpoint was not copied whole"
            )
        )
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} is not whole: {error}. Copy the checkpoint again") from error


def _from_processors(
    folder: Path, features: dict[str, FeatureFile]
) -> tuple[dict[str, str], dict[str, FeatureStats]]:
    """How each feature is normalised, and its statistics: of inputs going in, of actions coming out."""
    before = _normaliser(folder / PREPROCESSOR_FILE, "normalizer_processor")
    after = _normaliser(folder / POSTPROCESSOR_FILE, "unnormalizer_processor")
    modes: dict[str, str] = {}
    stats: dict[str, FeatureStats] = {}
    for name, feature in features.items():
        config, known = after if feature.type == "ACTION" else before
        only = config.get("normalize_observation_keys")
        kept_as_is = only is not None and feature.type != "ACTION" and name not in only
        modes[name] = "IDENTITY" if kept_as_is else config["norm_map"].get(feature.type, "IDENTITY")
        if name in known:
            stats[name] = known[name]
    return modes, stats


def _normaliser(path: Path, wanted: str) -> tuple[dict[str, Any], dict[str, FeatureStats]]:
    """The step of a processor that normalises: its configuration and its statistics by feature."""
    steps = _json(path).get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ConfigError(f"{path} has no list of steps: copy the checkpoint again")
    names = [str(step.get("registry_name", step.get("class"))) for step in steps]
    strange = [name for name in names if name != wanted and name not in _HARMLESS_STEPS]
    if strange:
        raise ConfigError(
            f"{path} has the step {strange[0]!r}, which changes numbers in a way that is not known here"
        )
    if names.count(wanted) != 1:
        raise ConfigError(f"{path} has {names.count(wanted)} steps {wanted!r}, not one")
    step = steps[names.index(wanted)]
    config = step.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("norm_map"), dict):
        raise ConfigError(f"{path}: the step {wanted!r} has no norm_map: copy the checkpoint again")
    file = step.get("state_file")
    if file is None:
        return config, {}
    stats: dict[str, FeatureStats] = {}
    for key, tensor in _tensors(path.parent / Path(str(file)).name).items():
        feature, _, name = key.rpartition(".")
        stats.setdefault(feature, {})[name] = _flat(tensor)
    return config, stats


def _from_buffers(tensors: dict[str, Tensor], features: dict[str, FeatureFile]) -> dict[str, FeatureStats]:
    """Statistics among the weights, where dots of a feature's name are underscores."""
    stats: dict[str, FeatureStats] = {}
    for feature in features:
        for prefix in _BUFFERS:
            mine = f"{prefix}{feature.replace('.', '_')}."
            found = {key.removeprefix(mine): _flat(t) for key, t in tensors.items() if key.startswith(mine)}
            if found:
                stats[feature] = found
    return stats


def _flat(tensor: Tensor) -> FloatArray:
    values: FloatArray = tensor.double().reshape(-1).numpy().astype(np.float64)
    return values


def _trained_on(folder: Path) -> Path | None:
    """The dataset that ``train_config.json`` names, if it lies here."""
    path = folder / TRAIN_FILE
    dataset = _json(path).get("dataset") if path.is_file() else None
    root = dataset.get("root") if isinstance(dataset, dict) else None
    here = Path(root) if isinstance(root, str) else None
    return here if here is not None and (here / "meta" / "info.json").is_file() else None
