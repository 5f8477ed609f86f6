"""What training minimises."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """The loss and what it is made of; all scalars."""

    total: Tensor
    l1: Tensor
    """Mean absolute error of the normalised actions over valid steps."""
    kl: Tensor


def l1_loss(predicted: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error over the steps that exist.

    Args:
        predicted: (B, K, J).
        target: (B, K, J).
        valid: (B, K) bool; a batch without any valid step has loss 0.
    """
    error = (predicted - target).abs() * valid[:, :, None]
    return error.sum() / (valid.sum() * predicted.shape[2]).clamp(min=1)


def kl_to_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence from N(mean, variance) to N(0, 1), summed over the latent, averaged over the batch.

    Kingma and Welling, "Auto-Encoding Variational Bayes" (1312.6114), appendix B.
    """
    per_dimension = -0.5 * (1.0 + log_variance - mean.square() - log_variance.exp())
    return per_dimension.sum(dim=1).mean()


def act_loss(
    predicted: Tensor,
    target: Tensor,
    valid: Tensor,
    mean: Tensor | None,
    log_variance: Tensor | None,
    kl_weight: float,
) -> Loss:
    """L1 plus, where there is a latent, ``kl_weight`` times its KL divergence."""
    l1 = l1_loss(predicted, target, valid)
    if mean is None or log_variance is None:
        return Loss(l1, l1, torch.zeros_like(l1))
    kl = kl_to_normal(mean, log_variance)
    return Loss(l1 + kl_weight * kl, l1, kl)
