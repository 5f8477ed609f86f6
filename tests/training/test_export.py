from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from inference.bundle import PARITY_USER, load_bundle
from inference.manifest import Range
from robot.errors import ConfigError
from robot.joints import JOINTS
from robot.seams import Observation
from training.checkpoint import load_checkpoint
from training.config import TrainConfig
from training.data import Corpus
from training.export import export_bundle, start_pose, write_bundle
from training.golden import enlarged, golden_samples
from training.loop import train
from training.policies.base import Inputs, Labels, PolicyShape, TrainablePolicy


@pytest.mark.slow  # the exporter itself takes ten seconds
def test_a_bundle_gives_what_the_policy_gives(train_config: TrainConfig, tmp_path: Path) -> None:
    result = train(train_config)
    out = tmp_path / "bundle"
    manifest = export_bundle(result.checkpoint, out, name="tiny", camera_size_px=(96, 160))
    assert sorted(p.name for p in out.iterdir()) == ["golden.npz", "manifest.json", "model.onnx"]
    graph = onnx.load(out / "model.onnx")
    assert graph.opset_import[0].version == 18
    assert manifest.fps == 30 and manifest.chunk_size == 6
    assert manifest.control_limits["shoulder_pan"].min == 1.0
    assert manifest.provenance["step"] == 6
    bundle = load_bundle(out)
    assert bundle.parity_user < 1e-3

    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (96, 160, 3), dtype=np.uint8) for name in ("wrist", "overhead")}
    state, pickup = rng.uniform(0, 40, 6).astype(np.float32), np.array([0.2, 0.1], np.float32)
    chunk = bundle.policy.chunk(Observation(0, state, pickup, images))
    policy = load_checkpoint(result.checkpoint).build()
    with torch.no_grad():
        expected = policy.predict(
            Inputs(
                {name: torch.from_numpy(image)[None] for name, image in images.items()},
                torch.from_numpy(state)[None],
                torch.from_numpy(pickup)[None],
            )
        )[0]
    np.testing.assert_allclose(chunk, expected.numpy(), atol=1e-3)
    again = export_bundle(result.checkpoint, out, camera_size_px=(32, 32))
    assert again.cameras[0].height_px == 32


def test_golden_samples_show_a_wrong_resize(
    train_config: TrainConfig, dataset_root: Path, tmp_path: Path
) -> None:
    """A picture that is made small by taking every third pixel must not pass for one that is averaged."""
    policy = load_checkpoint(train(train_config).checkpoint).build()
    corpus = Corpus([dataset_root], policy.config, tmp_path / "cache")
    corpus.open_images()
    golden = golden_samples(policy, corpus, (96, 96))
    again = golden_samples(policy, corpus, (96, 96))
    assert all((golden[name] == again[name]).all() for name in golden)
    images = {camera: golden[f"image_{camera}"] for camera in policy.config.cameras}
    decimated = {camera: enlarged(pictures[:, 1::3, 1::3], (96, 96)) for camera, pictures in images.items()}
    state, pickup = torch.from_numpy(golden["state"]), torch.from_numpy(golden["pickup_xy_m"])

    def error(pictures: dict[str, np.ndarray]) -> np.ndarray:
        tensors = {camera: torch.from_numpy(values) for camera, values in pictures.items()}
        with torch.no_grad():
            actions = policy.predict(Inputs(tensors, state, pickup)).numpy()
        return np.abs(actions - golden["actions"]).max((1, 2))

    assert error(images).max() < 1e-3
    assert error(decimated)[:-1].max() < 1e-3
    assert error(decimated)[-1] > PARITY_USER["fp32"]


def test_nothing_but_a_bundle_is_replaced(train_config: TrainConfig, tmp_path: Path) -> None:
    result = train(TrainConfig.model_validate({**train_config.model_dump(), "steps": 1}))
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.txt").write_text("do not delete")
    with pytest.raises(ConfigError, match="not empty"):
        export_bundle(result.checkpoint, out)
    with pytest.raises(ConfigError, match="is a file"):
        export_bundle(result.checkpoint, out / "thesis.txt")
    with pytest.raises(ConfigError, match="--dataset"):
        export_bundle(result.checkpoint, tmp_path / "b", datasets=(tmp_path / "gone",))
    with pytest.raises(ConfigError, match="no checkpoint"):
        export_bundle(tmp_path, tmp_path / "b")


def test_enlarging_keeps_the_mean_of_each_block() -> None:
    small = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    large = enlarged(small, (20, 30))
    np.testing.assert_array_equal(large.reshape(2, 4, 5, 6, 5, 3).mean((2, 4)), small)


class Follower(TrainablePolicy):
    """Moves the tool by how the mean grey changed between the oldest and the newest picture."""

    def loss(self, inputs: Inputs, labels: Labels) -> dict[str, torch.Tensor]:
        return {"loss": (self.predict(inputs) - labels.actions).abs().mean()}

    def predict(self, inputs: Inputs) -> torch.Tensor:
        grey = inputs.images["wrist"].float().mean((2, 3, 4))
        step = (grey[:, -1] - grey[:, 0])[:, None, None]
        return self.restore_actions(step * torch.ones(1, self.config.chunk_size, self.config.action_width))


def test_a_bundle_takes_only_what_its_policy_reads(dataset_root: Path, tmp_path: Path) -> None:
    shape = PolicyShape(
        type="follower", cameras=("wrist",), image_height_px=32, image_width_px=32, chunk_size=4,
        action_space="tool_delta_xy", observation_steps=3, frame_stride=2,
        reads_state=False, reads_pickup=False,
    )  # fmt: skip
    corpus = Corpus([dataset_root], shape, tmp_path / "cache")
    corpus.open_images()
    policy = Follower(shape, corpus.stats(np.arange(len(corpus)))).eval()
    out = tmp_path / "bundle"
    write_bundle(
        policy, out, name="follower", fps=corpus.chunk_fps, camera_size_px=(64, 64),
        golden=golden_samples(policy, corpus, (64, 64)), start_pose=start_pose(corpus), task="reach",
        control_limits={joint: Range(min=0.0, max=1.0) for joint in JOINTS}, provenance={},
    )  # fmt: skip
    bundle = load_bundle(out)  # with golden parity
    manifest = bundle.manifest
    assert (manifest.action_space, manifest.observation_steps, manifest.fps) == ("tool_delta_xy", 3, 15)
    assert (manifest.reads_state, manifest.conditioning, manifest.task) == (False, (), "reach")
    assert manifest.units["tool"] == "m" and manifest.provenance["golden_tolerance"] < 1e-3
    # Episodes begin at 1, 11, 21, 31 and up by one from joint to joint: 11 is the first near the median.
    assert list(manifest.start_pose.values()) == [11, 12, 13, 14, 15, 16]
    pictures = np.stack([np.full((64, 64, 3), grey, np.uint8) for grey in (10, 200, 40)])
    actions = bundle.policy.run({"image_wrist": pictures})
    expected = 30 * policy.action_std.numpy() + policy.action_mean.numpy()
    np.testing.assert_allclose(actions, np.tile(expected, (4, 1)), rtol=1e-4)
