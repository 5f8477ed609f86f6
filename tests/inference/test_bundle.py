from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from inference.bundle import check_robot, load_bundle
from inference.manifest import read_manifest, sha256_of
from robot.config import CameraConfig, RobotConfig, load_robot
from robot.errors import BundleError
from robot.joints import JOINTS, UNITS
from robot.seams import Observation
from services.shipped import default_policy
from tests.inference.toy import CHUNK, HEIGHT, WIDTH, rehash, toy_actions, write_bundle, write_model


def robot_with(**camera: Any) -> RobotConfig:
    config, _ = load_robot("twin")
    fields = {"name": "wrist", "height_px": HEIGHT, "width_px": WIDTH, **camera}
    return config.model_copy(update={"cameras": (CameraConfig(**fields),)})


def test_a_good_bundle_loads_and_runs(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder, robot_with())
    assert bundle.parity_user < 1e-3
    assert bundle.policy.latency().runs == 0  # checks and warm-up do not count
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    state, pickup = np.arange(6, dtype=np.float32), np.array([0.25, 0.0], np.float32)
    chunk = bundle.policy.chunk(Observation(7, state, pickup, {"wrist": image}))
    assert chunk.shape == (CHUNK, 6) and chunk.dtype == np.float32
    np.testing.assert_allclose(chunk, toy_actions(image, state, pickup), atol=1e-4)
    latency = bundle.policy.latency()
    assert latency.runs == 1 and latency.median_ms > 0


def edit(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "manifest.json"
        content = json.loads(path.read_text())
        content.update(changes)
        path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))

    return apply


def damage(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)

    return apply


def other_model(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        write_model(folder / "model.onnx", **changes)
        rehash(folder)

    return apply


def no_model(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a graph")
    rehash(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage("model.onnx"), r"model\.onnx has sha256"),
        (damage("golden.npz"), r"golden\.npz has sha256"),
        (lambda folder: (folder / "model.onnx").unlink(), r"model\.onnx is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "no policy bundle"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read"),
        (edit(schema_version=2), "schema_version"),
        (edit(speed=3), "speed"),
        (edit(fps=None), "fps: Field required"),
        (edit(fps=0), "fps"),
        (edit(joints=["gripper"]), "joints must be shoulder_pan"),
        (edit(units={"gripper": "deg"}), "units must be"),
        (edit(conditioning=["x"]), "conditioning must be pickup_x_m"),
        (edit(conditioning=[]), "input 'pickup_xy_m', which the manifest does not describe"),
        (edit(reads_state=False), "input 'state', which the manifest does not describe"),
        (
            edit(observation_steps=2),
            r"'image_wrist' is .*\(32, 48, 3\), the manifest says .*\(2, 32, 48, 3\)",
        ),
        (edit(action_space="tool_delta_xyz"), r"units must be .*'tool': 'm'"),
        (edit(action_space="tool_delta_xy", units={**UNITS, "tool": "m"}), r"\(10, 6\), .*\(10, 2\)"),
        (edit(start_pose={"gripper": 1.0}), "start_pose must name every joint"),
        (edit(chunk_size=11), r"output 'actions' is .*\(10, 6\), the manifest says .*\(11, 6\)"),
        (edit(cameras=[]), "input 'image_wrist', which the manifest does not describe"),
        (
            edit(cameras=[{"name": "wrist", "height_px": 30, "width_px": 48}]),
            r"\(32, 48, 3\), the manifest says tensor\(uint8\) \(30, 48, 3\)",
        ),
        (edit(files={"../model.onnx": "0", "model.onnx": "0", "golden.npz": "0"}), "without folders"),
        (other_model(offset=0.2), "differ from training's by 0.2"),
        (other_model(offset=float("nan")), "differ from training's by nan"),
        (other_model(chunk=9), "output 'actions'"),
        (no_model, "cannot be loaded on cpu"),
    ],
)
def test_every_mismatch_names_the_difference(
    bundle_folder: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(bundle_folder)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle_folder)


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ({"name": "front"}, "needs camera 'wrist', .* has front"),
        ({"height_px": 480, "width_px": 640}, "takes 48x32, robot .* gives 640x480"),
        ({"fps": 15}, "trained with 30 pictures a second, robot .* gives 15: set the camera's fps to 30"),
    ],
)
def test_the_robot_must_have_the_cameras(bundle_folder: Path, camera: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle_folder, robot_with(**camera))


