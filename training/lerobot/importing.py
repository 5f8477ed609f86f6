"""From a checkpoint of LeRobot to a bundle, and to a checkpoint that training goes on from."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from inference.manifest import Manifest, sha256_of
from robot.errors import ConfigError
from training.checkpoint import save_checkpoint
from training.config import OptimiserConfig, TrainConfig
from training.export import write_bundle
from training.lerobot.convert import Imported
from training.lerobot.golden import golden_samples
from training.lerobot.pretrained import CONFIG_FILE, WEIGHTS_FILE, Pretrained

POLICY_FILE = "policy.yaml"
TRAIN_FILE = "train.yaml"


def import_bundle(source: Pretrained, imported: Imported, out: Path, name: str) -> Manifest:
    """Write a bundle and load it back with every check.

    Raises:
        ConfigError: ``out`` holds something else than a bundle, or the dataset is not the policy's.
        BundleError: the exported model does not reproduce the policy.
    """
    return write_bundle(
        imported.policy,
        out,
        name=name,
        fps=imported.fps,
        camera_size_px={c: imported.config.picture_size_px(c) for c in imported.config.cameras},
        golden=golden_samples(imported),
        control_limits=imported.limits,
        execution=imported.execution,
        provenance=_provenance(source, imported),
    )


def import_checkpoint(imported: Imported, folder: Path) -> Path:
    """Write a checkpoint that ``so101 train`` goes on from, with its policy's YAML and a run's.

    Returns:
        The run's YAML, with LeRobot's learning rates and batch.

    Raises:
        ConfigError: the folder already holds checkpoints.
    """
    if (folder / "checkpoints").exists():
        raise ConfigError(f"{folder} holds checkpoints of another run: choose another folder")
    policy_file = folder / POLICY_FILE
    train = TrainConfig(
        datasets=("DATASET" if imported.dataset is None else str(imported.dataset.root),),
        policy=str(policy_file),
        output_dir=str(folder / "run"),
        init_from=str(folder),
        batch_size=8,
        optimiser=OptimiserConfig(lr=1e-5, backbone_lr=1e-5, weight_decay=1e-4, grad_clip=10.0),
    )
    save_checkpoint(
        folder / "checkpoints",
        step=0,
        policy=imported.policy,
        train=train,
        stats=imported.stats,
        fps=imported.fps,
        data="",
        optimiser={},
        averaged=None,
        metrics={},
    )
    train_file = folder / TRAIN_FILE
    contents = {
        policy_file: imported.config.model_dump(mode="json"),
        train_file: train.model_dump(mode="json", exclude_defaults=True),
    }
    for path, content in contents.items():
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return train_file


def _provenance(source: Pretrained, imported: Imported) -> dict[str, Any]:
    calibration = None if imported.unit_map is None else imported.unit_map.calibration
    return {
        "created_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "parameters": sum(parameter.numel() for parameter in imported.policy.parameters()),
        "policy": imported.config.model_dump(mode="json"),
        "lerobot": {
            "folder": source.folder.resolve().name,
            "config_sha256": sha256_of(source.folder / CONFIG_FILE),
            "weights_sha256": sha256_of(source.folder / WEIGHTS_FILE),
            "cameras": dict(imported.cameras),
            "units": imported.units.units,
            "units_known_by": imported.units.why,
            "calibration": None if calibration is None else calibration.hash,
        },
        "datasets": [] if imported.dataset is None else [{"name": imported.dataset.root.resolve().name}],
    }
