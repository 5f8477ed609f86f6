"""Loading a policy bundle: a folder that cannot be run wrong.

The order is: hashes, schema, names and shapes against the robot, golden parity on this machine, warm-up.
Any mismatch is a BundleError that names the difference.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from inference.action_space import ActionSpace
from inference.manifest import GOLDEN_FILE, MANIFEST_FILE, MODEL_FILE, Manifest, read_manifest, sha256_of
from inference.runtime import OnnxPolicy, Provider
from robot.config import RobotConfig
from robot.errors import BundleError, UnreachableError
from robot.hand_ik import HandIk
from robot.joints import JOINTS
from robot.kinematics import Kinematics
from robot.model import load_arm
from robot.safety.clearance import ArmClearance
from robot.seams import Float32Array, FloatArray

Precision = Literal["fp32", "fp16", "int8"]

MODEL_FILES: dict[str, str] = {"fp32": MODEL_FILE, "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}

PARITY_USER: dict[str, float] = {"fp32": 0.05, "fp16": 0.5, "int8": 3.0}
"""Largest difference from the golden outputs, degrees or percent. fp32 differs by rounding only (about
1e-4, with TF32 on a GPU about 1e-2); a servo's tick is 0.09 degrees."""

PARITY_M: dict[str, float] = {"fp32": 1e-4, "fp16": 1e-3, "int8": 5e-3}
"""The same where actions are metres: about what those degrees move the tool of an outstretched arm."""

RANGE_TOLERANCE_USER = 2.0
"""So far, degrees or percent, a goal in the data may lie beyond what the robot may do: the gate clamps it
there, by less than the calibrations of two arms differ."""

START_SLACK_M = 0.0005
"""So much room a start pose may lack: half a millimetre is a servo's tick of an outstretched arm."""

WARM_UP_RUNS = 5


@dataclass(frozen=True)
class Bundle:
    """A bundle that passed every check and is ready to run."""

    folder: Path
    manifest: Manifest
    policy: OnnxPolicy
    precision: Precision
    parity_user: float
    """Largest difference from the golden outputs on this machine, units of the actions."""


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
    check_names(folder, manifest)
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
    parity = check_golden(policy, folder / GOLDEN_FILE, parity_allowed(manifest.action_space, precision))
    for _ in range(WARM_UP_RUNS):
        policy.run(_zeros(manifest))
    policy.forget_latency()
    return Bundle(folder, manifest, policy, precision, parity)


def parity_allowed(action_space: ActionSpace, precision: Precision) -> float:
    """Largest difference from the golden outputs, in the units of the policy's actions."""
    return (PARITY_USER if action_space == "joint_position" else PARITY_M)[precision]


def check_names(folder: Path, manifest: Manifest) -> None:
    """Raise a BundleError for what the manifest does not name: a model could read weights from it unseen."""
    strange = sorted({path.name for path in folder.iterdir()} - {MANIFEST_FILE, *manifest.files})
    if strange:
        raise BundleError(
            f"{folder} holds {', '.join(strange)}, which its manifest does not name: a bundle is only what "
            "was exported, take it out"
        )


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
    """Raise a BundleError for the first thing that a robot lacks.

    It must have the cameras, in the policy's size and not slower, and must be able to go where the data go
    and where runs begin.
    """
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
                f"{robot.name} gives {theirs.width_px}x{theirs.height_px}: open the camera at the policy's "
                "size, or export with the robot's"
            )
        if theirs.fps < manifest.fps:
            raise BundleError(
                f"camera {camera.name}: the policy was trained with {manifest.fps:g} pictures a second, "
                f"robot {robot.name} gives {theirs.fps}: set the camera's fps to {manifest.fps:g} or more"
            )
    for joint, seen in manifest.control_limits.items():
        low, high = (
            getattr(robot.gate.min_position, joint),
            getattr(robot.gate.max_position, joint),
        )
        if seen.min < low - RANGE_TOLERANCE_USER or seen.max > high + RANGE_TOLERANCE_USER:
            raise BundleError(
                f"{joint}: the policy was trained within {seen.min:.1f}..{seen.max:.1f}, robot {robot.name} "
                f"may only move within {low:.1f}..{high:.1f}: widen its gate if the arm can go there, or "
                "train on data of this robot"
            )
        start = seen.min if manifest.start_pose is None else manifest.start_pose[joint]
        if not low - RANGE_TOLERANCE_USER <= start <= high + RANGE_TOLERANCE_USER:
            raise BundleError(
                f"{joint}: the policy's runs begin at {start:.1f}, robot {robot.name} may only move within "
                f"{low:.1f}..{high:.1f}: widen its gate if the arm can go there, or export another start pose"
            )
    if manifest.start_pose is not None:
        _check_start_pose(np.array([manifest.start_pose[joint] for joint in JOINTS]), manifest, robot)


