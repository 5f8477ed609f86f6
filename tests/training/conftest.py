from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from robot.recording.features import Feature
from robot.recording.writer import DatasetWriter
from robot.seams import ByteArray
from training.config import TrainConfig
from training.policies.act import ActConfig
from training.stage import Stage

TINY = ActConfig(
    cameras=("wrist", "overhead"),
    image_height_px=32,
    image_width_px=32,
    chunk_size=6,
    d_model=16,
    heads=2,
    d_ff=32,
    encoder_layers=1,
    use_vae=True,
    vae_layers=1,
    latent_dim=4,
)


class Blind(Stage):
    """A stage without pictures, for tests that need none."""

    def images(self, cameras: tuple[str, ...] = ("wrist", "overhead")) -> dict[str, ByteArray]:
        return {name: np.zeros((2, 2, 3), np.uint8) for name in cameras}


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Blind()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: two that share a busy core wait for each other longer than tiny networks take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny() -> ActConfig:
    return TINY


@pytest.fixture(scope="session")
def dataset_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short episodes: joint j of frame t is at 10 * episode + t + j; half of episode 1 is masked."""
    root = tmp_path_factory.mktemp("data") / "set"
    rng = np.random.default_rng(0)
    with DatasetWriter.create(
        root,
        fps=30,
        cameras={"wrist": (64, 64), "overhead": (32, 32)},
        extra_features=[Feature("loss_mask", "float32", (1,))],
    ) as writer:
        for episode, length in enumerate((9, 12, 10, 11)):
            writer.begin_episode("pick up the cube")
            for t in range(length):
                grey = 20 * episode + 5 * t + 30
                writer.add_frame(
                    np.arange(6.0) + 10 * episode + t,
                    np.arange(6.0) + 10 * episode + t + 1,
                    {
                        "wrist": np.full((64, 64, 3), grey, np.uint8),
                        "overhead": np.full((32, 32, 3), grey, np.uint8),
                    },
                    environment_state=rng.uniform(0.1, 0.3, 2),
                    extra={"loss_mask": [0.0 if episode == 1 and t >= 6 else 1.0]},
                )
            writer.save_episode()
    return root


@pytest.fixture
def train_config(dataset_root: Path, tmp_path: Path) -> TrainConfig:
    policy = tmp_path / "tiny.yaml"
    policy.write_text(TINY.model_dump_json())
    return TrainConfig(
        datasets=(str(dataset_root),),
        policy=str(policy),
        output_dir=str(tmp_path / "run"),
        cache_dir=str(tmp_path / "cache"),
        steps=6,
        batch_size=8,
        validation_share=0.25,
        validate_every=3,
        checkpoint_every=3,
        log_every=2,
        device="cpu",
        threads=1,
    )
