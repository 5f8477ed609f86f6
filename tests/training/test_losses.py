from __future__ import annotations

import numpy as np
import pytest
import torch

from training.losses import act_loss, kl_to_normal, l1_loss, mse_loss, weighted_huber_loss


def test_l1_counts_only_valid_steps() -> None:
    predicted, target = torch.zeros(2, 3, 6), torch.ones(2, 3, 6)
    target[1, 2] = 1000.0
    valid = torch.tensor([[True, True, True], [True, True, False]])
    assert l1_loss(predicted, target, valid).item() == pytest.approx(1.0)
    assert l1_loss(predicted, target, torch.zeros(2, 3, dtype=torch.bool)).item() == 0.0


def test_l1_of_a_short_window_weighs_as_much_per_step_as_a_long_one() -> None:
    predicted, target = torch.zeros(2, 4, 6), torch.zeros(2, 4, 6)
    target[0, 0] = 5.0
    valid = torch.tensor([[True, False, False, False], [True, True, True, True]])
    assert l1_loss(predicted, target, valid).item() == pytest.approx(5.0 / 5)


def test_kl_agrees_with_torch() -> None:
    mean, log_variance = torch.randn(5, 7), torch.randn(5, 7)
    ours = kl_to_normal(mean, log_variance)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, torch.exp(0.5 * log_variance)), torch.distributions.Normal(0.0, 1.0)
    )
    np.testing.assert_allclose(ours, theirs.sum(1).mean(), rtol=1e-4)
    assert kl_to_normal(torch.zeros(2, 3), torch.zeros(2, 3)).item() == 0.0


def test_the_total_is_l1_and_weighted_kl() -> None:
    predicted, target, valid = torch.zeros(1, 2, 6), torch.ones(1, 2, 6), torch.ones(1, 2, dtype=torch.bool)
    mean, log_variance = torch.ones(1, 4), torch.zeros(1, 4)
    loss = act_loss(predicted, target, valid, mean, log_variance, 10.0)
    assert loss["kl"].item() == pytest.approx(2.0) and loss["loss"].item() == pytest.approx(21.0)
    assert act_loss(predicted, target, valid, None, None, 10.0)["loss"].item() == pytest.approx(1.0)


def test_mse_counts_only_valid_steps() -> None:
    predicted, target = torch.zeros(1, 3, 2), torch.full((1, 3, 2), 3.0)
    target[0, 2] = 1000.0
    valid = torch.tensor([[True, True, False]])
    assert mse_loss(predicted, target, valid).item() == pytest.approx(9.0)


def test_huber_is_square_near_and_straight_far_and_counts_large_steps_more() -> None:
    predicted, valid = torch.zeros(1, 3, 3), torch.tensor([[True, True, False]])
    magnitude = torch.tensor([[[0.0], [1.0], [1.0]]])
    near, far = 0.5 * 0.5**2, 3.0 - 0.5
    both = torch.tensor([[[0.5] * 3, [3.0] * 3, [1000.0] * 3]])
    loss = weighted_huber_loss(predicted, both, magnitude, valid)
    assert loss.item() == pytest.approx((near * 1.0 + far * 3.0) / 2)
