from __future__ import annotations

import numpy as np
import torch

from robot.kinematics import Kinematics, rad_to_user
from training.policies.tool_position import ToolPosition


def poses(count: int) -> tuple[torch.Tensor, np.ndarray]:
    kinematics = Kinematics()
    rad = np.random.default_rng(0).uniform(kinematics.min_rad, kinematics.max_rad, (count, 6))
    state = rad_to_user(rad).astype(np.float32)
    return torch.from_numpy(state), np.array([kinematics.tool_position_m(pose) for pose in state])


def test_it_is_the_models_to_the_micrometre() -> None:
    state, expected_m = poses(500)
    np.testing.assert_allclose(ToolPosition()(state), expected_m, atol=1e-6)


def test_sequences_and_single_poses() -> None:
    state, expected_m = poses(12)
    tool = ToolPosition()
    np.testing.assert_allclose(tool(state.view(3, 4, 6)).view(12, 3), expected_m, atol=1e-6)
    np.testing.assert_allclose(tool(state[5]), expected_m[5], atol=1e-6)


def test_a_short_float_around_it_changes_nothing() -> None:
    state, expected_m = poses(50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_allclose(ToolPosition()(state), expected_m, atol=1e-6)


def test_the_gripper_does_not_move_the_tool_and_gradients_are_those_of_the_arm() -> None:
    state, _ = poses(1)
    tool = ToolPosition().double()
    at = state[0].double()
    jacobian = torch.autograd.functional.jacobian(tool, at)
    assert jacobian[:, 5].abs().max() == 0.0
    for joint in range(5):
        step = torch.zeros(6, dtype=torch.float64)
        step[joint] = 1e-3
        slope = (tool(at + step) - tool(at - step)) / 2e-3
        np.testing.assert_allclose(jacobian[:, joint], slope, atol=1e-8)
        assert slope.abs().max() > 1e-5 or joint == 4


def test_normalised_is_tenths_of_a_metre_from_the_middle_of_the_field() -> None:
    state, expected_m = poses(5)
    normalised = ToolPosition().normalised(state)
    np.testing.assert_allclose(normalised * 0.1, expected_m - [0.24, 0.0, 0.06], atol=1e-6)
