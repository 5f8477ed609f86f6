"""From a checkpoint to a bundle that runs without torch."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.bundle import load_bundle, parity_allowed
from inference.ensembler import ExecutionConfig
from inference.manifest import (
    CONDITIONING,
    GOLDEN_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    CameraShape,
    Manifest,
    Range,
    sha256_of,
    units_of,
)
from robot.errors import ConfigError
from robot.joints import JOINTS
from robot.recording.reader import Dataset
from robot.seams import Float32Array
from training.checkpoint import Checkpoint, load_checkpoint
from training.data import Corpus
from training.golden import golden_samples
from training.onnx_graph import CameraSizes, size_of, write_onnx
from training.policies.base import TrainablePolicy


def export_bundle(
    checkpoint: Path,
    out: Path,
    *,
    name: str | None = None,
    camera_size_px: tuple[int, int] = (480, 640),
    execution: ExecutionConfig | None = None,
    datasets: tuple[Path, ...] = (),
    averaged: bool = True,
    task: str | None = None,
) -> Manifest:
    """Write a bundle and load it back with every check.

    Args:
        checkpoint: folder of a checkpoint, or of a run for its newest one.
        out: folder of the bundle; an existing bundle there is replaced.
        name: name of the policy; the run's folder name where not given.
        camera_size_px: (height, width) of the robot's pictures.
        execution: recommended execution; the default of ``ExecutionConfig`` where not given.
        datasets: where golden samples come from, instead of the datasets of the training run.
        averaged: export the running mean of the weights (where there is one), not the last.
        task: the twin's task that the policy was made for; that of the run's rollouts where not given.

    Raises:
        ConfigError: no such checkpoint, the datasets are gone, or ``out`` holds something else than a bundle.
        BundleError: the exported model does not reproduce the policy.
    """
    _check_folder(out)
    source = load_checkpoint(checkpoint)
    roots = datasets or tuple(Path(root) for root in source.train.datasets)
    absent = [str(root) for root in roots if not root.exists()]
    if absent:
        raise ConfigError(
            f"no dataset at {', '.join(absent)}: name one for the golden samples with --dataset"
        )
    policy = source.build(averaged=averaged)
    corpus = Corpus(roots, source.policy, Path(source.train.cache_dir))
    corpus.open_images()
    return write_bundle(
        policy,
        out,
        name=name or source.folder.parent.parent.name or source.policy.type,
        fps=source.fps,
        camera_size_px=camera_size_px,
        golden=golden_samples(policy, corpus, camera_size_px),
        control_limits=_limits(corpus),
        execution=execution,
        start_pose=start_pose(corpus),
        task=task or (None if source.train.rollouts is None else source.train.rollouts.task),
        provenance=_provenance(source, policy, roots),
    )


def write_bundle(
    policy: TrainablePolicy,
    out: Path,
    *,
    name: str,
    fps: float,
    camera_size_px: CameraSizes,
    golden: dict[str, NDArray[Any]],
    control_limits: dict[str, Range],
    provenance: dict[str, Any],
    execution: ExecutionConfig | None = None,
    start_pose: dict[str, float] | None = None,
    task: str | None = None,
) -> Manifest:
    """Write a policy as a bundle and load it back with every check.

    Args:
        policy: with its weights, in evaluation mode.
        out: folder of the bundle; an existing bundle there is replaced when the new one is whole.
        name: name of the policy.
        fps: steps of a chunk per second.
        camera_size_px: (height, width) of the robot's pictures, of all or by camera.
        golden: inputs and ``actions`` by array name, see ``golden_samples``.
        control_limits: by joint, where the arm was sent in the training data.
        provenance: where the policy comes from, JSON.
        execution: recommended execution; the default of ``ExecutionConfig`` where not given.
        start_pose: where each joint stands when a run begins.
        task: the twin's task that the policy was made for.

    Raises:
        ConfigError: ``out`` holds something else than a bundle.
        BundleError: the exported model does not reproduce the policy.
    """
    _check_folder(out)
    config = policy.config
    sizes = {camera: size_of(camera, camera_size_px) for camera in config.cameras}
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_onnx(policy, camera_size_px, partial / MODEL_FILE)
    np.savez_compressed(partial / GOLDEN_FILE, allow_pickle=False, **golden)
    manifest = Manifest(
        name=name,
        policy_type=config.type,
        cameras=tuple(
            CameraShape(name=camera, height_px=height, width_px=width)
            for camera, (height, width) in sizes.items()
        ),
        joints=JOINTS,
        units=units_of(config.action_space),
        action_space=config.action_space,
        chunk_size=config.chunk_size,
        fps=fps,
        observation_steps=config.observation_steps,
        reads_state=config.reads_state,
        conditioning=CONDITIONING if config.reads_pickup else (),
        start_pose=start_pose,
        task=task,
        control_limits=control_limits,
        execution=execution or ExecutionConfig(),
        provenance={**provenance, "golden_tolerance": parity_allowed(config.action_space, "fp32")},
        files={file: sha256_of(partial / file) for file in (MODEL_FILE, GOLDEN_FILE)},
    )
    (partial / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    load_bundle(partial)
    if out.exists():
        shutil.rmtree(out)
    partial.replace(out)
    return manifest


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: name a folder for the bundle")
    if out.exists() and not (out / MANIFEST_FILE).is_file() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and no bundle: choose another folder")


def start_pose(corpus: Corpus) -> dict[str, float] | None:
    """Where the demonstrations begin, if only the tool is moved: pitch, roll and jaws then stay so.

    Of the first commands the one nearest to their median: single episodes may begin with a movement, and
    where they begin in different places the joints' medians are no pose of the same hand.
    """
    if corpus.policy.action_space == "joint_position":
        return None
    firsts = corpus.action[corpus.starts]
    first: Float32Array = firsts[np.abs(firsts - np.median(firsts, axis=0)).sum(axis=1).argmin()]
    return {joint: float(value) for joint, value in zip(JOINTS, first, strict=True)}


def _limits(corpus: Corpus) -> dict[str, Range]:
    low, high = corpus.action.min(0), corpus.action.max(0)
    return {joint: Range(min=float(low[i]), max=float(high[i])) for i, joint in enumerate(JOINTS)}


def _provenance(source: Checkpoint, policy: TrainablePolicy, roots: tuple[Path, ...]) -> dict[str, Any]:
    datasets = []
    for root in roots:
        dataset = Dataset(root)
        info = root / "meta" / "info.json"
        datasets.append(
            {
                "name": root.resolve().name,
                "episodes": len(dataset.episodes),
                "frames": dataset.total_frames,
                "info_sha256": sha256_of(info) if info.is_file() else None,
            }
        )
    return {
        "created_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git_sha": _git_sha(),
        "torch": torch.__version__,
        "parameters": sum(parameter.numel() for parameter in policy.parameters()),
        "step": source.step,
        "policy": source.policy.model_dump(mode="json"),
        "train": source.train.model_dump(mode="json"),
        "metrics": dict(source.metrics),
        "datasets": datasets,
    }


def _git_sha() -> str | None:
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
