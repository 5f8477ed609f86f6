"""LeRobot's ACT and ours compute the same: its checkpoints here, ours there, and the loss of both.

LeRobot makes the checkpoints itself, random and small, and answers for the same pictures and states.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot_peer import LeRobot, has
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from inference.bundle import load_bundle
from robot.calibration_file import Calibration, JointCalibration
from robot.joints import JOINTS
from robot.recording.replay import UnitMap
from services.cli import app
from training.checkpoint import load_checkpoint, save_checkpoint
from training.config import TrainConfig
from training.lerobot.convert import Choices, Imported, convert
from training.lerobot.pretrained import PREPROCESSOR_FILE, read_pretrained
from training.lerobot.write import write_pretrained
from training.policies.base import Inputs, Labels, Stats
from training.policies.lerobot_act import LeRobotAct, LeRobotActConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # two interpreters with torch, on a busy machine
    pytest.mark.skipif(not has("lerobot"), reason="LeRobot is not installed: bin/setup-lerobot"),
]

SCRIPT = Path(__file__).with_name("lerobot_policies.py")
TOLERANCE_USER = 1e-4
SIZES = {"front": (64, 96), "side": (48, 64)}
TINY = {
    "chunk_size": 5,
    "n_action_steps": 3,
    "dim_model": 32,
    "n_heads": 4,
    "dim_feedforward": 48,
    "n_encoder_layers": 2,
    "n_vae_encoder_layers": 1,
    "latent_dim": 8,
    "dropout": 0.0,
}
MIN_MAX_INPUTS = {"VISUAL": "MIN_MAX", "STATE": "MIN_MAX", "ACTION": "MEAN_STD"}
RAW_PICTURES = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MIN_MAX", "ENV": "MEAN_STD"}
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeRobot]:
    found = LeRobot(SCRIPT, tmp_path_factory.mktemp("lerobot"))
    yield found
    found.close()


def statistics(rng: np.random.Generator, width: int, reach: float) -> dict[str, list[float]]:
    mean, std = rng.uniform(-0.3, 0.3, width) * reach, rng.uniform(0.1, 0.5, width) * reach
    return {
        "mean": mean.tolist(),
        "std": std.tolist(),
        "min": (mean - 2.1 * std).tolist(),
        "max": (mean + 1.9 * std).tolist(),
    }


def make(
    lerobot: LeRobot,
    out: Path,
    *,
    environment: bool = False,
    reach: float = 120.0,
    **more: Any,
) -> Path:
    """A random checkpoint of LeRobot's; its cameras have statistics of their own."""
    rng = np.random.default_rng(7)
    inputs: dict[str, Any] = {"observation.state": ["STATE", [6]]}
    inputs |= {f"observation.images.{name}": ["VISUAL", [3, *size]] for name, size in SIZES.items()}
    if environment:
        inputs["observation.environment_state"] = ["ENV", [2]]
    stats = {"observation.state": statistics(rng, 6, reach), "action": statistics(rng, 6, reach)}
    stats |= {
        f"observation.images.{name}": {
            "mean": rng.uniform(0.3, 0.6, 3).tolist(),
            "std": rng.uniform(0.1, 0.3, 3).tolist(),
            "min": [0.0] * 3,
            "max": [0.9] * 3,
        }
        for name in SIZES
    }
    stats["observation.environment_state"] = statistics(rng, 2, 0.3)
    config = {"inputs": inputs, "outputs": {"action": ["ACTION", [6]]}, **TINY, **more}
    lerobot.ask("make", out=out, config=config, stats=stats)
    return out


