"""The manifest of a policy bundle: everything that must agree before the policy may move an arm."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError, model_validator

from inference.action_space import ACTION_WIDTHS, ActionSpace
from inference.ensembler import ExecutionConfig
from robot.config import Finite, Positive, StrictModel
from robot.errors import BundleError
from robot.joints import JOINTS, UNITS

MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"
GOLDEN_FILE = "golden.npz"
CONDITIONING = ("pickup_x_m", "pickup_y_m")
"""What a policy is told beside what it sees; one that heeds no coordinates has ``()`` instead."""


class CameraShape(StrictModel):
    """A camera whose RGB pictures the policy takes, at the size that it takes them."""

    name: str
    height_px: int = Field(ge=1)
    width_px: int = Field(ge=1)


class Range(StrictModel):
    """Smallest and largest goal of a joint in the training data, user units."""

    min: Finite
    max: Finite


class Manifest(StrictModel):
    """Content of ``manifest.json``."""

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1)
    policy_type: str
    cameras: tuple[CameraShape, ...]
    joints: tuple[str, ...]
    units: dict[str, str]
    """Unit of each joint and, where actions move the tool, of ``tool``: see ``units_of``."""
    action_space: ActionSpace = "joint_position"
    chunk_size: int = Field(ge=1)
    fps: Positive
    """Steps of a chunk, and of the observations, per second."""
    observation_steps: int = Field(default=1, ge=1, le=32)
    """Observations that the policy sees at once, 1 / fps apart, oldest first. With more than one, pictures
    and state have a leading axis of them; before the run's first there is only the first, repeated."""
    reads_state: bool = True
    """Whether the joints' positions are an input."""
    conditioning: tuple[str, ...]
    """``CONDITIONING`` where the coordinates of the pickup are an input, or ``()``."""
    start_pose: dict[str, Finite] | None = None
    """Where each joint stands when a run begins, user units; ``None`` begins where the arm is."""
    task: str | None = None
    """The twin's task that the policy was made for, see ``robot.twin.tasks``."""
    control_limits: dict[str, Range]
    """By joint, in every action space: where the arm was sent in the training data."""
    execution: ExecutionConfig
    provenance: dict[str, JsonValue]
    files: dict[str, str]
    """File name -> sha256 of its content, hexadecimal."""

    @model_validator(mode="after")
    def _check(self) -> Manifest:
        if self.joints != JOINTS:
            raise ValueError(
                f"joints must be {', '.join(JOINTS)} in this order, got {', '.join(self.joints)}"
            )
        units = units_of(self.action_space)
        if self.units != units:
            raise ValueError(f"units must be {units} for {self.action_space}, got {self.units}")
        if set(self.control_limits) != set(JOINTS):
            raise ValueError("control_limits must name every joint once")
        if self.start_pose is not None and set(self.start_pose) != set(JOINTS):
            raise ValueError("start_pose must name every joint once")
        if self.conditioning not in {CONDITIONING, ()}:
            raise ValueError(
                f"conditioning must be {', '.join(CONDITIONING)}, or none, got {', '.join(self.conditioning)}"
            )
        if not (self.cameras or self.reads_state or self.conditioning):
            raise ValueError("a policy must read something: a camera, the state or the coordinates")
        for needed in (MODEL_FILE, GOLDEN_FILE):
            if needed not in self.files:
                raise ValueError(f"files must list {needed}")
        if any(Path(name).name != name for name in self.files):
            raise ValueError("files are names within the bundle, without folders")
        return self

    def input_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name of each model input -> its shape and ONNX Runtime type; only of what the policy reads."""
        steps = (self.observation_steps,) if self.observation_steps > 1 else ()
        shapes: dict[str, tuple[tuple[int, ...], str]] = {
            f"image_{camera.name}": ((*steps, camera.height_px, camera.width_px, 3), "tensor(uint8)")
            for camera in self.cameras
        }
        if self.reads_state:
            shapes["state"] = ((*steps, len(JOINTS)), "tensor(float)")
        if self.conditioning:
            shapes["pickup_xy_m"] = ((len(CONDITIONING),), "tensor(float)")
        return shapes

    def output_shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name of each model output -> its shape and ONNX Runtime type."""
        return {"actions": ((self.chunk_size, ACTION_WIDTHS[self.action_space]), "tensor(float)")}


def units_of(action_space: ActionSpace) -> dict[str, str]:
    """The units of a bundle: those of the joints and, where actions move the tool, metres for ``tool``."""
    return dict(UNITS) if action_space == "joint_position" else {**UNITS, "tool": "m"}


def sha256_of(path: Path) -> str:
    """Hash of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(bundle: Path) -> Manifest:
    """Read ``manifest.json`` of a bundle.

    Raises:
        BundleError: it is absent, no JSON, or has keys or values that cannot be right; all are named.
    """
    path = bundle / MANIFEST_FILE
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{bundle} is no policy bundle: it has no {MANIFEST_FILE}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, p['loc'])) or 'manifest'}: {p['msg']}" for p in error.errors()
        )
        raise BundleError(f"{path}: {problems}") from error
