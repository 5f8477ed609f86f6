"""What can be wrong with the numbers of a dataset before anything is learned from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from robot.joints import GRIPPER, JOINTS, UNITS
from robot.kinematics import Kinematics, rad_to_user
from robot.recording.check.units import WORDS, judge
from robot.recording.features import IMAGE_PREFIX
from robot.seams import Float32Array, FloatArray
from training.frames import ACTION, STATE, Frames
from training.policies.base import PolicyShape

BEYOND_USER = 20.0
"""So far beyond the model's range, degrees or percent, a joint may be: calibrations differ by less."""
STILL_GRIPPER_PCT = 1.0
"""A gripper that moves less than this over a whole dataset never moves."""
WRONG_UNITS = ("radians", "ticks", "m100_100")
"""What joints in a dataset that says degrees must not look like."""


@dataclass
class Found:
    """What was found: problems forbid a run, notes are worth knowing."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check_frames(frames: Frames, policy: PolicyShape, found: Found) -> None:
    """Look at one dataset's cameras, lengths and values.

    Args:
        frames: its numbers.
        policy: what the policy sees and answers.
        found: gets what is wrong.
    """
    root = frames.dataset.root
    missing = [camera for camera in policy.cameras if camera not in frames.dataset.cameras]
    if missing:
        have = ", ".join(frames.dataset.cameras) or "none"
        found.problems.append(
            f"{root} has no camera {', '.join(missing)}, only {have}: train a policy with these cameras"
        )
    _videos(frames, [camera for camera in policy.cameras if camera not in missing], found)
    _lengths(frames, policy, found)
    _units(frames, found)
    for name, values in ((STATE, frames.state), (ACTION, frames.action)):
        _values(frames, name, values, found)
    if np.ptp(frames.action[:, GRIPPER]) < STILL_GRIPPER_PCT and policy.action_space == "joint_position":
        found.notes.append(f"{root}: the gripper is never moved, so the policy will not learn to")
    if policy.reads_pickup and not np.isfinite(frames.pickup).all():
        found.notes.append(f"{root} does not say where to pick up: coordinates count as not given there")


@cache
def joint_range_user() -> tuple[FloatArray, FloatArray]:
    """Least and largest value of each joint of the model, degrees and gripper percent."""
    arm = Kinematics()
    return rad_to_user(arm.min_rad), rad_to_user(arm.max_rad)


def _videos(frames: Frames, cameras: list[str], found: Found) -> None:
    dataset = frames.dataset
    pattern = str(dataset.info.get("video_path", ""))
    gone: set[str] = set()
    for camera in cameras:
        key = f"{IMAGE_PREFIX}{camera}"
        for episode in dataset.episodes:
            span = episode.videos.get(key)
            path = None if span is None else span.slot.path(dataset.root, pattern, key)
            if path is None or not path.is_file():
                gone.add(str(path or f"{camera} of episode {episode.index}"))
    if gone:
        first = min(gone)
        found.problems.append(
            f"{dataset.root} lacks {len(gone)} videos, for instance {first}: copy the dataset again, or see "
            f"so101 dataset check {dataset.root}"
        )


def _lengths(frames: Frames, policy: PolicyShape, found: Found) -> None:
    needed = policy.chunk_size * policy.frame_stride
    longest = max(frames.lengths)
    if needed > longest:
        found.problems.append(
            f"{frames.dataset.root}: a chunk of {policy.chunk_size} steps takes {needed} frames, the longest "
            f"episode has {longest}: lower the policy's chunk_size or frame_stride"
        )
    elif needed > np.median(frames.lengths):
        found.notes.append(
            f"{frames.dataset.root}: most episodes are shorter than a chunk of {needed} frames, so its last "
            "steps are seldom trained"
        )


def _units(frames: Frames, found: Found) -> None:
    verdict = judge({STATE: frames.state, ACTION: frames.action})
    if verdict is not None and verdict.kind in WRONG_UNITS:
        found.problems.append(
            f"{frames.dataset.root} says its joints are in degrees, they look like {WORDS[verdict.kind]}: "
            f"{verdict.why}. See so101 dataset check {frames.dataset.root}"
        )


def _values(frames: Frames, name: str, values: Float32Array, found: Found) -> None:
    root = frames.dataset.root
    still = [joint for index, joint in enumerate(JOINTS) if not values[:, index].any()]
    if len(still) == len(JOINTS):
        found.problems.append(f"{root}: {name} is zero in all frames: nothing was recorded there")
    elif still:
        found.notes.append(f"{root}: {name} of {', '.join(still)} is zero in all frames")
    low, high = joint_range_user()
    ends = np.cumsum(frames.lengths)
    for index, joint in enumerate(JOINTS):
        beyond = np.maximum(values[:, index] - high[index], low[index] - values[:, index])
        row = int(beyond.argmax())
        if beyond[row] > BEYOND_USER:
            episode = int(np.searchsorted(ends, row, side="right"))
            found.problems.append(
                f"{root}: {name} of {joint} is {values[row, index]:.1f} {UNITS[joint]} in episode {episode}, "
                f"the arm moves within {low[index]:.0f}..{high[index]:.0f}: wrong units or calibration "
                f"(so101 dataset check {root})"
            )