@pytest.mark.parametrize(
    ("seen", "fits"),
    [
        ((4000.0, 4096.0), False),
        ((-50.0, 120.0), False),
        ((-120.0, 50.0), False),
        ((-97.0, 97.0), True),  # the twin's elbow may go to 96.5 on both sides
        ((-98.4, 98.4), True),
        ((-98.6, 0.0), False),
        ((0.0, 98.6), False),
    ],
)
def test_the_robot_must_be_able_to_move_as_far_as_the_data(
    tmp_path: Path, seen: tuple[float, float], fits: bool
) -> None:
    limits = {joint: {"min": 5.0, "max": 9.0} for joint in JOINTS}
    limits["elbow_flex"] = {"min": seen[0], "max": seen[1]}
    manifest = read_manifest(write_bundle(tmp_path / "b", control_limits=limits))
    if fits:
        check_robot(manifest, robot_with())
        return
    with pytest.raises(BundleError, match=f"elbow_flex: the policy was trained within {seen[0]:.1f}"):
        check_robot(manifest, robot_with())


def test_the_shipped_policy_fits_the_twin() -> None:
    check_robot(read_manifest(default_policy()), load_robot("twin")[0])


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_what_the_manifest_does_not_name_is_refused(
    bundle_folder: Path, make: Callable[[Path], None]
) -> None:
    make(bundle_folder / "weights.bin")
    with pytest.raises(BundleError, match=r"weights\.bin, which its manifest does not name.*take it out"):
        load_bundle(bundle_folder)


def test_weights_beside_the_model_run_only_with_their_hash(bundle_folder: Path) -> None:
    model = onnx.load(bundle_folder / "model.onnx")
    onnx.save(
        model,
        bundle_folder / "model.onnx",
        save_as_external_data=True,
        location="model.data",
        size_threshold=100,
    )
    rehash(bundle_folder)
    with pytest.raises(BundleError, match=r"model\.data"):
        load_bundle(bundle_folder)
    path = bundle_folder / "manifest.json"
    content = json.loads(path.read_text())
    content["files"]["model.data"] = sha256_of(bundle_folder / "model.data")
    path.write_text(json.dumps(content))
    load_bundle(bundle_folder)
    damage("model.data")(bundle_folder)
    with pytest.raises(BundleError, match=r"model\.data has sha256"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": None}, "lacks the array 'state'"),
        ({"state": np.zeros((3, 6))}, r"'state' is float64 \(3, 6\), .* float32 \('samples', 6\)"),
        ({"state": np.zeros((3, 5), np.float32)}, r"'state' is float32 \(3, 5\)"),
        ({"state": np.float32(1.0)}, r"'state' is float32 \(\)"),
        ({"image_wrist": np.zeros((3, HEIGHT, WIDTH, 3), np.float32)}, "'image_wrist' is float32"),
        ({"image_wrist": np.zeros((3, WIDTH, HEIGHT, 3), np.uint8)}, "'image_wrist' is uint8"),
        ({"actions": np.zeros((3, CHUNK - 1, 6), np.float32)}, "'actions' is float32"),
        ({"pickup_xy_m": np.zeros((2, 2), np.float32)}, "'pickup_xy_m': 2.*not as many of each"),
        ({"state": np.array([None] * 3)}, "cannot be read"),
    ],
)
def test_golden_arrays_are_checked_before_they_are_run(
    bundle_folder: Path, changes: dict[str, Any], message: str
) -> None:
    with np.load(bundle_folder / "golden.npz") as archive:
        arrays = {**archive, **changes}
    kept = {name: value for name, value in arrays.items() if value is not None}
    np.savez(bundle_folder / "golden.npz", **kept)
    rehash(bundle_folder)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("empty", [True, False])
def test_a_golden_file_that_holds_no_samples_is_refused(bundle_folder: Path, empty: bool) -> None:
    path = bundle_folder / "golden.npz"
    if empty:
        with np.load(path) as archive:
            np.savez(path, **{name: value[:0] for name, value in archive.items()})
    else:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    rehash(bundle_folder)
    with pytest.raises(BundleError, match="not as many of each" if empty else "cannot be read"):
        load_bundle(bundle_folder)


def test_a_provider_that_is_not_there_is_an_error(bundle_folder: Path) -> None:
    import onnxruntime

    for provider, name in (("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")):
        if name not in onnxruntime.get_available_providers():
            with pytest.raises(BundleError, match=f"{provider}.*extra 'gpu'"):
                load_bundle(bundle_folder, provider=provider)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="unknown execution provider"):
        load_bundle(bundle_folder, provider="tpu")  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="no int8 model"):
        load_bundle(bundle_folder, precision="int8")


def test_pictures_of_another_size_are_refused(bundle_folder: Path) -> None:
    policy = load_bundle(bundle_folder).policy
    state, pickup = np.zeros(6, np.float32), np.zeros(2, np.float32)
    with pytest.raises(BundleError, match="camera wrist"):
        policy.chunk(Observation(0, state, pickup, {}))
    with pytest.raises(BundleError, match="8x8x3"):
        policy.chunk(Observation(0, state, pickup, {"wrist": np.zeros((8, 8, 3), np.uint8)}))


def test_inference_does_not_import_torch() -> None:
    code = "import sys, inference.worker, inference.bundle; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
