"""Loading a policy bundle: a folder that cannot be run wrong.

The order is: hashes, schema, names and shapes against the robot, golden parity on this machine, warm-up.
Any mismatch is a BundleError that names the difference.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from inference.manifest import GOLDEN_FILE, MODEL_FILE, Manifest, read_manifest, sha256_of
from inference.runtime import OnnxPolicy, Provider
from robot.config import RobotConfig
from robot.errors import BundleError
from robot.seams import Float32Array

Precision = Literal["fp32", "fp16", "int8"]

MODEL_FILES: dict[str, str] = {"fp32": MODEL_FILE, "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}

PARITY_USER: dict[str, float] = {"fp32": 0.05, "fp16": 0.5, "int8": 3.0}
"""Largest difference from the golden outputs, degrees or percent. fp32 differs by rounding only (about
1e-4, with TF32 on a GPU about 1e-2); a servo's tick is 0.09 degrees."""

WARM_UP_RUNS = 5


@dataclass(frozen=True)
class Bundle:
    """A bundle that passed every check and is ready to run."""

    folder: Path
    manifest: Manifest
    policy: OnnxPolicy
    precision: Precision
    parity_user: float
    """Largest difference from the golden outputs on this machine, user units."""


def load_bundle(
    folder: Path,
    robot: RobotConfig | None = None,
    *,
    provider: Provider = "cpu",
    precision: Precision = "fp32",
    threads: int = 1,
    cache: Path | None = None,
) -> Bundle:
    """Check a bundle and make it ready.

    Args:
        folder: the bundle.
        robot: the robot it shall drive; ``None`` skips that comparison.
        provider: execution provider, as asked for or an error.
        precision: which model file to run.
        threads: threads within one operator.
        cache: parent folder for TensorRT engines.

    Raises:
        BundleError: anything that does not match; the message names it.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        check_hash(folder / name, expected)
    if robot is not None:
        check_robot(manifest, robot)
    if precision not in MODEL_FILES:
        raise BundleError(f"unknown precision {precision!r}: use one of {', '.join(MODEL_FILES)}")
    model = MODEL_FILES[precision]
    if model not in manifest.files:
        raise BundleError(f"{folder} has no {precision} model ({model}), only {', '.join(manifest.files)}")
    engines = None if cache is None else cache / manifest.files[model][:16]
    policy = OnnxPolicy(folder / model, manifest, provider=provider, threads=threads, cache=engines)
    parity = check_golden(policy, folder / GOLDEN_FILE, PARITY_USER[precision])
    for _ in range(WARM_UP_RUNS):
        policy.run(_zeros(manifest))
    policy.forget_latency()
    return Bundle(folder, manifest, policy, precision, parity)


def check_hash(path: Path, expected: str) -> None:
    """Raise a BundleError where a file is absent or its content is not what the manifest says."""
    if not path.is_file():
        raise BundleError(f"{path.name} is missing in {path.parent}: the bundle was not copied whole")
    found = sha256_of(path)
    if found != expected:
        raise BundleError(
            f"{path.name} has sha256 {found[:12]}…, the manifest says {expected[:12]}…: "
            "the file was changed or damaged, copy the bundle again"
        )


def check_robot(manifest: Manifest, robot: RobotConfig) -> None:
    """Raise a BundleError where a robot lacks a camera, has it in another size, or cannot move as far."""
    cameras = {camera.name: camera for camera in robot.cameras}
    for camera in manifest.cameras:
        theirs = cameras.get(camera.name)
        if theirs is None:
            raise BundleError(
                f"the policy needs camera {camera.name!r}, {robot.name} has {', '.join(cameras) or 'none'}"
            )
        if (theirs.height_px, theirs.width_px) != (camera.height_px, camera.width_px):
            raise BundleError(
                f"camera {camera.name}: the policy takes {camera.width_px}x{camera.height_px}, robot "
                f"{robot.name} gives {theirs.width_px}x{theirs.height_px}: export with the robot's size"
            )
    low, high = robot.gate.min_position, robot.gate.max_position
    for joint, seen in manifest.control_limits.items():
        if seen.max < getattr(low, joint) or seen.min > getattr(high, joint):
            raise BundleError(
                f"{joint}: the policy was trained within {seen.min:.1f}..{seen.max:.1f}, robot {robot.name} "
                f"may only move within {getattr(low, joint):.1f}..{getattr(high, joint):.1f}"
            )


def check_golden(policy: OnnxPolicy, path: Path, tolerance_user: float) -> float:
    """Run the recorded inputs and compare with what training gave for them.

    Returns:
        The largest difference in user units.

    Raises:
        BundleError: it exceeds ``tolerance_user``, or the file lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            golden = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    inputs = policy.manifest.input_shapes()
    for name in (*inputs, "actions"):
        if name not in golden or not len(golden[name]):
            raise BundleError(f"{path.name} lacks the array {name!r}: export the bundle again")
    worst = 0.0
    for index, expected in enumerate(golden["actions"]):
        actions = policy.run({name: golden[name][index] for name in inputs})
        difference = np.abs(actions - expected).max()
        if not difference <= tolerance_user:  # also for NaN
            raise BundleError(
                f"golden sample {index}: this machine's actions differ from training's by {difference:.3g} "
                f"(degrees or percent), allowed are {tolerance_user}: do not use this bundle here"
            )
        worst = max(worst, float(difference))
    return worst


def _zeros(manifest: Manifest) -> dict[str, Float32Array]:
    return {
        name: np.zeros(shape, np.uint8 if dtype == "tensor(uint8)" else np.float32)
        for name, (shape, dtype) in manifest.input_shapes().items()
    }
