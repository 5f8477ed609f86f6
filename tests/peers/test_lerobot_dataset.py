"""What is recorded here opens and trains in LeRobot, and what LeRobot writes opens and trains here.

LeRobot needs Python 3.12 and its own torch, so it runs in the environment that ``bin/setup-lerobot`` makes;
where that is absent, and no ``SO101_LEROBOT_PYTHON`` names another, there is nothing to test.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counted import number_of, picture, psnr_db
from lerobot_peer import PYTHON, LeRobot, has

from robot.recording.check import examine
from robot.recording.convert import convert
from robot.recording.delete import delete
from robot.recording.features import Feature
from robot.recording.merge import merge
from robot.recording.reader import Dataset
from robot.recording.repair import Repair
from robot.recording.stats import STAT_NAMES
from robot.recording.writer import DatasetWriter
from tests.legacy_dataset import write_legacy
from training.config import TrainConfig
from training.loop import Trainer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not has("datasets", "accelerate"), reason="LeRobot's datasets are not installed: bin/setup-lerobot"
    ),
]

HELPER = Path(__file__).with_name("lerobot_datasets.py")
SIZES = {"wrist": (96, 128), "overhead": (480, 640)}
LENGTHS = (12, 17, 9)
RECORDED = (
    Feature("loss_mask", "float32", (1,)),
    Feature("intervention", "int64", (1,)),
    Feature("success", "int64", (1,)),
    Feature("timing.time_s", "float64", (1,)),
    Feature("timing.state_age_s", "float32", (1,)),
    *(Feature(f"timing.{camera}_age_s", "float32", (1,)) for camera in SIZES),
)


def _ffmpeg(folder: Path) -> str:
    """Let torchcodec, LeRobot's default decoder, find the FFmpeg that PyAV brings."""
    assert PYTHON is not None
    code = "import av, pathlib; print(pathlib.Path(av.__file__).parent.parent / 'av.libs')"
    found = subprocess.run([str(PYTHON), "-c", code], check=True, capture_output=True, text=True)
    libraries = Path(found.stdout.strip())
    folder.mkdir()
    for library in libraries.glob("lib[as][vw]*.so.*"):
        name = re.sub(r"-[0-9a-f]{8}(\.so\.\d+).*", r"\1", library.name)
        (folder / name).symlink_to(library)
    return f"{folder}:{libraries}"


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeRobot]:
    home = tmp_path_factory.mktemp("lerobot")
    found = LeRobot(HELPER, home, {"SVT_LOG": "1", "LD_LIBRARY_PATH": _ffmpeg(home / "ffmpeg")})
    yield found
    found.close()


def vector(number: int) -> np.ndarray:
    return np.arange(6) + number / 8


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three takes as the recorder writes them; picture and state of row ``n`` of all say ``n``."""
    root = tmp_path_factory.mktemp("ours") / "recorded"
    with DatasetWriter.create(
        root, fps=30, cameras=SIZES, extra_features=RECORDED, extra_info={"control_hz": 60}
    ) as writer:
        number = 0
        for episode, length in enumerate(LENGTHS):
            take = writer.begin_take(f"task {episode % 2}")
            for k in range(length):
                images = {camera: picture(number, *size) for camera, size in SIZES.items()}
                extra = {
                    "loss_mask": 1.0,
                    "intervention": k % 2,
                    "timing.time_s": k / 30 + 1e-3,
                    "timing.state_age_s": 0.004,
                    **{f"timing.{camera}_age_s": 0.01 for camera in SIZES},
                }
                take.add(vector(number), vector(number) + 1, images, [0.2, 0.1], extra)
                number += 1
            take.end(("success", "failure", None)[episode])
    return root


@pytest.fixture(scope="module")
def theirs(lerobot: LeRobot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes by LeRobot's own writer, which keeps them in one file."""
    root = tmp_path_factory.mktemp("theirs") / "recorded"
    lerobot.ask("write", root=root, frames=LENGTHS, size=(64, 96))
    return root


def check_rows(answer: dict[str, Any], cameras: dict[str, float], first: int = 0) -> None:
    """Each row's pictures, decoded by LeRobot, are its own, and look like what was recorded."""
    for number, row in enumerate(answer["rows"], first):
        assert row["observation.state"] == pytest.approx(vector(number).tolist())
        assert row["action"] == pytest.approx((vector(number) + 1).tolist())
        for camera, least_db in cameras.items():
            shown, quality_db = row[f"observation.images.{camera}"]
            assert shown == number and quality_db > least_db, (number, camera, quality_db)


