"""What a recording session was told; goes to the recorder's process through ``runtime.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, field_validator

from robot.config import Finite, Positive, StrictModel

Teleop = Literal["leader", "keyboard", "gamepad", "dashboard", "expert", "none"]
"""Who drives, for the dataset's provenance; ``none`` records what moves the arm anyway."""


def checked_task(task: str | None) -> str | None:
    """A task that is not blank. Raises ValueError, for the models' validators."""
    if task is not None and not task.strip():
        raise ValueError("must be a sentence that says what is done")
    return task


class PickupPoint(StrictModel):
    """A point on the table, base frame."""

    model_config = ConfigDict(strict=True)

    x_m: Finite
    y_m: Finite


class RecordingOptions(StrictModel):
    """A recording session. ``model_dump(mode="json")`` and ``model_validate`` take it to another process."""

    out: Path
    """Folder of the dataset: made, or appended to where there is one."""
    task: Annotated[str, Field(min_length=1)]
    """A sentence that says what is done."""
    fps: Annotated[int, Field(ge=1, le=120)] = 30
    codec: str = "auto"
    """See ``robot.recording``: ``auto``, ``h264``, ``av1``, or one that the machine has in hardware."""
    teleop: Teleop = "none"
    corrections: bool = False
    """Whether a policy drives and a person takes over: only what the person drives is to be learned."""
    pickup: PickupPoint | Literal["required", "none"] = "none"
    """Where the object lies: a point, ``required`` (with each ``next``; the twin knows where its cube lies),
    or ``none``: the dataset has no such column."""
    episode_s: Positive | None = None
    """An episode is finished when it is this long; ``None``: when a person says so."""
    reset_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """After an episode that was finished by its length, the next begins by itself so much later; ``None``:
    when a person says so."""
    episodes: Annotated[int, Field(ge=1)] | None = None
    """So many episodes are recorded in this session, and no more."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of what a session without a person draws."""
    least_free_gb: Positive = 1.0
    """An episode is stopped when the disk has less room than that, and none begins."""

    _says_something = field_validator("task")(checked_task)
