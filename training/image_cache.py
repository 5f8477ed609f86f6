"""Decoded pictures at the policy's size, on disk and memory-mapped.

Videos are decoded once; training then gathers rows. A cache belongs to one state of one dataset: when the
dataset grows or changes, a new one is made.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from robot.errors import DatasetError
from robot.recording.reader import Dataset
from robot.seams import ByteArray
from training.policies.images import resize

PIECE = 256
"""Frames resized at a time: 256 VGA pictures are 0.9 GB as float32."""


def open_images(
    dataset: Dataset,
    cameras: tuple[str, ...],
    height_px: int,
    width_px: int,
    cache_root: Path,
    progress: Callable[[int], None] = lambda frames: None,
) -> dict[str, ByteArray]:
    """The pictures of a whole dataset, decoded now where that has not been done before.

    Args:
        dataset: where they come from.
        cameras: names of the cameras that are needed.
        height_px: height of the pictures in the cache.
        width_px: width of the pictures in the cache.
        cache_root: folder of all caches.
        progress: called with the number of frames that each decoded episode adds.

    Returns:
        Camera name -> read-only memory map, uint8 (frames of all episodes, height, width, 3).

    Raises:
        DatasetError: a camera is missing or a video is broken.
    """
    missing = set(cameras) - set(dataset.cameras)
    if missing:
        raise DatasetError(
            f"{dataset.root} has no camera {', '.join(sorted(missing))}, only {', '.join(dataset.cameras)}"
        )
    shape = (dataset.total_frames, height_px, width_px, 3)
    folder = cache_root / _key(dataset, height_px, width_px)
    images: dict[str, ByteArray] = {}
    for camera in cameras:
        path = folder / f"{camera}.npy"
        if not path.is_file():
            _build(dataset, camera, shape, path, progress)
        images[camera] = np.load(path, mmap_mode="r")
        if images[camera].shape != shape:
            raise DatasetError(f"{path} has shape {images[camera].shape}, not {shape}: delete it")
    return images


def resize_frames(frames: ByteArray, height_px: int, width_px: int) -> ByteArray:
    """(N, H, W, 3) uint8 to the policy's size, uint8, by the policy's own rule."""
    if frames.shape[1:3] == (height_px, width_px):
        return frames
    small = np.empty((len(frames), height_px, width_px, 3), np.uint8)
    for start in range(0, len(frames), PIECE):
        piece = torch.from_numpy(np.array(frames[start : start + PIECE]))
        resized = resize(piece, height_px, width_px).round().clamp(0, 255).to(torch.uint8)
        small[start : start + PIECE] = resized.permute(0, 2, 3, 1).numpy()
    return small


def _key(dataset: Dataset, height_px: int, width_px: int) -> str:
    """Name of the cache: the dataset's name and a hash of its place, its content's extent and the size."""
    videos = sorted(dataset.root.glob("videos/**/*.mp4"))
    state = {
        "root": str(dataset.root.resolve()),
        "lengths": [episode.length for episode in dataset.episodes],
        "videos": [
            [str(path.relative_to(dataset.root)), path.stat().st_size, path.stat().st_mtime_ns]
            for path in videos
        ],
        "size": [height_px, width_px],
    }
    digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]
    return f"{dataset.root.resolve().name}-{height_px}x{width_px}-{digest}"


def _build(
    dataset: Dataset,
    camera: str,
    shape: tuple[int, int, int, int],
    path: Path,
    progress: Callable[[int], None],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = int(np.prod(shape))
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise DatasetError(
            f"the image cache needs {needed / 1e9:.1f} GB, {path.parent} has {free / 1e9:.1f} GB"
        )
    partial = path.with_suffix(".partial")
    images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    row = 0
    for episode in dataset.episodes:
        frames = dataset.frames(episode.index, camera)
        images[row : row + episode.length] = resize_frames(frames, shape[1], shape[2])
        row += episode.length
        progress(episode.length)
    images.flush()
    partial.replace(path)
