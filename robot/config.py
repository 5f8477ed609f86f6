"""Robot configuration: YAML read into strict models. Unknown keys are refused by name."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from robot.errors import ConfigError
from robot.joints import JOINTS
from robot.seams import FloatArray

Finite = Annotated[float, Field(allow_inf_nan=False)]
Row = tuple[float, float, float]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class StrictModel(BaseModel):
    """Base of every configuration model: frozen, unknown keys refused, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class JointValues(StrictModel):
    """One number for each joint: degrees, gripper percent (or these per second)."""

    shoulder_pan: Finite
    shoulder_lift: Finite
    elbow_flex: Finite
    wrist_flex: Finite
    wrist_roll: Finite
    gripper: Finite

    def array(self) -> FloatArray:
        """Shape (6,) in the order of ``JOINTS``."""
        return np.array([getattr(self, name) for name in JOINTS], dtype=np.float64)


class CameraConfig(StrictModel):
    """One camera: where it is opened, its size, and how it stands over the table where that is known."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    source: str | None = None
    """Device path (/dev/v4l/by-id/...), URL, or file:PATH; ``None`` on the twin, which brings its own."""
    width_px: int = Field(640, ge=16, le=4096)
    height_px: int = Field(480, ge=16, le=4096)
    fps: int = Field(30, ge=1, le=240)
    table_map: tuple[Row, Row, Row] | None = None
    """Homography from pixel (u, v, 1) to table (x_m, y_m, 1), row by row; ``None`` where not calibrated."""
    calibration: str | None = None
    """Path of the camera's calibration JSON (``lens``, ``table``, ``reference``), relative to this file."""


class ToolBox(StrictModel):
    """Where the tool point may be: a box along the axes of the base frame, corners (x, y, z) in metres."""

    min_m: tuple[Finite, Finite, Finite]
    max_m: tuple[Finite, Finite, Finite]

    @model_validator(mode="after")
    def _has_inside(self) -> ToolBox:
        for axis, low, high in zip("xyz", self.min_m, self.max_m, strict=True):
            if low >= high:
                raise ValueError(f"min_m must be below max_m for {axis}, got {low:g} and {high:g}")
        return self


class GateConfig(StrictModel):
    """Limits of what may be sent to the servos."""

    min_position: JointValues
    max_position: JointValues
    max_velocity: JointValues
    """Per second."""
    max_acceleration: JointValues
    """Per second squared."""
    table_margin_m: Positive = 0.002
    """Height above the table under which no part of a finger is commanded."""
    link_margin_m: Positive = 0.005
    """The same for every other moving part."""
    self_margin_m: Positive = 0.003
    """Distance under which two links are not commanded, where two or more joints lie between them."""
    tool_box: ToolBox | None = None
    """Where the tool point is kept; ``None``: wherever the joints let it go."""

    @field_validator("max_velocity", "max_acceleration")
    @classmethod
    def _above_zero(cls, values: JointValues) -> JointValues:
        for name in JOINTS:
            if getattr(values, name) <= 0:
                raise ValueError(f"{name} is {getattr(values, name):g}, it must be above 0")
        return values


class BowlConfig(StrictModel):
    """Where the policy puts what it picks, base frame."""

    x_m: Finite
    y_m: Finite
    radius_m: Positive


class WorkspaceConfig(StrictModel):
    """Pickup points that are offered: a ring sector around the pan axis, at table height."""

    min_radius_m: Positive
    max_radius_m: Positive
    max_pan_deg: Positive


class RobotConfig(StrictModel):
    """Everything about one robot that is not in its servos."""

    name: str
    kind: Literal["twin", "serial"]
    port: str | None = None
    leader_port: str | None = None
    calibration: str
    """Path of the follower's LeRobot calibration JSON, relative to this file."""
    leader_calibration: str | None = None
    """The same of the leader, where there is one."""
    control_hz: int = Field(60, ge=10, le=500)
    supply_v: Positive = 7.4
    """Nominal supply of the servos; voltage warnings are relative to it."""
    max_temperature_c: Positive = 65.0
    cameras: tuple[CameraConfig, ...]
    gate: GateConfig
    ready_pose: JointValues
    park_pose: JointValues
    ramp_velocity_dps: Positive = 60.0
    """Speed of the fastest joint in soft starts and parking."""
    bowl: BowlConfig | None = None
    workspace: WorkspaceConfig

    @model_validator(mode="after")
    def _check(self) -> RobotConfig:
        if self.kind == "serial" and self.port is None:
            raise ValueError("kind 'serial' needs 'port', for instance /dev/serial/by-id/usb-...")
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise ValueError(f"camera names must differ, got {names}")
        low, high = self.gate.min_position.array(), self.gate.max_position.array()
        if not (low < high).all():
            raise ValueError("gate.min_position must be below gate.max_position for every joint")
        for key in ("ready_pose", "park_pose"):
            pose = getattr(self, key).array()
            if not ((low <= pose) & (pose <= high)).all():
                raise ValueError(f"{key} lies outside gate.min_position..max_position")
        return self

    @property
    def dt_s(self) -> float:
        """Length of a control tick in seconds."""
        return 1.0 / self.control_hz


def load_yaml(path: Path, model: type[StrictModel]) -> Any:
    """Read one YAML file into a strict model.

    Raises:
        ConfigError: the file is absent, cannot be read, is no YAML mapping, or has keys or values that cannot
            be right; the message names each of them, and the nearest known key for a misspelt one.
    """
    return checked(read_yaml(path), model, str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping. Raises ConfigError where it is absent, cannot be read or is something else."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"no configuration at {path}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8: {error.reason} at byte {error.start}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} must hold a mapping, not {type(raw).__name__}")
    return raw


def checked(raw: dict[str, Any], model: type[BaseModel], origin: str) -> Any:
    """Raw content as a model. Raises ConfigError as ``load_yaml`` does, beginning with ``origin``."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = [_describe(problem, model) for problem in error.errors()]
        raise ConfigError(f"{origin}: " + "; ".join(lines)) from error


def _describe(problem: Any, model: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{where}: {problem['msg']}"
    for part in problem["loc"][:-1]:
        if part in model.model_fields:  # else it is a place in a list
            model = model_in(model.model_fields[part].annotation) or model
    near = difflib.get_close_matches(str(problem["loc"][-1]), list(model.model_fields), n=1)
    return f"unknown key {where!r}" + (f", did you mean {near[0]!r}?" if near else "")


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, be it optional or one of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := model_in(part)) is not None), None)


CONFIG_ROOT = Path(__file__).resolve().parent.parent / "configs"
"""Where the shipped configurations lie in a checkout."""


def config_root() -> Path:
    """Folder of the shipped configurations, in a checkout or in an installed wheel."""
    installed = Path(__file__).resolve().parent.parent / "services" / "share" / "configs"
    return CONFIG_ROOT if CONFIG_ROOT.is_dir() else installed


def load_robot(name_or_path: str) -> tuple[RobotConfig, Path]:
    """Read a robot by the name of a shipped configuration (``twin``) or by path.

    Returns:
        The configuration and the folder its relative paths start from.

    Raises:
        ConfigError: there is no such robot; the message lists the shipped ones.
    """
    shipped = config_root() / "robots" / f"{name_or_path}.yaml"
    path = shipped if shipped.is_file() else Path(name_or_path)
    if not path.is_file():
        known = sorted(p.stem for p in (config_root() / "robots").glob("*.yaml"))
        raise ConfigError(f"no robot {name_or_path!r}: give a YAML file or one of {', '.join(known)}")
    config: RobotConfig = load_yaml(path, RobotConfig)
    return config, path.resolve().parent
