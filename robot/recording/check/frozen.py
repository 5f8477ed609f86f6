"""Whether a camera repeats its pictures while the arm moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robot.joints import GRIPPER
from robot.recording.check.findings import DELETE, Report
from robot.recording.check.videos import View
from robot.seams import FloatArray

EQUAL_LEVELS = 2.0
"""Change of the part of a picture that has changed most, of 255, under which two are the same one: encoded
again, equal pictures differ by up to 1.5; an arm that moves changes some part by 5 and more."""
FROZEN_FRAMES = 5
"""So many equal pictures are one picture: as in :mod:`robot.camera_health`."""
MOVED_DEG = 2.0
"""Motion of an arm joint that a camera must show: as there."""
LATENCY_S = 0.1
"""How old the content of a picture can be: as there."""
BRISK_DPS = 10.0
"""Speed of an arm joint from which each picture must differ from the last."""
REPEATED_SHARE = 0.25
"""Share of pictures that may repeat the one before while the arm moves briskly: now and then a camera that is
not in step with the rows misses one."""
LEAST_BRISK = 20
"""Frames of brisk motion from which a share is taken."""


def check_frozen(
    views: Sequence[View],
    states: Mapping[int, FloatArray],
    late_frames: Mapping[tuple[str, int], int],
    hz: float,
    report: Report,
) -> None:
    """Look at all cameras.

    Args:
        views: of the cameras.
        states: joints by episode, shape (frames, 6).
        late_frames: pictures that are known to be out of step, by camera and episode: a rest of the arm is
            then looked for where it is seen.
        hz: rows a second.
        report: where to say what is wrong.
    """
    for view in views:
        state = states.get(view.episode.index)
        same = view.most < EQUAL_LEVELS
        if state is None or not same.any():
            continue
        arm = _shifted(state[:, :GRIPPER], late_frames.get((view.camera, view.episode.index), 0))
        said = _one_picture(arm, same, round(LATENCY_S * hz)) or _repeated(arm, same, hz)
        if said:
            message = f"camera {view.camera} {said}"
            remedy = f"check the camera's cable and USB bus; {DELETE.format(view.episode.index)}"
            report.find("frozen", message, remedy, episode=view.episode.index, camera=view.camera)


def _one_picture(arm: FloatArray, same: NDArray[np.bool_], late: int) -> str:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2):
        # What the first shows is not newer than its row, what the last shows not older than the latency.
        moved = arm[start : stop + 1 - late]
        if stop - start >= FROZEN_FRAMES and len(moved) and np.ptp(moved, axis=0).max() >= MOVED_DEG:
            return (
                f"shows one and the same picture in frames {start} to {stop}, in which the arm moves by "
                f"{np.ptp(moved, axis=0).max():.0f}"
            )
    return ""


def _repeated(arm: FloatArray, same: NDArray[np.bool_], hz: float) -> str:
    brisk = np.abs(np.diff(arm, axis=0)).max(axis=1) * hz > BRISK_DPS
    if brisk.sum() < LEAST_BRISK or same[brisk].mean() <= REPEATED_SHARE:
        return ""
    return (
        f"repeats the picture before in {same[brisk].mean():.0%} of the frames in which the arm moves: it is "
        "slower than the dataset"
    )


def _shifted(arm: FloatArray, late: int) -> FloatArray:
    """Joints as they were ``late`` frames before each; those at the ends stand still."""
    frames = np.clip(np.arange(len(arm)) - late, 0, len(arm) - 1)
    return np.asarray(arm[frames])
