"""From a policy to an ONNX graph without batch dimension, whose inputs are only what the policy reads."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from robot.errors import BundleError
from robot.joints import N_JOINTS
from training.policies.base import COORDINATES, Inputs, PolicyShape, TrainablePolicy

OPSET = 18
"""The newest that the quantiser and TensorRT's importer both take."""

CameraSizes = tuple[int, int] | Mapping[str, tuple[int, int]]
"""(height, width) of the robot's pictures: of all cameras, or of each by name."""


class ExportedPolicy(nn.Module):
    """A policy with flat, unbatched inputs: those of ``example_inputs``, in that order."""

    def __init__(self, policy: TrainablePolicy) -> None:
        super().__init__()
        self.policy = policy
        self.names = tuple(example_inputs(policy.config, (1, 1)))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Pictures, state and pickup, without those that the policy does not read, to actions (K, A)."""
        config = self.policy.config
        batched = {name: value[None] for name, value in zip(self.names, inputs, strict=True)}
        images = {camera: batched[f"image_{camera}"] for camera in config.cameras}
        unread = torch.zeros(1, *_steps(config), N_JOINTS)
        state = batched.get("state", unread)
        pickup_xy_m = batched.get("pickup_xy_m", torch.zeros(1, COORDINATES))
        actions: Tensor = self.policy.predict(Inputs(images, state, pickup_xy_m))[0]
        return actions


def size_of(camera: str, camera_size_px: CameraSizes) -> tuple[int, int]:
    """(height, width) of one camera's pictures."""
    return camera_size_px if isinstance(camera_size_px, tuple) else camera_size_px[camera]


def example_inputs(config: PolicyShape, camera_size_px: CameraSizes) -> dict[str, Tensor]:
    """Zeros for every input of a policy's exported graph, by name: only what the policy reads."""
    steps = _steps(config)
    inputs = {
        f"image_{camera}": torch.zeros(*steps, *size_of(camera, camera_size_px), 3, dtype=torch.uint8)
        for camera in config.cameras
    }
    if config.reads_state:
        inputs["state"] = torch.zeros(*steps, N_JOINTS)
    if config.reads_pickup:
        inputs["pickup_xy_m"] = torch.zeros(COORDINATES)
    return inputs


def _steps(config: PolicyShape) -> tuple[int, ...]:
    """The leading axis of pictures and state, where there is one."""
    return (config.observation_steps,) if config.observation_steps > 1 else ()


def write_onnx(policy: TrainablePolicy, camera_size_px: CameraSizes, path: Path) -> None:
    """Export a policy to one ONNX file without batch dimension, and check the file.

    Raises:
        BundleError: the exporter wrote a graph that onnx refuses.
    """
    import onnx

    example = example_inputs(policy.config, camera_size_px)
    # It says of every packed attention that ONNX Runtime, not the exporter, will take it apart.
    logging.getLogger("onnxscript.optimizer").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter warns about its own use of torch's and copyreg's older interfaces.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            ExportedPolicy(policy).eval(),
            tuple(example.values()),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=list(example),
            output_names=["actions"],
            verbose=False,
        )
    if program is None:
        raise BundleError("torch.onnx.export gave no program")
    program.save(str(path), external_data=False)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except onnx.checker.ValidationError as error:
        raise BundleError(f"the exported graph is not valid: {error}") from error