@pytest.fixture(scope="module")
def usual(lerobot: LeRobot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(lerobot, tmp_path_factory.mktemp("usual") / "pretrained_model")


def samples(*, environment: bool = False, count: int = 3) -> Arrays:
    """What LeRobot's robot would give: pictures as uint8, and numbers."""
    rng = np.random.default_rng(3)
    arrays: Arrays = {
        f"observation.images.{name}": rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
        for name, size in SIZES.items()
    }
    arrays["observation.state"] = rng.uniform(-60, 60, (count, 6)).astype(np.float32)
    if environment:
        arrays["observation.environment_state"] = rng.uniform(-0.2, 0.3, (count, 2)).astype(np.float32)
    return arrays


def theirs(lerobot: LeRobot, folder: Path, arrays: Arrays, at: Path) -> NDArray[Any]:
    np.savez(at / "inputs.npz", allow_pickle=False, **arrays)
    lerobot.ask("run", folder=folder, inputs=at / "inputs.npz", out=at / "actions.npz")
    with np.load(at / "actions.npz") as archive:
        actions: NDArray[Any] = archive["actions"]
    # Nothing is shown by answers that do not depend on what was seen.
    assert (actions.max(axis=0) - actions.min(axis=0)).max() > 0.1
    return actions


def inputs_of(arrays: Arrays) -> Inputs:
    count = len(arrays["observation.images.front"])
    return Inputs(
        {name: torch.from_numpy(arrays[f"observation.images.{name}"]) for name in SIZES},
        torch.from_numpy(arrays["observation.state"]),
        torch.from_numpy(arrays.get("observation.environment_state", np.zeros((count, 2), np.float32))),
    )


def ours(policy: LeRobotAct, arrays: Arrays) -> NDArray[Any]:
    with torch.no_grad():
        return policy.eval().predict(inputs_of(arrays)).numpy()


def taken_over(folder: Path, **more: Any) -> Imported:
    return convert(read_pretrained(folder), Choices(**{"fps": 30.0, "units": "degrees", **more}))


def test_a_bundle_answers_as_lerobot_does(lerobot: LeRobot, usual: Path, tmp_path: Path) -> None:
    """All the way: the command, ONNX Runtime, uint8 pictures of two sizes."""
    command = ["import-lerobot", str(usual), "--fps", "30", "--units", "degrees", "--json"]
    command += ["--camera", "wrist=observation.images.side", "--out", str(tmp_path / "bundle")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["cameras"] == {"front": "observation.images.front", "wrist": "observation.images.side"}
    assert facts["execution"]["mode"] == "receding" and facts["execution"]["actions_per_inference"] == 3
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.manifest.fps == 30 and bundle.manifest.conditioning == ()
    assert [(c.name, c.height_px, c.width_px) for c in bundle.manifest.cameras] == [
        ("front", 64, 96),
        ("wrist", 48, 64),
    ]
    arrays = samples()
    expected = theirs(lerobot, usual, arrays, tmp_path)
    for index, chunk in enumerate(expected):
        answer = bundle.policy.run(
            {
                "image_front": arrays["observation.images.front"][index],
                "image_wrist": arrays["observation.images.side"][index],
                "state": arrays["observation.state"][index],
            }
        )
        np.testing.assert_allclose(answer, chunk, atol=TOLERANCE_USER, rtol=0)


@pytest.mark.parametrize(
    ("environment", "more"),
    [
        (True, {"pre_norm": True, "feedforward_activation": "gelu", "n_decoder_layers": 2, "use_vae": False}),
        (True, {"modes": RAW_PICTURES}),
        (False, {"modes": MIN_MAX_INPUTS, "vision_backbone": "resnet34"}),
    ],
)
def test_however_it_is_built(
    lerobot: LeRobot, tmp_path: Path, environment: bool, more: dict[str, Any]
) -> None:
    folder = make(lerobot, tmp_path / "other", environment=environment, **more)
    arrays = samples(environment=environment)
    imported = taken_over(folder, pickup=environment)
    expected = theirs(lerobot, folder, arrays, tmp_path)
    np.testing.assert_allclose(ours(imported.policy, arrays), expected, atol=TOLERANCE_USER, rtol=0)


def test_older_checkpoints_have_their_statistics_among_the_weights(
    lerobot: LeRobot, usual: Path, tmp_path: Path
) -> None:
    """Before 0.4.0: buffers where underscores stand for dots, and no processors."""
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(usual / "config.json", old)
    state_file = json.loads((usual / PREPROCESSOR_FILE).read_text())["steps"][3]["state_file"]
    tensors = load_file(usual / "model.safetensors")
    for key, value in load_file(usual / state_file).items():
        feature, _, name = key.rpartition(".")
        kinds = ("normalize_targets", "unnormalize_outputs") if feature == "action" else ("normalize_inputs",)
        if name in ("mean", "std") and "environment" not in feature:
            tensors |= {f"{kind}.buffer_{feature.replace('.', '_')}.{name}": value.clone() for kind in kinds}
    save_file(tensors, old / "model.safetensors")
    with pytest.raises(Exception, match="smallest and largest actions"):
        taken_over(old)
    for name in ("min", "max"):
        bounds = load_file(usual / state_file)[f"action.{name}"]
        tensors[f"unnormalize_outputs.buffer_action.{name}"] = bounds.clone()
    save_file(tensors, old / "model.safetensors")
    arrays = samples()
    expected = theirs(lerobot, usual, arrays, tmp_path)
    np.testing.assert_allclose(ours(taken_over(old).policy, arrays), expected, atol=TOLERANCE_USER, rtol=0)


def test_a_policy_in_hundredths_of_the_swept_range_becomes_one_in_degrees(
    lerobot: LeRobot, tmp_path: Path
) -> None:
    folder = make(lerobot, tmp_path / "swept", reach=60.0)
    # Two joints count backwards, which LeRobot's m100_100 knows and its degrees do not.
    calibration = Calibration(
        {
            joint: JointCalibration(k + 1, int(k in (1, 5)), 0, 700 + 40 * k, 3300 - 90 * k)
            for k, joint in enumerate(JOINTS)
        }
    )
    unit_map = UnitMap("m100_100", calibration)
    arrays = samples()
    expected = unit_map.to_user(theirs(lerobot, folder, arrays, tmp_path))
    arrays["observation.state"] = unit_map.to_user(arrays["observation.state"]).astype(np.float32)
    imported = taken_over(folder, units="m100_100", calibration=calibration)
    np.testing.assert_allclose(ours(imported.policy, arrays), expected, atol=TOLERANCE_USER, rtol=0)
    assert min(imported.stats.state_std.min(), imported.stats.action_std.min()) > 0


def test_losses_are_lerobots(lerobot: LeRobot, usual: Path, tmp_path: Path) -> None:
    """Over the steps that exist, with the latent's divergence; its noise is made too small to matter."""
    folder = Path(shutil.copytree(usual, tmp_path / "still"))
    tensors = load_file(folder / "model.safetensors")
    for kind in ("weight", "bias"):
        tensors[f"model.vae_encoder_latent_output_proj.{kind}"][8:] = 0.0 if kind == "weight" else -30.0
    save_file(tensors, folder / "model.safetensors")
    arrays = samples(count=2)
    rng = np.random.default_rng(5)
    actions = rng.uniform(-80, 80, (2, 5, 6)).astype(np.float32)
    padded = np.array([[False] * 5, [False] * 3 + [True] * 2])
    np.savez(tmp_path / "batch.npz", action=actions, action_is_pad=padded, allow_pickle=False, **arrays)
    said = lerobot.ask("loss", folder=folder, inputs=tmp_path / "batch.npz")
    policy = taken_over(folder).policy.train()
    found = policy.loss(inputs_of(arrays), Labels(torch.from_numpy(actions), torch.from_numpy(~padded)))
    for name, their_name in {"loss": "loss", "l1": "l1_loss", "kl": "kld_loss"}.items():
        assert found[name].item() == pytest.approx(said[their_name], rel=1e-5), name


@pytest.mark.parametrize("pickup", [False, True])
def test_what_is_trained_here_runs_there(lerobot: LeRobot, tmp_path: Path, pickup: bool) -> None:
    config = LeRobotActConfig.model_validate(
        {
            **{key: value for key, value in TINY.items() if key != "n_action_steps"},
            "cameras": ("front", "side"),
            "image_height_px": 64,
            "image_width_px": 96,
            "camera_sizes_px": {"side": (48, 64)},
            "reads_pickup": pickup,
        }
    )
    torch.manual_seed(0)
    rng = np.random.default_rng(1)

    def some(width: int, reach: float) -> tuple[NDArray[Any], NDArray[Any]]:
        values = statistics(rng, width, reach)
        return np.array(values["mean"], np.float32), np.array(values["std"], np.float32)

    stats = Stats(*some(6, 100.0), *some(6, 100.0), *some(2, 0.3))
    policy = LeRobotAct(config, stats)
    train = TrainConfig(datasets=("none",), output_dir=str(tmp_path))
    save_checkpoint(
        tmp_path / "checkpoints",
        step=7,
        policy=policy,
        train=train,
        stats=stats,
        fps=30.0,
        data="",
        optimiser={},
        averaged=None,
        metrics={},
    )
    notes = write_pretrained(load_checkpoint(tmp_path), tmp_path / "pretrained_model")
    assert "30 actions a second" in notes[0] and "side 64x48" in notes[1]
    arrays = samples(environment=pickup)
    expected = theirs(lerobot, tmp_path / "pretrained_model", arrays, tmp_path)
    np.testing.assert_allclose(ours(policy, arrays), expected, atol=TOLERANCE_USER, rtol=0)
