"""What an episode made in simulation is, who makes one, and how it gets to disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field

from inference.ensembler import ExecutionConfig
from robot.config import StrictModel
from robot.recording.features import Feature
from robot.recording.writer import DatasetWriter
from robot.seams import ByteArray, FloatArray
from robot.twin.render import CAMERAS
from robot.twin.tasks import Layout
from training.stage import Stage
from training.variety import Variety

FPS = 30
TASK = "Pick up the red cube at the given point and put it into the bowl."
EXTRA_FEATURES = (Feature("loss_mask", "float32", (1,)), Feature("intervention", "int64", (1,)))


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame on its way to the dataset."""

    state: FloatArray
    action: FloatArray
    images: dict[str, ByteArray]
    loss_mask: float
    """1 where the action is to be learned."""
    intervention: int
    """1 where the expert mends what a policy did."""


@dataclass(frozen=True, slots=True)
class Episode:
    """Frames from the first to the last, and what lay where."""

    frames: list[Frame]
    layout: Layout
    sentence: str = TASK
    """What is done, in words."""


class EpisodeMaker(Protocol):
    """Makes the episode of a number: the same one whenever it is asked, whatever came before."""

    def episode(self, number: int) -> Episode | None:
        """One episode, or ``None`` where it is not worth keeping."""


class DemonstrationOrder(StrictModel):
    """Episodes by the expert alone."""

    kind: Literal["demonstrations"] = "demonstrations"
    task: str = "pick_place"
    variety: Variety = Variety()
    seed: int = Field(ge=0)
    width_px: int = Field(default=256, ge=16, multiple_of=2)
    height_px: int = Field(default=192, ge=16, multiple_of=2)


class CorrectionOrder(StrictModel):
    """Episodes that a policy begins and the expert ends."""

    kind: Literal["corrections"] = "corrections"
    policy: Path
    """Folder of the bundle."""
    task: str = "pick_place"
    variety: Variety = Variety()
    execution: ExecutionConfig | None = None
    """How its chunks are executed; ``None`` takes what the bundle recommends."""
    seed: int = Field(ge=0)
    width_px: int = Field(default=256, ge=16, multiple_of=2)
    height_px: int = Field(default=192, ge=16, multiple_of=2)


Order = Annotated[DemonstrationOrder | CorrectionOrder, Field(discriminator="kind")]
"""What is to be recorded; goes to other processes as JSON."""


def create_dataset(root: Path, stage: Stage, provenance: dict[str, object]) -> DatasetWriter:
    """A new dataset for this stage's pictures."""
    return DatasetWriter.create(
        root,
        fps=FPS,
        cameras=dict.fromkeys(CAMERAS, (stage.height_px, stage.width_px)),
        calibration_sha256=stage.arm.calibration.hash,
        extra_features=EXTRA_FEATURES,
        extra_info=provenance,
    )


def write_episode(writer: DatasetWriter, episode: Episode) -> None:
    """Append one episode to a dataset."""
    writer.begin_episode(episode.sentence)
    pickup = np.array(episode.layout.told_xy_m, dtype=np.float32)
    for frame in episode.frames:
        writer.add_frame(
            frame.state.astype(np.float32),
            frame.action.astype(np.float32),
            frame.images,
            pickup,
            {
                "loss_mask": np.array([frame.loss_mask], np.float32),
                "intervention": np.array([frame.intervention], np.int64),
            },
        )
    writer.save_episode()
