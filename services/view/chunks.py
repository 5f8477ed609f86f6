"""What a policy would have done at the moments of a recorded episode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference.bundle import Bundle
from inference.history import ObservationHistory
from inference.manifest import CONDITIONING, CameraShape
from robot.errors import BundleError
from robot.recording.reader import Dataset
from robot.seams import ByteArray, Float32Array, Observation
from services.view.episode import BoolArray, Episode

_BLOCK = 60
"""Frames that are decoded at a time, so that memory does not grow with the episode."""


@dataclass(frozen=True)
class Predictions:
    """Chunks of a policy over one episode, and how far they are from what was recorded."""

    policy: str
    every: int
    """Frames from one chunk to the next; chunk k was predicted at frame ``k * every``."""
    chunks: Float32Array
    """User units, shape (chunks, steps, 6); step i belongs to the frame of the chunk plus i."""
    error: Float32Array
    """Mean of ``|chunk - action|`` by step and joint, shape (steps, 6); NaN where no window reaches."""
    resized: tuple[str, ...]
    """Cameras whose pictures were brought to the policy's size."""


def check_suits(bundle: Bundle, dataset: Dataset, episode: Episode) -> Float32Array:
    """Where to pick up in each frame, shape (frames, 2), if a policy can be shown the episode.

    Raises:
        BundleError: units, rate, pickup coordinates or cameras of the dataset are not those of the policy.
    """
    manifest = bundle.manifest
    if manifest.action_space != "joint_position":
        raise BundleError(
            f"policy {manifest.name} moves the tool ({manifest.action_space}), {dataset.root} holds joint "
            "goals: only a policy of joint goals can be laid over them"
        )
    if episode.units != "degrees":
        raise BundleError(
            f"policy {manifest.name} works in degrees, {dataset.root} "
            + (
                "does not say its units: if they are degrees, give --units degrees"
                if episode.units is None
                else f"is in {episode.units}: convert it first"
            )
        )
    if episode.fps != manifest.fps:
        raise BundleError(
            f"policy {manifest.name} predicts at {manifest.fps:g} Hz, "
            f"{dataset.root} was recorded at {episode.fps:g}"
        )
    if len(episode.joints) != len(manifest.joints):
        raise BundleError(
            f"policy {manifest.name} has {len(manifest.joints)} joints, {dataset.root} {len(episode.joints)}"
        )
    pickup_xy_m = episode.pickup_xy_m
    if pickup_xy_m is None and not manifest.conditioning:
        pickup_xy_m = np.zeros((episode.frames, len(CONDITIONING)), np.float32)  # never looked at
    if pickup_xy_m is None:
        raise BundleError(
            f"{dataset.root} does not say where to pick up, which policy {manifest.name} is told: give "
            "--pickup X,Y (0,0 for a policy that has learned without)"
        )
    for camera in manifest.cameras:
        if camera.name not in dataset.cameras:
            raise BundleError(
                f"policy {manifest.name} needs camera {camera.name!r}, {dataset.root} has "
                f"{', '.join(dataset.cameras) or 'none'}"
            )
    return pickup_xy_m


def predict(
    bundle: Bundle,
    dataset: Dataset,
    episode: Episode,
    *,
    every: int = 1,
    on_chunk: Callable[[], None] = lambda: None,
) -> Predictions:
    """Show every ``every``-th frame of an episode to a policy.

    Args:
        bundle: the policy.
        dataset: where the pictures are.
        episode: of this dataset.
        every: frames from one chunk to the next.
        on_chunk: called after each chunk.

    Raises:
        BundleError: the policy and the dataset do not suit each other.
        DatasetError: a video is broken or too short.
    """
    pickup_xy_m = check_suits(bundle, dataset, episode)
    cameras, resized = bundle.manifest.cameras, set()
    looked_back = bundle.manifest.observation_steps > 1
    history = ObservationHistory(bundle.manifest.observation_steps, 1)
    chunks = []
    for start in range(0, episode.frames, _BLOCK):
        end = min(start + _BLOCK, episode.frames)
        rows = [row for row in range(start, end) if looked_back or row % every == 0]
        if not rows:
            continue
        pictures = {
            camera.name: dataset.frames(episode.number, camera.name, rows[0], rows[-1] + 1)
            for camera in cameras
        }
        for row in rows:
            images = {}
            for camera in cameras:
                image = pictures[camera.name][row - rows[0]]
                images[camera.name] = _fitted(image, camera)
                if image.shape != images[camera.name].shape:
                    resized.add(camera.name)
            seen = history.add(Observation(row, episode.state[row], pickup_xy_m[row], images))
            if row % every == 0:
                chunks.append(bundle.policy.chunk(seen))
                on_chunk()
    stacked = np.stack(chunks)
    error = horizon_error(stacked, np.arange(len(stacked)) * every, episode.action, episode.learned)
    return Predictions(bundle.manifest.name, every, stacked, error, tuple(sorted(resized)))


def horizon_error(
    chunks: Float32Array, starts: NDArray[np.int64], action: Float32Array, learned: BoolArray
) -> Float32Array:
    """Mean of ``|chunk - action|`` by step, as training counts: a window ends at the first unlearned frame.

    Args:
        chunks: (chunks, steps, joints).
        starts: frame of each chunk, shape (chunks,).
        action: as recorded, shape (frames, joints).
        learned: shape (frames,).

    Returns:
        Shape (steps, joints); NaN for steps that no window reaches.
    """
    steps = starts[:, None] + np.arange(chunks.shape[1])
    inside = steps < len(action)
    steps = np.minimum(steps, len(action) - 1)
    valid = np.logical_and.accumulate(inside & learned[steps], axis=1)
    off = np.where(valid[:, :, None], np.abs(chunks - action[steps]), 0.0).sum(axis=0)
    count = valid.sum(axis=0)[:, None]
    return np.where(count > 0, off / np.maximum(count, 1), np.nan).astype(np.float32)


def _fitted(image: ByteArray, camera: CameraShape) -> ByteArray:
    """A picture in the size that the policy takes."""
    height, width = image.shape[:2]
    if (height, width) == (camera.height_px, camera.width_px):
        return image
    if height * camera.width_px != width * camera.height_px:
        raise BundleError(
            f"camera {camera.name}: the policy takes {camera.width_px}x{camera.height_px}, the dataset's "
            f"pictures are {width}x{height}, of another shape"
        )
    smaller = width > camera.width_px
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (camera.width_px, camera.height_px), interpolation=how), np.uint8)
