"""What there is to see in one episode besides its pictures: joints, labels, real timing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.joints import JOINTS
from robot.recording.features import ACTION, ENVIRONMENT_STATE, STATE
from robot.recording.reader import Dataset
from robot.recording.replay import units_of
from robot.seams import Float32Array

BoolArray = NDArray[np.bool_]

LABELS = {0: "failure", 1: "success"}
"""What the column ``success`` says; any other value says nothing."""
REPEATED_S = 1e-3
"""Two rows whose pictures were captured closer together than this show the same picture."""
_UNITS = {"degrees": "deg", "m100_100": "-100..100"}
_NOT_SAID = "unit not said"


@dataclass(frozen=True)
class Joint:
    """One entry of state and action."""

    name: str
    unit: str
    """As it is written at the axis: ``deg``, ``%``, ``-100..100`` or ``unit not said``."""


@dataclass(frozen=True)
class CameraTiming:
    """When one camera's pictures were taken."""

    age_s: Float32Array
    """Row time minus capture time, shape (frames,)."""
    repeated: BoolArray
    """Rows with the same picture as the row before, shape (frames,)."""


@dataclass(frozen=True)
class Episode:
    """The numbers of one episode, as recorded."""

    number: int
    fps: float
    task: str
    units: str | None
    """``degrees``, ``m100_100``, or ``None`` where nobody says."""
    joints: tuple[Joint, ...]
    state: Float32Array
    """Shape (frames, joints)."""
    action: Float32Array
    """Shape (frames, joints)."""
    pickup_xy_m: Float32Array | None
    """Where to pick up, shape (frames, 2)."""
    label: str | None
    """``success`` or ``failure``."""
    intervention: BoolArray
    """Frames in which a person drove, shape (frames,)."""
    learned: BoolArray
    """Frames whose action a policy is to learn, shape (frames,)."""
    row_gap_s: Float32Array | None
    """Real time since the row before (0 for the first), shape (frames,)."""
    state_age_s: Float32Array | None
    """Row time minus the newest reading of the servos, shape (frames,)."""
    cameras: Mapping[str, CameraTiming]
    """Only cameras whose capture times were recorded."""

    @property
    def frames(self) -> int:
        """Number of rows."""
        return len(self.action)


def read_episode(dataset: Dataset, number: int, units: str | None = None) -> Episode:
    """Read the numbers of an episode.

    Args:
        dataset: a dataset, or a bare file.
        number: which, from 0.
        units: ``degrees`` or ``m100_100``, where the dataset does not say.

    Raises:
        DatasetError: no such episode, its file is broken, or state and action are not there or do not match.
        ConfigError: the dataset says other units than ``units``, or these are not known.
    """
    meta, columns = dataset.episode(number), dataset.load(number)
    for name in (ACTION, STATE):
        if name not in columns or columns[name].ndim != 2:
            raise DatasetError(f"{dataset.root}: episode {number} has no column {name!r} of joint vectors")
    state, action = (columns[name].astype(np.float32) for name in (STATE, ACTION))
    if state.shape != action.shape:
        raise DatasetError(f"{dataset.root}: state {state.shape} and action {action.shape} differ in shape")
    known = units_of(dataset, units) if dataset.units or units else None
    time_s = columns.get("timing.time_s")
    return Episode(
        number=number,
        fps=dataset.fps,
        task=", ".join(meta.tasks) or _task(dataset, columns),
        units=known,
        joints=_joints(dataset, action.shape[1], known),
        state=state,
        action=action,
        pickup_xy_m=_pairs(columns.get(ENVIRONMENT_STATE)),
        label=LABELS.get(int(columns["success"].reshape(-1)[0])) if "success" in columns else None,
        intervention=_flag(columns.get("intervention"), len(action), default=False),
        learned=_flag(columns.get("loss_mask"), len(action), default=True),
        row_gap_s=None if time_s is None else _gaps(time_s),
        state_age_s=_seconds(columns.get("timing.state_age_s")),
        cameras={} if time_s is None else _cameras(dataset, columns, time_s),
    )


def _task(dataset: Dataset, columns: Mapping[str, NDArray[Any]]) -> str:
    number = int(columns["task_index"][0]) if "task_index" in columns else -1
    return dataset.tasks[number] if 0 <= number < len(dataset.tasks) else ""


def _joints(dataset: Dataset, width: int, units: str | None) -> tuple[Joint, ...]:
    names = dataset.info["features"][ACTION].get("names")
    if not isinstance(names, list) or len(names) != width:
        names = list(JOINTS) if width == len(JOINTS) else [f"joint {k + 1}" for k in range(width)]
    unit = _NOT_SAID if units is None else _UNITS[units]
    plain = [str(name).removesuffix(".pos") for name in names]
    return tuple(Joint(name, "%" if name.endswith("gripper") else unit) for name in plain)


def _pairs(column: NDArray[Any] | None) -> Float32Array | None:
    return None if column is None or column.shape[1:] != (2,) else column.astype(np.float32)


def _seconds(column: NDArray[Any] | None) -> Float32Array | None:
    return None if column is None else column.reshape(-1).astype(np.float32)


def _flag(column: NDArray[Any] | None, frames: int, *, default: bool) -> BoolArray:
    return np.full(frames, default) if column is None else np.asarray(column.reshape(-1) > 0)


def _gaps(time_s: NDArray[Any]) -> Float32Array:
    return np.diff(time_s.reshape(-1), prepend=time_s.reshape(-1)[:1]).astype(np.float32)


def _cameras(
    dataset: Dataset, columns: Mapping[str, NDArray[Any]], time_s: NDArray[Any]
) -> dict[str, CameraTiming]:
    found = {}
    for camera in dataset.cameras:
        age_s = _seconds(columns.get(f"timing.{camera}_age_s"))
        if age_s is None:
            continue
        captured_s = time_s.reshape(-1) - age_s
        found[camera] = CameraTiming(age_s, np.diff(captured_s, prepend=-np.inf) < REPEATED_S)
    return found
