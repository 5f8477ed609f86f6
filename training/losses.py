"""What training minimises."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from training.parallel import mean_count

MAGNITUDE_WEIGHT = 2.0
"""How much more a step of magnitude 1 counts than one of magnitude 0 in ``weighted_huber_loss``."""


def mean_over_valid(error: Tensor, valid: Tensor) -> Tensor:
    """Mean of (B, K, A) over the steps that exist.

    Args:
        error: (B, K, A).
        valid: (B, K) bool; a batch without any valid step has mean 0.
    """
    kept = error * valid[:, :, None]
    return kept.sum() / (mean_count(valid.sum()) * error.shape[2]).clamp(min=1)


def l1_loss(predicted: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error of (B, K, A) over the steps that exist."""
    return mean_over_valid((predicted - target).abs(), valid)


def mse_loss(predicted: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error of (B, K, A) over the steps that exist."""
    return mean_over_valid((predicted - target).square(), valid)


def weighted_huber_loss(predicted: Tensor, target: Tensor, magnitude: Tensor, valid: Tensor) -> Tensor:
    """Huber's loss over the steps that exist, larger for steps in which the expert moves more.

    Args:
        predicted: (B, K, A).
        target: (B, K, A).
        magnitude: (B, K, 1), length of the expert's step; its weight is ``1 + 2 * magnitude``.
        valid: (B, K) bool.
    """
    error = functional.smooth_l1_loss(predicted, target, reduction="none")
    return mean_over_valid(error * (1.0 + MAGNITUDE_WEIGHT * magnitude), valid)


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
) -> dict[str, Tensor]:
    """``loss``: L1 plus ``kl_weight`` times the KL divergence of the latent, if any; ``l1`` and ``kl``."""
    l1 = l1_loss(predicted, target, valid)
    if mean is None or log_variance is None:
        return {"loss": l1, "l1": l1}
    kl = kl_to_normal(mean, log_variance)
    return {"loss": l1 + kl_weight * kl, "l1": l1, "kl": kl}
