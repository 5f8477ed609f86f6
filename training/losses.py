"""What training minimises."""

from __future__ import annotations

from torch import Tensor


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
) -> dict[str, Tensor]:
    """``loss``: L1 plus ``kl_weight`` times the KL divergence of the latent, if any; ``l1`` and ``kl``."""
    l1 = l1_loss(predicted, target, valid)
    if mean is None or log_variance is None:
        return {"loss": l1, "l1": l1}
    kl = kl_to_normal(mean, log_variance)
    return {"loss": l1 + kl_weight * kl, "l1": l1, "kl": kl}
