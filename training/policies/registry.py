"""Every policy that can be trained, by the ``type`` in its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from robot.config import config_root, load_yaml
from robot.errors import ConfigError
from training.policies.act import Act, ActConfig
from training.policies.base import PolicyShape, Stats, TrainablePolicy
from training.policies.lerobot_act import LeRobotAct, LeRobotActConfig
from training.policies.planar_act import PlanarAct, PlanarActConfig
from training.policies.planar_mlp import PlanarMlp, PlanarMlpConfig
from training.policies.planar_vit import PlanarVit, PlanarVitConfig
from training.policies.sequence_act import SequenceAct, SequenceActConfig
from training.policies.visuomotor import Visuomotor, VisuomotorConfig

POLICIES: dict[str, tuple[type[PolicyShape], type[TrainablePolicy]]] = {
    "act": (ActConfig, Act),
    "planar_act": (PlanarActConfig, PlanarAct),
    "planar_mlp": (PlanarMlpConfig, PlanarMlp),
    "planar_vit": (PlanarVitConfig, PlanarVit),
    "sequence_act": (SequenceActConfig, SequenceAct),
    "visuomotor": (VisuomotorConfig, Visuomotor),
    "lerobot_act": (LeRobotActConfig, LeRobotAct),
}
"""``type`` -> its configuration and its network."""


def config_class(type_name: object) -> type[PolicyShape]:
    """The configuration's class of a ``type``.

    Raises:
        ConfigError: there is no such policy; the message lists those there are.
    """
    if not isinstance(type_name, str) or type_name not in POLICIES:
        raise ConfigError(f"no policy of type {type_name!r}: type is one of {', '.join(sorted(POLICIES))}")
    return POLICIES[type_name][0]


def parse_policy_config(content: dict[str, Any]) -> PolicyShape:
    """A policy's configuration from JSON content. Raises ConfigError or pydantic's ValidationError."""
    return config_class(content.get("type")).model_validate(content)


def load_policy_config(name_or_path: str) -> PolicyShape:
    """Read a policy's shape by the name of a shipped configuration or by path.

    Raises:
        ConfigError: there is none, or something in it cannot be; the message names it.
    """
    folder = config_root() / "policies"
    shipped = folder / f"{name_or_path}.yaml"
    path = shipped if shipped.is_file() else Path(name_or_path)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise ConfigError(f"no policy {name_or_path!r}: give a YAML file or one of {known}")
    config: PolicyShape = load_yaml(path, config_class(_type_in(path)))
    return config


def build(config: PolicyShape, stats: Stats) -> TrainablePolicy:
    """The untrained network of a configuration."""
    return POLICIES[config.type][1](config, stats)


def _type_in(path: Path) -> object:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return "act"  # load_yaml says what is wrong with the file
    return content.get("type", "act") if isinstance(content, dict) else "act"