@pytest.mark.parametrize("decoder", ["torchcodec", "pyav"])
def test_what_we_record_is_what_lerobot_sees(lerobot: LeRobot, ours: Path, decoder: str) -> None:
    answer = lerobot.ask("open", root=ours, decoder=decoder)
    assert (answer["episodes"], len(answer["rows"]), answer["fps"]) == (3, sum(LENGTHS), 30)
    assert answer["robot_type"] == "so_follower"
    check_rows(answer, {"wrist": 30.0, "overhead": 30.0})
    rows, starts = answer["rows"], np.cumsum([0, *LENGTHS[:-1]])
    for episode, (start, length) in enumerate(zip(starts, LENGTHS, strict=True)):
        mine = rows[start : start + length]
        assert {row["task"] for row in mine} == {f"task {episode % 2}"}
        assert [row["success"] for row in mine] == [(1, 0, -1)[episode]] * length
        assert [row["frame_index"] for row in mine] == list(range(length))
        assert [row["intervention"] for row in mine] == [k % 2 for k in range(length)]
        times_s = [row["timing.time_s"] for row in mine]
        np.testing.assert_allclose(times_s, np.arange(length) / 30 + 1e-3, atol=1e-5)
    states = np.array([row["observation.state"] for row in rows])
    stats = answer["stats"]
    np.testing.assert_allclose(stats["observation.state"]["mean"], states.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["observation.state"]["std"], states.std(0), rtol=1e-5)
    for feature, part in stats.items():
        assert part.keys() == set(STAT_NAMES), feature
    assert stats.keys() == answer["features"].keys()
    assert len(stats["observation.images.wrist"]["mean"]) == 3


def test_lerobots_own_tools_edit_what_we_record(lerobot: LeRobot, ours: Path, tmp_path: Path) -> None:
    lerobot.ask("delete", roots=[ours], out=tmp_path / "less")
    answer = lerobot.ask("open", root=tmp_path / "less")
    assert answer["episodes"] == 2
    kept = [*range(LENGTHS[0]), *range(LENGTHS[0] + LENGTHS[1], sum(LENGTHS))]
    assert [row["observation.images.overhead"][0] for row in answer["rows"]] == kept
    lerobot.ask("merge", roots=[ours, tmp_path / "less"], out=tmp_path / "all")
    assert lerobot.ask("open", root=tmp_path / "all")["episodes"] == 5


