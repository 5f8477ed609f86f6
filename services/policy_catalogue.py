"""The policies there are: bundles that can run, and architectures that can be trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inference.manifest import read_manifest
from robot.config import config_root
from services.shipped import policies_root


def bundles(folders: list[Path] | None = None) -> list[dict[str, Any]]:
    """Name, parameters, inputs and action space of bundles, by default of all that are shipped.

    ``inputs`` are the shapes of what the policy reads, by name; those of pictures and state begin with the
    observation steps where there is more than one.
    ``parameters`` is ``None`` where the bundle's provenance does not say it.

    Raises:
        BundleError: one of the folders is no bundle.
    """
    root = policies_root()
    if folders is None:
        folders = sorted(path.parent for path in root.glob("*/manifest.json")) if root.is_dir() else []
    found = []
    for folder in folders:
        manifest = read_manifest(folder)
        parameters = manifest.provenance.get("parameters")
        found.append(
            {
                "name": manifest.name,
                "kind": "bundle",
                "path": str(folder),
                "policy_type": manifest.policy_type,
                "parameters": parameters if isinstance(parameters, int) else None,
                "inputs": {key: list(shape) for key, (shape, _) in manifest.input_shapes().items()},
                "action_space": manifest.action_space,
                "chunk_size": manifest.chunk_size,
                "observation_steps": manifest.observation_steps,
                "fps": manifest.fps,
            }
        )
    return found


def architectures() -> list[dict[str, Any]]:
    """The same of every shipped policy configuration, with pictures of the size that the network sees.

    Needs torch: the networks are built to be counted.
    """
    import torch

    from training.onnx_graph import example_inputs
    from training.policies.base import Stats
    from training.policies.registry import build, load_policy_config

    found = []
    for path in sorted((config_root() / "policies").glob("*.yaml")):
        config = load_policy_config(path.stem)
        with torch.device("meta"):  # shapes are enough to count by
            policy = build(config.untrained(), Stats.identity(config.action_width))
            inputs = example_inputs(config, (config.image_height_px, config.image_width_px))
        found.append(
            {
                "name": path.stem,
                "kind": "architecture",
                "policy_type": config.type,
                "parameters": sum(parameter.numel() for parameter in policy.parameters()),
                "inputs": {name: list(example.shape) for name, example in inputs.items()},
                "action_space": config.action_space,
                "chunk_size": config.chunk_size,
                "observation_steps": config.observation_steps,
            }
        )
    return found
