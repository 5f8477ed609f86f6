"""Decoded pictures at the policy's size, on disk.

Videos are decoded once; training then reads rows. A cache belongs to one state of one dataset: when the
dataset grows or changes, a new one is made. Only a whole one has its name, and one process makes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from robot.errors import DatasetError
from robot.recording.reader import Dataset
from robot.seams import ByteArray
from training.frames import IntArray
from training.policies.images import resize

PIECE = 64
"""Frames decoded and resized at a time: 64 VGA pictures are 0.24 GB as float32, in each thread."""
THREADS = 4
"""Threads that decode, where there are so many cores; a decoder has threads of its own."""


class Pictures:
    """One camera's pictures of a whole dataset in a cache.

    They are read, not mapped: where the pages are not in memory, a mapped file is read far ahead of each row
    and one row after the other. Here the kernel is told all rows at first. May be used by several threads.

    Attributes:
        shape: (frames, height, width, 3).
    """

    def __init__(self, path: Path) -> None:
        """Open a cache's file.

        Raises:
            DatasetError: it is no such file, or cut short.
        """
        try:
            mapped = np.load(path, mmap_mode="r")
            self._offset, self.shape = int(mapped.offset), mapped.shape
            self._file = os.open(path, os.O_RDONLY)
        except (OSError, ValueError, AttributeError) as error:
            raise DatasetError(f"the image cache {path} cannot be read ({error}): delete it") from error
        weakref.finalize(self, os.close, self._file)
        self._path = path

    def __len__(self) -> int:
        return int(self.shape[0])

    def read(self, rows: IntArray, into: Sequence[ByteArray]) -> None:
        """Read the pictures of some rows.

        Args:
            rows: (B,) numbers of pictures.
            into: B contiguous arrays (height, width, 3) that get them.

        Raises:
            DatasetError: the file has become shorter.
        """
        size = int(np.prod(self.shape[1:]))
        starts = (self._offset + rows * size).tolist()
        for start in starts:
            os.posix_fadvise(self._file, start, size, os.POSIX_FADV_WILLNEED)
        for start, picture in zip(starts, into, strict=True):
            if os.preadv(self._file, [picture.data], start) != size:
                raise DatasetError(f"the image cache {self._path} is cut short: delete it")


def open_images(
    dataset: Dataset,
    sizes_px: Mapping[str, tuple[int, int]],
    cache_root: Path,
    progress: Callable[[int], None] = lambda frames: None,
) -> dict[str, Pictures]:
    """The pictures of a whole dataset, decoded now where that has not been done before.

    Args:
        dataset: where they come from.
        sizes_px: camera -> (height, width) of the pictures in the cache.
        cache_root: folder of all caches.
        progress: called with the number of frames that each decoded piece adds, from one thread at a time.

    Raises:
        DatasetError: a camera is missing, a video is broken or the disk has no room.
    """
    missing = set(sizes_px) - set(dataset.cameras)
    if missing:
        raise DatasetError(
            f"{dataset.root} has no camera {', '.join(sorted(missing))}, only "
            f"{', '.join(dataset.cameras) or 'none'}"
        )
    check_space(missing_bytes(dataset, sizes_px, cache_root), cache_root)
    images: dict[str, Pictures] = {}
    for camera, size_px in sizes_px.items():
        path = _path(dataset, camera, size_px, cache_root)
        if not path.is_file():
            _build(dataset, camera, size_px, path, progress)
        images[camera] = Pictures(path)
        if images[camera].shape != (dataset.total_frames, *size_px, 3):
            raise DatasetError(f"{path} has shape {images[camera].shape}, another one than it had: delete it")
    return images


def missing_bytes(dataset: Dataset, sizes_px: Mapping[str, tuple[int, int]], cache_root: Path) -> int:
    """What the pictures that are not in the cache yet will take on the disk."""
    return sum(
        dataset.total_frames * height * width * 3
        for camera, (height, width) in sizes_px.items()
        if not _path(dataset, camera, (height, width), cache_root).is_file()
    )


def check_space(needed: int, folder: Path) -> None:
    """Raise a DatasetError where a folder's disk has no room for so many bytes."""
    free = free_bytes(folder)
    if needed > free:
        raise DatasetError(
            f"the image cache needs {needed / 1e9:.1f} GB, the disk of {folder} has {free / 1e9:.1f} GB "
            "free: choose another cache_dir or delete old caches there"
        )


def free_bytes(folder: Path) -> int:
    """Room on the disk where a folder is or will be."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def resize_frames(frames: ByteArray, height_px: int, width_px: int) -> ByteArray:
    """(N, H, W, 3) uint8 to the policy's size, uint8, by the policy's own rule."""
    if frames.shape[1:3] == (height_px, width_px):
        return frames
    resized = resize(torch.from_numpy(np.array(frames)), height_px, width_px)
    small: ByteArray = resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return small


def _path(dataset: Dataset, camera: str, size_px: tuple[int, int], cache_root: Path) -> Path:
    """File of a camera's pictures; the folder's name has a hash of the dataset's place and extent."""
    videos = sorted(dataset.root.glob("videos/**/*.mp4"))
    state = {
        "root": str(dataset.root.resolve()),
        "lengths": [episode.length for episode in dataset.episodes],
        "videos": [
            [str(path.relative_to(dataset.root)), path.stat().st_size, path.stat().st_mtime_ns]
            for path in videos
        ],
        "size": list(size_px),
    }
    digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]
    return cache_root / f"{dataset.root.resolve().name}-{size_px[0]}x{size_px[1]}-{digest}" / f"{camera}.npy"


def _build(
    dataset: Dataset, camera: str, size_px: tuple[int, int], path: Path, progress: Callable[[int], None]
) -> None:
    shape = (dataset.total_frames, *size_px, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.with_suffix(".lock")):
        if path.is_file():  # another process has made it meanwhile
            return
        partial = path.with_suffix(".partial")
        images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        with partial.open("r+b") as file:  # now, because a mapped page without room on the disk kills
            os.posix_fallocate(file.fileno(), 0, partial.stat().st_size)

        def decode(piece: tuple[int, int, int, int]) -> int:
            row, episode, start, stop = piece
            frames = dataset.frames(episode, camera, start, stop)
            images[row : row + len(frames)] = resize_frames(frames, *size_px)
            return len(frames)

        workers = min(THREADS, len(os.sched_getaffinity(0)))
        before = torch.get_num_threads()
        # Torch's own threads, for such pictures, spend half of the time waiting for each other.
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                for frames in pool.map(decode, _pieces(dataset)):
                    progress(frames)
            finally:
                pool.shutdown(cancel_futures=True)
                torch.set_num_threads(before)
        images.flush()
        partial.replace(path)


def _pieces(dataset: Dataset) -> Iterator[tuple[int, int, int, int]]:
    """(row in the cache, episode, first frame, end) of pieces of episodes."""
    row = 0
    for episode in dataset.episodes:
        for start in range(0, episode.length, PIECE):
            yield row + start, episode.index, start, min(start + PIECE, episode.length)
        row += episode.length


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait until no other process is in here; a killed one lets go."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