def test_lerobot_goes_on_where_we_stopped_and_we_where_it_did(
    lerobot: LeRobot, theirs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "both"
    convert(theirs, root, units="degrees")
    lerobot.ask("resume", root=root, frames=[8], size=(64, 96), first=sum(LENGTHS))
    check_rows(lerobot.ask("open", root=root), {"wrist": 25.0, "overhead": 25.0})
    with DatasetWriter.open(root) as writer:
        take = writer.begin_take("task 0")
        for number in range(sum(LENGTHS) + 8, sum(LENGTHS) + 20):
            images = {camera: picture(number, 64, 96) for camera in SIZES}
            take.add(vector(number), vector(number) + 1, images)
        take.end(None)
    answer = lerobot.ask("open", root=root)
    assert (answer["episodes"], len(answer["rows"])) == (5, sum(LENGTHS) + 20)
    check_rows(answer, {"wrist": 25.0, "overhead": 25.0})


def test_lerobot_trains_act_on_what_we_record(lerobot: LeRobot, ours: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    convert(ours, small, drop=["observation.images.overhead"])
    assert PYTHON is not None
    train = PYTHON.with_name("lerobot-train")
    options = {
        "dataset.repo_id": "so101/test",
        "dataset.root": small,
        "output_dir": tmp_path / "run",
        "policy.type": "act",
        "policy.device": "cpu",
        "policy.push_to_hub": "false",
        "policy.pretrained_backbone_weights": "null",
        "policy.chunk_size": 4,
        "policy.n_action_steps": 4,
        "policy.dim_model": 16,
        "policy.n_heads": 2,
        "policy.dim_feedforward": 16,
        "policy.n_encoder_layers": 1,
        "policy.n_vae_encoder_layers": 1,
        "batch_size": 2,
        "num_workers": 0,
        "steps": 10,
        "save_freq": 10,
        "log_freq": 10,
        "wandb.enable": "false",
    }
    command = [str(train), *(f"--{name}={value}" for name, value in options.items())]
    result = subprocess.run(
        command, env=lerobot.environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
    saved = tmp_path / "run/checkpoints/000010/pretrained_model"
    inputs = json.loads((saved / "config.json").read_text())["input_features"]
    assert inputs["observation.state"] == {"type": "STATE", "shape": [6]}
    assert inputs["observation.environment_state"] == {"type": "ENV", "shape": [2]}
    assert inputs["observation.images.wrist"] == {"type": "VISUAL", "shape": [3, 96, 128]}
    assert len(inputs) == 3  # timing, labels and masks are none of the policy's business
    assert (saved / "model.safetensors").stat().st_size > 0


def check_ours(dataset: Dataset, size: tuple[int, int], least_db: float) -> None:
    number = 0
    for episode in dataset.episodes:
        columns = dataset.load(episode.index)
        images = {camera: dataset.frames(episode.index, camera) for camera in dataset.cameras}
        for row in range(episode.length):
            np.testing.assert_allclose(columns["observation.state"][row], vector(number))
            for shown in images.values():
                assert number_of(shown[row]) == number
                assert psnr_db(shown[row], picture(number, *size)) > least_db
            number += 1


def test_what_lerobot_writes_opens_and_trains_here(theirs: Path, tmp_path: Path) -> None:
    dataset = Dataset(theirs)
    assert [episode.length for episode in dataset.episodes] == list(LENGTHS)
    assert len({episode.videos["observation.images.wrist"].slot for episode in dataset.episodes}) == 1
    assert dataset.cameras == ("wrist", "overhead") and dataset.units is None
    check_ours(dataset, (64, 96), 25.0)
    command = [sys.executable, "-m", "services.cli", "dataset", "check", str(theirs), "--json"]
    checked = subprocess.run(command, capture_output=True, check=False)
    found = json.loads(checked.stdout)
    assert found["ok"] and found["findings"] == [], found
    said = tmp_path / "said"
    convert(theirs, said, units="degrees")
    check_ours(Dataset(said), (64, 96), 25.0)
    policy = tmp_path / "tiny.yaml"
    policy.write_text(
        "{image_height_px: 32, image_width_px: 32, chunk_size: 4, d_model: 16, heads: 2, d_ff: 16}"
    )
    trained = Trainer(
        TrainConfig(
            datasets=(str(said),),
            policy=str(policy),
            output_dir=str(tmp_path / "run"),
            cache_dir=str(tmp_path / "cache"),
            steps=3,
            batch_size=4,
            validation_share=0.34,
            device="cpu",
            threads=1,
        )
    ).run()
    assert trained.finished and trained.step == 3


def test_nothing_is_wrong_with_what_lerobot_writes_and_what_is_left_of_it_opens_there(
    lerobot: LeRobot, theirs: Path, tmp_path: Path
) -> None:
    assert examine(theirs).findings == []
    delete(theirs, [0], tmp_path / "less")
    root = Path(shutil.copytree(theirs, tmp_path / "broken"))
    info = root / "meta/info.json"
    info.write_text(info.read_text().replace('"total_frames": 38', '"total_frames": 4'))
    assert Repair(root).run().episodes == 3
    for made, first in ((tmp_path / "less", LENGTHS[0]), (root, 0)):
        assert examine(made).findings == []
        answer = lerobot.ask("open", root=made)
        assert len(answer["rows"]) == sum(LENGTHS) - first
        check_rows(answer, {"wrist": 25.0, "overhead": 25.0}, first)


def test_pictures_in_tables_and_shared_files_become_one_dataset(
    lerobot: LeRobot, theirs: Path, tmp_path: Path
) -> None:
    lerobot.ask("write", root=tmp_path / "pictures", frames=(4, 3), size=(64, 96), videos=False)
    merge([theirs, tmp_path / "pictures"], tmp_path / "all", units="degrees")
    answer = lerobot.ask("open", root=tmp_path / "all")
    assert answer["episodes"] == 5
    first, second = answer["rows"][: sum(LENGTHS)], answer["rows"][sum(LENGTHS) :]
    for part in (first, second):
        check_rows({"rows": part}, {"wrist": 25.0, "overhead": 25.0})


def test_conversion_gives_what_lerobots_own_gives(lerobot: LeRobot, tmp_path: Path) -> None:
    write_legacy(tmp_path / "old", (6, 9, 5))
    convert(tmp_path / "old", tmp_path / "ours")
    shutil.copytree(tmp_path / "old", tmp_path / "theirs")
    lerobot.ask("convert", root=tmp_path / "theirs")
    a, b = (lerobot.ask("open", root=tmp_path / name) for name in ("ours", "theirs"))
    assert len(a["rows"]) == len(b["rows"]) == 20
    for mine, other in zip(a["rows"], b["rows"], strict=True):
        assert mine.keys() == other.keys()
        for name in mine.keys() - {"timestamp"}:
            assert mine[name] == other[name], name  # pictures too: nothing was encoded again
        assert mine["timestamp"] == pytest.approx(other["timestamp"], abs=1e-6)
    for feature, part in b["stats"].items():
        for name in part:
            # Its statistics of pictures are what the old dataset says, ours are of the decoded ones.
            found, tolerance = a["stats"][feature][name], 0.01 if "images" in feature else 1e-5
            np.testing.assert_allclose(found, part[name], atol=tolerance, err_msg=f"{feature} {name}")
