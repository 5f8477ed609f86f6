"""From a checkpoint to a bundle that runs without torch."""

from __future__ import annotations

import datetime
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.bundle import PARITY_USER, load_bundle
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
)
from robot.errors import BundleError, ConfigError
from robot.joints import JOINTS, N_JOINTS, UNITS
from robot.recording.reader import Dataset
from robot.seams import ByteArray
from training.checkpoint import Checkpoint, load_checkpoint
from training.data import Batch, Corpus
from training.policies.base import Inputs, TrainablePolicy

OPSET = 18
"""The newest that the quantiser and TensorRT's importer both take."""
GOLDEN_SAMPLES = 4
NOISE_LEVELS = 48
"""Noise of the noisy golden sample, up and down, of 255: enough that resizing it wrongly shows."""


class ExportedPolicy(nn.Module):
    """A policy with flat, unbatched inputs: pictures in the order of the cameras, state, pickup point."""

    def __init__(self, policy: TrainablePolicy) -> None:
        super().__init__()
        self.policy = policy
        self.cameras = policy.config.cameras

    def forward(self, *inputs: Tensor) -> Tensor:
        """Pictures (H, W, 3) uint8, state (6,), pickup (2,) to actions (K, 6), user units."""
        *images, state, pickup_xy_m = inputs
        batched = {camera: image[None] for camera, image in zip(self.cameras, images, strict=True)}
        actions: Tensor = self.policy.predict(Inputs(batched, state[None], pickup_xy_m[None]))[0]
        return actions


def export_bundle(
    checkpoint: Path,
    out: Path,
    *,
    name: str | None = None,
    camera_size_px: tuple[int, int] = (480, 640),
    execution: ExecutionConfig | None = None,
    datasets: tuple[Path, ...] = (),
    averaged: bool = True,
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

    Raises:
        ConfigError: no such checkpoint, or the datasets are gone.
        BundleError: the exported model does not reproduce the policy.
    """
    source = load_checkpoint(checkpoint)
    roots = datasets or tuple(Path(root) for root in source.train.datasets)
    absent = [str(root) for root in roots if not root.exists()]
    if absent:
        raise ConfigError(
            f"no dataset at {', '.join(absent)}: name one for the golden samples with --dataset"
        )
    if out.exists() and not (out / MANIFEST_FILE).is_file() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and no bundle: choose another folder")
    policy = source.build(averaged=averaged)
    corpus = Corpus(roots, source.policy, Path(source.train.cache_dir))
    corpus.open_images()
    golden = golden_samples(policy, corpus, camera_size_px)

    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_onnx(policy, camera_size_px, partial / MODEL_FILE)
    np.savez_compressed(partial / GOLDEN_FILE, allow_pickle=False, **golden)
    manifest = Manifest(
        name=name or source.folder.parent.parent.name or "act",
        policy_type=source.policy.type,
        cameras=tuple(
            CameraShape(name=camera, height_px=camera_size_px[0], width_px=camera_size_px[1])
            for camera in source.policy.cameras
        ),
        joints=JOINTS,
        units=UNITS,
        chunk_size=source.policy.chunk_size,
        fps=source.fps,
        conditioning=CONDITIONING,
        control_limits=_limits(corpus),
        execution=execution or ExecutionConfig(),
        provenance=_provenance(source, policy, roots),
        files={file: sha256_of(partial / file) for file in (MODEL_FILE, GOLDEN_FILE)},
    )
    (partial / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    load_bundle(partial)
    if out.exists():
        shutil.rmtree(out)
    partial.replace(out)
    return manifest


def write_onnx(policy: TrainablePolicy, camera_size_px: tuple[int, int], path: Path) -> None:
    """Export a policy to one ONNX file without batch dimension, and check the file.

    Raises:
        BundleError: the exporter wrote a graph that onnx refuses.
    """
    import onnx

    height, width = camera_size_px
    example = (
        *(torch.zeros(height, width, 3, dtype=torch.uint8) for _ in policy.config.cameras),
        torch.zeros(N_JOINTS),
        torch.zeros(len(CONDITIONING)),
    )
    names = [*(f"image_{camera}" for camera in policy.config.cameras), "state", "pickup_xy_m"]
    with warnings.catch_warnings():
        # The exporter warns about its own use of torch's and copyreg's older interfaces.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            ExportedPolicy(policy).eval(),
            example,
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=names,
            output_names=["actions"],
            verbose=False,
        )
    if program is None:
        raise BundleError("torch.onnx.export gave no program")
    program.save(str(path), external_data=False)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except onnx.checker.ValidationError as error:
        raise BundleError(f"the exported graph is not valid: {error}") from error


def golden_samples(
    policy: TrainablePolicy, corpus: Corpus, camera_size_px: tuple[int, int], count: int = GOLDEN_SAMPLES
) -> dict[str, NDArray[Any]]:
    """Recorded inputs, evenly spaced over the data, and the policy's actions for them, by array name.

    The pictures are enlarged from the policy's size, in blocks that look the same however they are made small
    again. So those of the last sample get noise of each pixel, which another way of resizing lets through.
    """
    rows = np.unique(np.linspace(0, len(corpus) - 1, count).astype(np.int64))
    batch: Batch = corpus.gather(rows)
    images = {camera: enlarged(pictures, camera_size_px) for camera, pictures in batch.images.items()}
    rng = np.random.default_rng(0)
    for pictures in images.values():
        # Two values, alike in all colours, so that the file stays small.
        noise = rng.choice([-NOISE_LEVELS, NOISE_LEVELS], (*camera_size_px, 1))
        pictures[-1] = np.clip(pictures[-1] + noise, 0, 255).astype(np.uint8)
    with torch.no_grad():
        actions = policy.predict(
            Inputs(
                {camera: torch.from_numpy(pictures) for camera, pictures in images.items()},
                torch.from_numpy(batch.state),
                torch.from_numpy(batch.pickup_xy_m),
            )
        )
    return {
        **{f"image_{camera}": pictures for camera, pictures in images.items()},
        "state": batch.state,
        "pickup_xy_m": batch.pickup_xy_m,
        "actions": actions.numpy(),
    }


def enlarged(images: ByteArray, size_px: tuple[int, int]) -> ByteArray:
    """(N, h, w, 3) to (N, height, width, 3) by repeating the nearest pixel."""
    rows = np.arange(size_px[0]) * images.shape[1] // size_px[0]
    columns = np.arange(size_px[1]) * images.shape[2] // size_px[1]
    return np.ascontiguousarray(images[:, rows[:, None], columns[None]])


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
        "golden_tolerance_user": PARITY_USER["fp32"],
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
