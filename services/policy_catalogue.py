"""The policies there are: bundles that can run, and architectures that can be trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inference.manifest import read_manifest
from robot.config import config_root
from services.shipped import policies_root


def bundles(folders: list[Path] | None = None) -> list[dict[str, Any]]:
    """Name, parameters, inputs and action space of bundles, by default of all that are shipped.

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
                "fps": manifest.fps,
            }
        )
    return found


def architectures() -> list[dict[str, Any]]:
    """The same of every shipped policy configuration. Needs torch: the networks are built to be counted."""
    import torch

    from training.policies.base import Stats
    from training.policies.registry import build, load_policy_config

    found = []
    for path in sorted((config_root() / "policies").glob("*.yaml")):
        config = load_policy_config(path.stem)
        with torch.device("meta"):  # shapes are enough to count by
            policy = build(config.untrained(), Stats.identity(config.action_width))
        pictures = {
            f"image_{camera}": [config.image_height_px, config.image_width_px, 3] for camera in config.cameras
        }
        found.append(
            {
                "name": path.stem,
                "kind": "architecture",
                "policy_type": config.type,
                "parameters": sum(parameter.numel() for parameter in policy.parameters()),
                "inputs": {**pictures, "state": [6], "pickup_xy_m": [2]},
                "action_space": config.action_space,
                "chunk_size": config.chunk_size,
            }
        )
    return found
