"""Small datasets for the tests of recording."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from robot.recording.writer import DatasetWriter

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "episodes" / "real_so101_30fps.parquet"


def picture(seed: int, height: int = 32, width: int = 48) -> np.ndarray:
    """A smooth picture that differs for each seed (a colour of its own and a blurred pattern)."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.integers(0, 255, (height, width, 3), dtype=np.uint8), (0, 0), 4)
    tint = np.array([seed * 37 % 200, seed * 71 % 200, seed * 13 % 200])
    return np.clip(noise // 4 + tint, 0, 255).astype(np.uint8)


def create(root: Path, cameras: tuple[str, ...] = ("wrist", "overhead"), **options: object) -> DatasetWriter:
    return DatasetWriter.create(root, fps=30, cameras=dict.fromkeys(cameras, (32, 48)), **options)


def record(writer: DatasetWriter, seed: int, length: int, task: str = "pick up the cube") -> None:
    """One episode whose every value can be computed again from ``seed``."""
    writer.begin_episode(task)
    for frame in range(length):
        state, action = vectors(seed, frame)
        images = {name: picture(seed * 1000 + frame * 10 + k) for k, name in enumerate(writer.cameras)}
        writer.add_frame(state, action, images, np.array([0.2, seed / 100]))
    writer.save_episode()


def vectors(seed: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, frame])
    return rng.normal(size=6), rng.normal(size=6)
