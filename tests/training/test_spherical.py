from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from training.policies.spherical import from_tanh, nearest_turn, to_cartesian, to_spherical


def test_there_and_back() -> None:
    steps = torch.randn(500, 7, 3, generator=torch.Generator().manual_seed(0))
    spherical = to_spherical(steps)
    magnitude, theta, phi = spherical.unbind(-1)
    assert magnitude.min() > 0
    assert theta.min() >= 0 and theta.max() <= math.pi
    assert phi.min() >= -math.pi and phi.max() <= math.pi
    np.testing.assert_allclose(to_cartesian(spherical), steps, atol=1e-5)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ((0.0, 0.0, 2.0), (2.0, 0.0, 0.0)),
        ((0.0, 0.0, -2.0), (2.0, math.pi, 0.0)),
        ((0.0, 0.5, 0.0), (0.5, math.pi / 2, math.pi / 2)),
        ((-1.0, 0.0, 0.0), (1.0, math.pi / 2, math.pi)),
        ((0.0, 0.0, 0.0), (1e-4, math.pi / 2, 0.0)),
    ],
)
def test_theta_is_from_the_z_axis_and_phi_about_it(
    step: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    np.testing.assert_allclose(to_spherical(torch.tensor(step)), expected, atol=1e-6)


def test_tanh_outputs_fill_the_angles_but_not_the_magnitude() -> None:
    ends = torch.tensor([[-1.0, -1.0, -1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    angles = [[0.0, -math.pi], [math.pi / 2, 0.0], [math.pi, math.pi]]
    np.testing.assert_allclose(from_tanh(ends)[:, 0], [0.268941, 0.5, 0.731059], atol=1e-6)
    np.testing.assert_allclose(from_tanh(ends)[:, 1:], angles, atol=1e-6)
    full = from_tanh(ends, full_magnitude=True)
    np.testing.assert_allclose(full[:, 0], [0.0, 0.5, 1.0], atol=1e-6)
    np.testing.assert_allclose(full[:, 1:], angles, atol=1e-6)


def test_neighbouring_azimuths_are_near() -> None:
    east = torch.tensor([[0.5, 1.0, math.radians(179.0)], [0.5, 1.0, 0.2]])
    west = torch.tensor([[0.3, 1.1, math.radians(-179.0)], [0.3, 1.1, -0.4]])
    moved = nearest_turn(east, west)
    np.testing.assert_allclose(moved[:, 2] - west[:, 2], [math.radians(-2.0), 0.6], atol=1e-5)
    assert torch.equal(moved[:, :2], east[:, :2])
    np.testing.assert_allclose(to_cartesian(moved), to_cartesian(east), atol=1e-6)