def _check_start_pose(pose: FloatArray, manifest: Manifest, robot: RobotConfig) -> None:
    low, high = robot.gate.min_position.array(), robot.gate.max_position.array()
    pose = np.clip(pose, low, high)
    room = ArmClearance(load_arm(), robot.gate)(pose)
    for what, room_m in zip(("the table", "the arm's own links", "the tool's box"), room, strict=True):
        if room_m < -START_SLACK_M:
            raise BundleError(
                f"the policy's runs begin in a pose that {robot.name} cannot take: it lacks "
                f"{-1e3 * room_m:.0f} mm of room to {what}; export another start pose"
            )
    if manifest.action_space != "joint_position":
        try:
            HandIk(Kinematics(), pose, low, high)
        except UnreachableError as error:
            raise BundleError(f"start pose of the policy: {error}") from error


def check_golden(policy: OnnxPolicy, path: Path, tolerance_user: float) -> float:
    """Run the recorded inputs and compare with what training gave for them.

    Returns:
        The largest difference, in the units of the actions.

    Raises:
        BundleError: it exceeds ``tolerance_user``, or the file does not hold samples of this policy.
    """
    inputs = policy.manifest.input_shapes()
    golden = _read_golden(path, {**inputs, **policy.manifest.output_shapes()})
    worst = 0.0
    unit = "(degrees or percent)" if policy.manifest.action_space == "joint_position" else "m"
    for index, expected in enumerate(golden["actions"]):
        actions = policy.run({name: golden[name][index] for name in inputs})
        difference = np.abs(actions - expected).max()
        if not difference <= tolerance_user:  # also for NaN
            raise BundleError(
                f"golden sample {index}: this machine's actions differ from training's by {difference:.3g} "
                f"{unit}, allowed are {tolerance_user}: do not use this bundle here"
            )
        worst = max(worst, float(difference))
    return worst


def _read_golden(path: Path, shapes: dict[str, tuple[tuple[int, ...], str]]) -> dict[str, NDArray[Any]]:
    """Arrays by name, each (samples, *shape), all of one and at least one sample."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            golden: dict[str, NDArray[Any]] = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    for name, (shape, kind) in shapes.items():
        if name not in golden:
            raise BundleError(f"{path.name} lacks the array {name!r}: export the bundle again")
        found, wanted = golden[name], np.dtype(_dtype(kind))
        if found.dtype != wanted or found.shape[1:] != shape or found.ndim == 0:
            raise BundleError(
                f"{path.name}: {name!r} is {found.dtype} {found.shape}, the manifest asks for {wanted} "
                f"{('samples', *shape)}: export the bundle again"
            )
    counts = {name: len(golden[name]) for name in shapes}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise BundleError(f"{path.name} has samples {counts}, not as many of each: export the bundle again")
    return golden


def _dtype(kind: str) -> type[np.generic]:
    """The array type of an ONNX Runtime type."""
    return np.uint8 if kind == "tensor(uint8)" else np.float32


def _zeros(manifest: Manifest) -> dict[str, Float32Array]:
    return {name: np.zeros(shape, _dtype(kind)) for name, (shape, kind) in manifest.input_shapes().items()}
