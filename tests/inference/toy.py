from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from inference.action_space import ACTION_WIDTHS, ActionSpace
from inference.ensembler import ExecutionConfig
from inference.manifest import CONDITIONING, CameraShape, Manifest, Range, sha256_of, units_of
from inference.tool_space import DrivenArm
from robot.config import load_robot
from robot.joints import JOINTS, UNITS
from robot.kinematics import Kinematics
from robot.trajectory import Motion

HEIGHT, WIDTH, CHUNK = 32, 48, 10


def write_model(path: Path, *, chunk: int = CHUNK, offset: float = 0.0) -> None:
    """Step k of the chunk is state + k + mean of the picture / 100 + pickup x + offset."""
    nodes = [
        helper.make_node("Cast", ["image_wrist"], ["picture"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["picture"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "percent"], ["bright"]),
        helper.make_node("Slice", ["pickup_xy_m", "zero", "one"], ["x"]),
        helper.make_node("Add", ["steps", "state"], ["a"]),
        helper.make_node("Add", ["a", "bright"], ["b"]),
        helper.make_node("Add", ["b", "x"], ["actions"]),
    ]
    constants = {
        "steps": np.arange(chunk, dtype=np.float32)[:, None]
        + np.float32(offset)
        + np.zeros((1, 6), np.float32),
        "percent": np.array(0.01, np.float32),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            helper.make_tensor_value_info("image_wrist", TensorProto.UINT8, [HEIGHT, WIDTH, 3]),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [6]),
            helper.make_tensor_value_info("pickup_xy_m", TensorProto.FLOAT, [2]),
        ],
        [helper.make_tensor_value_info("actions", TensorProto.FLOAT, [chunk, 6])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)


def toy_actions(image: np.ndarray, state: np.ndarray, pickup: np.ndarray) -> np.ndarray:
    return np.arange(CHUNK)[:, None] + state + image.astype(np.float32).mean() / 100 + pickup[0]


def write_bundle(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True)
    write_model(folder / "model.onnx")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)
    state = rng.uniform(-50, 50, (3, 6)).astype(np.float32)
    pickup = rng.uniform(0.1, 0.3, (3, 2)).astype(np.float32)
    actions = np.stack([toy_actions(*sample) for sample in zip(images, state, pickup, strict=True)])
    np.savez(
        folder / "golden.npz",
        image_wrist=images,
        state=state,
        pickup_xy_m=pickup,
        actions=actions.astype(np.float32),
    )
    manifest = Manifest(
        name="toy",
        policy_type="act",
        cameras=(CameraShape(name="wrist", height_px=HEIGHT, width_px=WIDTH),),
        joints=JOINTS,
        units=UNITS,
        chunk_size=CHUNK,
        fps=30.0,
        conditioning=CONDITIONING,
        control_limits={joint: Range(min=0.0, max=50.0) for joint in JOINTS},
        execution=ExecutionConfig(),
        provenance={},
        files={name: sha256_of(folder / name) for name in ("model.onnx", "golden.npz")},
    )
    content = {**manifest.model_dump(mode="json"), **changes}
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


PER_GREY_M = 1e-4
"""A toy that moves the tool goes so much farther in x for each level by which its picture got brighter."""


def write_tool_bundle(
    folder: Path,
    *,
    action_space: ActionSpace = "tool_delta_xy",
    step_m: tuple[float, ...] = (0.004, 0.0),
    camera: CameraShape | None = None,
    observation_steps: int = 1,
    fps: float = 10.0,
    **changes: object,
) -> Path:
    """A policy that sees pictures alone and moves the tool by ``step_m`` in each step.

    One that looks back goes farther in x the more its picture got brighter (``PER_GREY_M``).
    """
    folder.mkdir(parents=True)
    camera = camera or CameraShape(name="wrist", height_px=HEIGHT, width_px=WIDTH)
    name, steps = f"image_{camera.name}", (observation_steps,) if observation_steps > 1 else ()
    shape = (*steps, camera.height_px, camera.width_px, 3)
    axes = list(range(len(steps), len(shape)))
    nodes = [
        helper.make_node("Cast", [name], ["picture"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["picture", "axes"], ["means"], keepdims=0),
        helper.make_node("Reshape", ["means", "flat"], ["each"]),
        helper.make_node("Gather", ["each", "last"], ["now"]),
        helper.make_node("Gather", ["each", "first"], ["before"]),
        helper.make_node("Sub", ["now", "before"], ["brighter"]),
        helper.make_node("Mul", ["brighter", "along_x"], ["farther"]),
        helper.make_node("Add", ["steps", "farther"], ["actions"]),
    ]
    width = ACTION_WIDTHS[action_space]
    constants = {
        "axes": np.array(axes, np.int64),
        "flat": np.array([-1], np.int64),
        "last": np.array([observation_steps - 1], np.int64),
        "first": np.array([0], np.int64),
        "along_x": PER_GREY_M * np.eye(width, dtype=np.float32)[0],
        "steps": np.tile(np.array(step_m, np.float32), (CHUNK, 1)),
    }
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("actions", TensorProto.FLOAT, [CHUNK, width])],
        [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    pictures = np.zeros((2, *shape), np.uint8)
    np.savez(folder / "golden.npz", actions=np.stack([constants["steps"]] * 2), **{name: pictures})
    content: dict[str, object] = {
        "name": "toy",
        "policy_type": "toy",
        "cameras": [camera],
        "joints": JOINTS,
        "units": units_of(action_space),
        "action_space": action_space,
        "chunk_size": CHUNK,
        "fps": fps,
        "observation_steps": observation_steps,
        "reads_state": False,
        "conditioning": (),
        "control_limits": {joint: Range(min=0.0, max=50.0) for joint in JOINTS},
        "execution": ExecutionConfig(mode="ensemble"),
        "provenance": {},
        "files": {key: sha256_of(folder / key) for key in ("model.onnx", "golden.npz")},
    }
    manifest = Manifest.model_validate({**content, **changes})
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return folder


def rehash(folder: Path) -> None:
    """Make the manifest's hashes those of the files."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content["files"] = {name: sha256_of(folder / name) for name in content["files"]}
    path.write_text(json.dumps(content))


@cache
def _kinematics() -> Kinematics:
    return Kinematics()


def driven_arm(motion: Callable[[], Motion] | None = None) -> DrivenArm:
    """The twin's arm for a source: at its ready pose, or moving as a test says."""
    config, _ = load_robot("twin")
    low, high = config.gate.min_position.array(), config.gate.max_position.array()
    rest = Motion(config.ready_pose.array(), np.zeros(6))
    return DrivenArm(_kinematics(), motion or (lambda: rest), low, high, config.ramp_velocity_dps, 60)
