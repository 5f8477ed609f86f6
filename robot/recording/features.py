"""The columns of a dataset: their types, their names and how LeRobot v3.0 spells them.

A *feature* is one column. Videos are features too, but live in mp4 files beside the table. Four numeric
kinds are written: ``float32``, ``float64``, ``int64`` and ``bool``. The layout on disk is the public
LeRobotDataset v3.0 format, so names such as ``observation.state`` and ``shoulder_pan.pos`` are LeRobot's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.joints import JOINTS

ACTION = "action"
STATE = "observation.state"
ENVIRONMENT_STATE = "observation.environment_state"
IMAGE_PREFIX = "observation.images."
SUCCESS = "success"
"""Column with what a person said of the episode: 1 success, 0 failure, -1 nothing, the same in all rows."""

MOTOR_NAMES: tuple[str, ...] = tuple(f"{joint}.pos" for joint in JOINTS)
"""What LeRobot calls the entries of ``action`` and ``observation.state``."""

_ARROW: dict[str, pa.DataType] = {
    "float32": pa.float32(),
    "float64": pa.float64(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
}
_KINDS = {"float32": "f", "float64": "f", "int64": "iu", "bool": "b"}


@dataclass(frozen=True)
class Feature:
    """One column: what numpy type, what shape per frame, what its entries are called."""

    name: str
    dtype: str
    """``float32``, ``float64``, ``int64``, ``bool`` or ``video``."""
    shape: tuple[int, ...]
    """Per frame: ``(1,)`` for a scalar, ``(n,)`` for a vector, ``(height, width, 3)`` for a video."""
    names: tuple[str, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More keys of the entry in ``info.json``, for instance a video's ``info`` block."""

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise DatasetError(f"feature name {self.name!r} must not be empty or contain '/'")
        if self.is_video:
            if len(self.shape) != 3 or self.shape[2] != 3 or self.shape[0] % 2 or self.shape[1] % 2:
                raise DatasetError(f"{self.name}: a video is (even height, even width, 3), not {self.shape}")
        elif self.dtype not in _ARROW or len(self.shape) != 1 or self.shape[0] < 1:
            known = ", ".join((*_ARROW, "video"))
            raise DatasetError(
                f"{self.name}: dtype {self.dtype!r} {self.shape}; vectors of {known} are known"
            )

    @property
    def is_video(self) -> bool:
        """Whether the values live in an mp4 file and not in the table."""
        return self.dtype == "video"

    @property
    def is_scalar(self) -> bool:
        """Whether the column holds plain numbers instead of lists."""
        return self.shape == (1,)

    @property
    def arrow_type(self) -> pa.DataType:
        """Type of the parquet column."""
        value = _ARROW[self.dtype]
        return value if self.is_scalar else pa.list_(value, self.shape[0])

    def to_info(self) -> dict[str, Any]:
        """The feature's entry in ``info.json``."""
        names = None if self.names is None else list(self.names)
        return {"dtype": self.dtype, "shape": list(self.shape), "names": names, **self.extra}

    def to_huggingface(self) -> dict[str, Any]:
        """The feature's entry in the parquet file's ``huggingface`` metadata."""
        value = {"dtype": self.dtype, "_type": "Value"}
        return value if self.is_scalar else {"feature": value, "length": self.shape[0], "_type": "List"}

    def check(self, value: object) -> NDArray[Any]:
        """One frame's value as an array of exactly this feature's type and shape.

        Numbers may be wider than the column (float64 for float32); kinds are never mixed.

        Raises:
            DatasetError: wrong type, wrong shape or not finite; the message names the feature.
        """
        array = np.asarray(value)
        if self.is_video:
            if array.dtype != np.uint8:
                raise DatasetError(f"{self.name}: images are uint8, got {array.dtype}")
        elif array.dtype.kind not in _KINDS[self.dtype]:
            raise DatasetError(f"{self.name}: expected {self.dtype}, got {array.dtype}")
        if self.is_scalar and array.ndim == 0:
            array = array.reshape(1)
        if array.shape != self.shape:
            raise DatasetError(f"{self.name}: expected shape {self.shape}, got {array.shape}")
        if self.is_video:
            return array
        with np.errstate(over="ignore"):
            array = array.astype(self.dtype)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DatasetError(f"{self.name}: {array.tolist()} is not finite")
        return array


DEFAULT_FEATURES: tuple[Feature, ...] = (
    Feature("timestamp", "float32", (1,)),
    Feature("frame_index", "int64", (1,)),
    Feature("episode_index", "int64", (1,)),
    Feature("index", "int64", (1,)),
    Feature("task_index", "int64", (1,)),
)
"""Columns that every dataset ends with; the writer fills them in."""


def arm_features(*, environment_state: bool) -> tuple[Feature, ...]:
    """The vectors of an SO-101: action, state, and where to pick up if ``environment_state``."""
    features = [
        Feature(ACTION, "float32", (len(JOINTS),), MOTOR_NAMES),
        Feature(STATE, "float32", (len(JOINTS),), MOTOR_NAMES),
    ]
    if environment_state:
        features.append(Feature(ENVIRONMENT_STATE, "float32", (2,), ("pickup_x_m", "pickup_y_m")))
    return tuple(features)


def camera_feature(camera: str, height_px: int, width_px: int, info: Mapping[str, Any]) -> Feature:
    """The video of one camera; ``info`` is the encoder's block of ``info.json``."""
    names = ("height", "width", "channels")
    shape = (height_px, width_px, 3)
    return Feature(f"{IMAGE_PREFIX}{camera}", "video", shape, names, {"info": dict(info)})


def parse_features(raw: Mapping[str, Any]) -> tuple[Feature, ...]:
    """Features of an existing dataset, from ``info.json``.

    Raises:
        DatasetError: an entry lacks its dtype or shape, or has a type that is not known.
    """
    features = []
    for name, entry in raw.items():
        try:
            names = entry.get("names")
            extra = {key: entry[key] for key in entry if key not in ("dtype", "shape", "names")}
            features.append(
                Feature(
                    name,
                    str(entry["dtype"]),
                    tuple(int(size) for size in entry["shape"]),
                    tuple(map(str, names)) if isinstance(names, list) else None,
                    extra,
                )
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(
                f"info.json: feature {name!r} is not {{dtype, shape, names}}: {error}"
            ) from error
    return tuple(features)


def table_schema(features: Iterable[Feature]) -> pa.Schema:
    """Schema of a data file, with the metadata that Hugging Face ``datasets`` reads."""
    columns = [feature for feature in features if not feature.is_video]
    described = {feature.name: feature.to_huggingface() for feature in columns}
    metadata = {"huggingface": json.dumps({"info": {"features": described}})}
    return pa.schema([pa.field(f.name, f.arrow_type) for f in columns], metadata=metadata)


def to_arrow(feature: Feature, column: NDArray[Any]) -> pa.Array:
    """A parquet column from an array of shape (frames, *feature.shape)."""
    flat = pa.array(column.reshape(-1), type=_ARROW[feature.dtype])
    return flat if feature.is_scalar else pa.FixedSizeListArray.from_arrays(flat, feature.shape[0])
