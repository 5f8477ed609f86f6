"""How far a policy's chunks are from the expert's on episodes that were held out."""

from __future__ import annotations

import numpy as np
import torch

from training.augment import to_device
from training.data import Corpus, in_batches
from training.frames import IntArray
from training.parallel import Group
from training.policies.base import TrainablePolicy

SAMPLES = 2048
BATCH = 256


@torch.no_grad()
def validated(
    policy: TrainablePolicy, corpus: Corpus, rows: IntArray, group: Group, device: torch.device
) -> dict[str, float]:
    """Mean absolute errors, the batches shared by the group.

    Returns:
        ``val_l1``, normalised; ``val_l1_arm_deg`` and ``val_l1_gripper_pct``, or ``val_l1_m``, in user units.
    """
    policy.eval()
    width = policy.config.action_width
    found = torch.zeros(width + 1, dtype=torch.float64)
    for number, some in enumerate(in_batches(rows, BATCH, SAMPLES)):
        if number % group.size == group.rank:
            inputs, labels = to_device(corpus.gather(some), device)
            off = (policy.predict(inputs).float() - labels.actions).abs() * labels.valid[:, :, None]
            found[:width] += off.sum((0, 1)).double().cpu()
            found[width] += int(labels.valid.sum())
    *sums, count = group.summed(found.to(device)).tolist()
    error = np.array(sums) / max(1.0, count)
    metrics = {"val_l1": float((error / policy.action_std.cpu().numpy()).mean())}
    if policy.config.action_space == "joint_position":
        metrics |= {"val_l1_arm_deg": float(error[:5].mean()), "val_l1_gripper_pct": float(error[5])}
    else:
        metrics["val_l1_m"] = float(error.mean())
    return metrics
