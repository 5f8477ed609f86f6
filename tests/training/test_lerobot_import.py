"""What is missing in a checkpoint of LeRobot is said, with what to add; what is there is taken over.

The checkpoint is one that is written here, with the statistics that LeRobot's have more of.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from robot.calibration_file import Calibration, JointCalibration
from robot.errors import ConfigError, DatasetError
from robot.joints import JOINTS
from robot.recording.features import ACTION, ENVIRONMENT_STATE, MOTOR_NAMES, STATE
from robot.recording.writer import DatasetWriter
from training.checkpoint import load_checkpoint, save_checkpoint
from training.config import TrainConfig, load_train_config
from training.lerobot.convert import Choices, Imported, convert
from training.lerobot.golden import golden_samples
from training.lerobot.importing import import_checkpoint
from training.lerobot.pretrained import (
    CONFIG_FILE,
    POSTPROCESSOR_FILE,
    PREPROCESSOR_FILE,
    TRAIN_FILE,
    WEIGHTS_FILE,
    read_pretrained,
)
from training.lerobot.units import units_in_statistics
from training.lerobot.write import write_pretrained
from training.loop import train
from training.policies.act import ActConfig
from training.policies.base import Inputs, PolicyShape, Stats
from training.policies.lerobot_act import LeRobotActConfig
from training.policies.registry import build

TINY = LeRobotActConfig(
    cameras=("wrist", "overhead"),
    image_height_px=64,
    image_width_px=64,
    camera_sizes_px={"overhead": (32, 32)},
    chunk_size=4,
    dim_model=16,
    n_heads=2,
    dim_feedforward=16,
    n_encoder_layers=1,
    n_vae_encoder_layers=1,
    latent_dim=4,
    reads_pickup=True,
)
MEAN, STD = np.linspace(-20, 20, 6, dtype=np.float32), np.linspace(5, 30, 6, dtype=np.float32)
STATS = Stats(MEAN, STD, MEAN + 1, STD + 1, np.array([0.2, 0], np.float32), np.array([0.1, 0.1], np.float32))
STATE_FILE = "policy_preprocessor_step_3_normalizer_processor.safetensors"
RESTORE_FILE = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
WRIST = "observation.images.wrist"
GIVEN = {"fps": 30.0, "units": "degrees", "pickup": True}


def checkpoint(config: PolicyShape, root: Path) -> Path:
    torch.manual_seed(0)
    save_checkpoint(
        root / "checkpoints",
        step=3,
        policy=build(config, STATS),
        train=TrainConfig(datasets=("none",), output_dir=str(root)),
        stats=STATS,
        fps=30.0,
        data="",
        optimiser={},
        averaged=None,
        metrics={},
    )
    return root


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as LeRobot writes it; its statistics have the smallest and largest values too."""
    root = checkpoint(TINY, tmp_path_factory.mktemp("ours"))
    out = root / "pretrained_model"
    write_pretrained(load_checkpoint(root), out)
    for file in (STATE_FILE, RESTORE_FILE):
        stats = load_file(out / file)
        for feature in (STATE, ACTION):
            stats |= {f"{feature}.min": torch.full((6,), -90.0), f"{feature}.max": torch.full((6,), 95.0)}
        save_file(stats, out / file)
    return out


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to break: its files are replaced, not written to."""
    return Path(shutil.copytree(original, tmp_path / "pretrained_model", copy_function=os.link))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.unlink()
    path.write_text(json.dumps(content))


def edit_tensors(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    content = {name: value.clone() for name, value in load_file(path).items()}
    change(content)
    path.unlink()
    save_file(content, path)


def taken_over(folder: Path, **choices: Any) -> Imported:
    return convert(read_pretrained(folder), Choices(**{**GIVEN, **choices}))


def inputs() -> Inputs:
    rng = torch.Generator().manual_seed(0)
    sizes = {"wrist": 64, "overhead": 32}
    images = {
        name: torch.randint(0, 256, (2, s, s, 3), dtype=torch.uint8, generator=rng)
        for name, s in sizes.items()
    }
    return Inputs(images, torch.randn(2, 6, generator=rng) * 30, torch.rand(2, 2, generator=rng))


def test_there_and_back_is_the_same(original: Path) -> None:
    imported = taken_over(original.parent)  # the folder above is found too
    policy = load_checkpoint(original.parent).build()
    with torch.no_grad():
        torch.testing.assert_close(
            imported.policy.predict(inputs()), policy.predict(inputs()), atol=1e-4, rtol=0
        )
    assert imported.config == TINY
    assert imported.limits["elbow_flex"].min == -90.0 and imported.limits["gripper"].max == 95.0
    assert imported.execution.mode == "open_loop"


@pytest.mark.parametrize(
    ("change", "choices", "words"),
    [
        ({"type": "smolvla"}, {}, "'smolvla'.*only LeRobot's ACT"),
        ({"chunk_size": "many"}, {}, "chunk_size"),
        ({"use_peft": True}, {}, "adapters"),
        ({"vision_backbone": "vgg"}, {}, "vision_backbone"),
        ({"replace_final_stride_with_dilation": True}, {}, "dilation"),
        ({"n_obs_steps": 2}, {}, "2 observations"),
        ({"output_features": {"action": {"type": "ACTION", "shape": [14]}}}, {}, "six joints: shoulder_pan"),
        ({"dim_model": 32}, {}, "config.json asks for"),
        ({"n_encoder_layers": 2}, {}, "missing are encoder.layers.1"),
        ({"use_vae": False}, {}, "not known are vae_encoder"),
        ({"n_action_steps": 0}, {}, "n_action_steps"),
        ({}, {"fps": None}, "--fps"),
        ({}, {"fps": 0.0}, "--fps 0 is no frame rate"),
        ({}, {"fps": float("nan")}, "--fps nan is no frame rate"),
        ({}, {"units": None}, "--units degrees"),
        ({}, {"units": "m100_100"}, "--calibration"),
        ({}, {"pickup": False}, "--pickup"),
        ({}, {"cameras": {"wrist": "observation.images.top"}}, "observation.images.wrist"),
        ({}, {"cameras": {"overhead": WRIST}}, "name them apart"),
        ({}, {"cameras": {"Wrist!": WRIST}}, "cannot be the name"),
    ],
)
def test_what_is_missing_or_not_known_is_said(
    folder: Path, change: dict[str, Any], choices: dict[str, Any], words: str
) -> None:
    edit(folder / CONFIG_FILE, lambda content: content.update(change))
    with pytest.raises(ConfigError, match=words):
        taken_over(folder, **choices)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, STATE_FILE, POSTPROCESSOR_FILE, RESTORE_FILE, CONFIG_FILE])
@pytest.mark.parametrize("half", [False, True])
def test_half_a_checkpoint_is_none(folder: Path, name: str, half: bool) -> None:
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if half:
        (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ConfigError, match=r"whole|cannot be read|it has no config\.json"):
        read_pretrained(folder)


def test_a_pickle_is_not_read(folder: Path) -> None:
    (folder / WEIGHTS_FILE).rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="a pickle, which is not read"):
        read_pretrained(folder)


def test_steps_that_change_numbers_are_refused(folder: Path) -> None:
    step = {"registry_name": "relative_action_processor", "config": {}}
    edit(folder / PREPROCESSOR_FILE, lambda content: content["steps"].insert(3, step))
    with pytest.raises(ConfigError, match="relative_action_processor"):
        read_pretrained(folder)


@pytest.mark.parametrize(
    ("file", "feature"), [(STATE_FILE, STATE), (STATE_FILE, WRIST), (RESTORE_FILE, ACTION)]
)
def test_statistics_that_lerobot_would_do_without_are_asked_for(
    folder: Path, dataset_root: Path, file: str, feature: str
) -> None:
    """LeRobot runs such a checkpoint un-normalised; a dataset brings what is missing."""
    edit_tensors(
        folder / file, lambda stats: [stats.pop(key) for key in list(stats) if key.startswith(feature)]
    )
    with pytest.raises(ConfigError, match=f"no mean and std of {feature}.*--dataset"):
        taken_over(folder)
    imported = taken_over(folder, dataset=dataset_root)
    assert imported.units.units == "degrees"
    if feature == ACTION:
        assert imported.limits["gripper"].max == 5 + 10 * 3 + 10 + 1  # the last frame of the last episode
    with pytest.raises(ConfigError, match="recorded at 30"):
        taken_over(folder, dataset=dataset_root, fps=25.0)


def test_numbers_that_are_none_are_refused(folder: Path) -> None:
    edit_tensors(folder / RESTORE_FILE, lambda stats: stats["action.std"].fill_(float("inf")))
    with pytest.raises(ConfigError, match="std of action must be 6 finite"):
        taken_over(folder)
    edit_tensors(folder / RESTORE_FILE, lambda stats: stats["action.std"].fill_(1.0))
    edit_tensors(folder / WEIGHTS_FILE, lambda weights: weights["model.action_head.bias"].fill_(float("nan")))
    with pytest.raises(ConfigError, match=r"action_head.bias .* not finite"):
        taken_over(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda stats: stats.pop("action.min"),
        lambda stats: stats["action.min"].fill_(float("nan")),
        lambda stats: stats.update({"action.min": torch.zeros(7)}),
    ],
)
def test_limits_are_asked_for(folder: Path, spoil: Callable[[dict[str, Tensor]], object]) -> None:
    edit_tensors(folder / RESTORE_FILE, spoil)
    with pytest.raises(ConfigError, match="smallest and largest actions"):
        taken_over(folder)


def test_a_dataset_that_cannot_be_read_is_wanted_for_the_rate_alone(folder: Path, tmp_path: Path) -> None:
    """LeRobot 0.3 names one in v2.1."""
    meta = tmp_path / "old" / "meta"
    meta.mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps({"codebase_version": "v2.1", "fps": 30, "features": {}}))
    (folder / TRAIN_FILE).write_text(json.dumps({"dataset": {"root": str(meta.parent)}}))
    assert taken_over(folder, fps=25.0).fps == 25.0
    with pytest.raises(DatasetError, match=r"v2\.1"):
        taken_over(folder, fps=None)


def bounds(low: float, high: float) -> dict[str, dict[str, Any]]:
    return {STATE: {"min": np.full(6, low), "max": np.full(6, high), "mean": np.full(6, (low + high) / 2)}}


def test_statistics_tell_units_only_where_they_prove_them() -> None:
    assert units_in_statistics(bounds(-99.0, 99.0)) is None
    assert units_in_statistics({}) is None
    found = {reach: units_in_statistics(bounds(-reach, reach)) for reach in (100.0, 101.0)}
    assert {reach: seen.units for reach, seen in found.items() if seen} == {
        100.0: "m100_100",
        101.0: "degrees",
    }
    only_the_gripper = bounds(0.0, 50.0)
    only_the_gripper[STATE]["max"][5] = 101.0
    assert units_in_statistics(only_the_gripper) is None
    with pytest.raises(ConfigError, match="servo's steps"):
        units_in_statistics(bounds(800.0, 3000.0))


def test_units_that_the_numbers_disprove_are_refused(folder: Path) -> None:
    edit_tensors(folder / STATE_FILE, lambda stats: stats[f"{STATE}.max"].fill_(120.0))
    assert "120.00 as max of shoulder_pan" in taken_over(folder, units=None).units.why
    with pytest.raises(ConfigError, match="--units m100_100 cannot be"):
        taken_over(folder, units="m100_100")


def test_a_calibration_is_folded_into_the_graph(folder: Path) -> None:
    joints = {joint: JointCalibration(k + 1, 0, 0, 1000, 3047 - 100 * k) for k, joint in enumerate(JOINTS)}
    imported = taken_over(folder, units="m100_100", calibration=Calibration(joints))
    deg_per_hundredth = (3047 - 1000) * 360 / 4095 / 200
    assert imported.stats.state_std[0] == pytest.approx(STD[0] * deg_per_hundredth, rel=1e-5)
    assert imported.stats.action_mean[5] == pytest.approx(MEAN[5] + 1)  # the gripper is in percent in both
    assert imported.limits["shoulder_pan"].max == pytest.approx(95.0 * deg_per_hundredth)


def test_a_dataset_of_another_arm_is_refused(folder: Path, dataset_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset_root, tmp_path / "other"))
    swapped = [*MOTOR_NAMES[1:], MOTOR_NAMES[0]]
    edit(root / "meta" / "info.json", lambda info: info["features"][ACTION].update(names=swapped))
    with pytest.raises(ConfigError, match=r"action is of shoulder_lift.*in this order"):
        taken_over(folder, dataset=root)


@pytest.mark.parametrize("lacking", ["episodes", ACTION, ENVIRONMENT_STATE])
def test_a_dataset_that_lacks_something_is_refused(
    original: Path, dataset_root: Path, tmp_path: Path, lacking: str
) -> None:
    if lacking == "episodes":
        DatasetWriter.create(tmp_path / "other", fps=30, cameras={"wrist": (64, 64)}).close()
    else:
        shutil.copytree(dataset_root, tmp_path / "other")
        edit(tmp_path / "other" / "meta" / "info.json", lambda info: info["features"].pop(lacking))
    with pytest.raises(ConfigError, match=f"has no {lacking}.*was trained on"):
        golden_samples(taken_over(original, dataset=tmp_path / "other"))


def test_golden_samples_are_frames_of_the_dataset(original: Path, dataset_root: Path) -> None:
    imported = taken_over(original, dataset=dataset_root)
    golden = golden_samples(imported)
    assert {name: values.shape for name, values in golden.items()} == {
        "image_wrist": (4, 64, 64, 3),
        "image_overhead": (4, 32, 32, 3),
        "state": (4, 6),
        "pickup_xy_m": (4, 2),
        "actions": (4, 4, 6),
    }
    np.testing.assert_array_equal(golden["state"][1], np.arange(6.0) + 10 + 6)  # the middle of episode 1
    made_up = golden_samples(taken_over(original))
    assert made_up.keys() == golden.keys()
    assert np.ptp(made_up["image_wrist"]) > 100


def test_training_goes_on_from_what_was_imported(original: Path, dataset_root: Path, tmp_path: Path) -> None:
    imported = taken_over(original, dataset=dataset_root)
    run = import_checkpoint(imported, tmp_path / "taken")
    with pytest.raises(ConfigError, match="holds checkpoints"):
        import_checkpoint(imported, tmp_path / "taken")
    config = load_train_config(run)
    assert config.optimiser.lr == 1e-5 and config.datasets == (str(dataset_root),)
    quick = {"steps": 1, "batch_size": 2, "device": "cpu", "threads": 1, "cache_dir": str(tmp_path / "cache")}
    result = train(TrainConfig.model_validate({**yaml.safe_load(run.read_text()), **quick}))
    before, after = imported.policy.state_dict(), load_checkpoint(result.checkpoint).weights()
    assert set(before) == set(after)
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < moved < 1e-3


def test_only_lerobots_policies_can_be_written_for_it(tmp_path: Path, original: Path) -> None:
    tiny = ActConfig(image_height_px=32, image_width_px=32, d_model=16, heads=2, d_ff=16, chunk_size=2)
    with pytest.raises(ConfigError, match="'act': only lerobot_act"):
        write_pretrained(load_checkpoint(checkpoint(tiny, tmp_path / "act")), tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="not empty"):
        write_pretrained(load_checkpoint(original.parent), tmp_path / "out")
