"""A step of the tool as magnitude, theta (angle from the z axis) and phi (azimuth about it).

Three things to know before choosing it over Cartesian steps:

* A sigmoid of a tanh lies between 0.27 and 0.73, not 0 and 1: such a policy can neither stand still nor go
  at full length. ``full_magnitude`` stretches the tanh to the whole range instead.
* Azimuths of 179 and -179 degrees are neighbours, yet their plain difference is nearly a whole turn.
  ``nearest_turn`` gives the expert's azimuth as the one that is next to the predicted.
* Below the smallest magnitude the direction means nothing: a step of length 0 has theta 90 degrees, phi 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MIN_MAGNITUDE = 1e-4
"""Smallest magnitude of an expert's step, so that its direction is defined."""


def to_spherical(steps: Tensor) -> Tensor:
    """Cartesian (..., 3) to (magnitude at least 1e-4, theta 0..pi, phi -pi..pi), (..., 3)."""
    x, y, z = steps.unbind(-1)
    magnitude = steps.norm(dim=-1).clamp(min=MIN_MAGNITUDE)
    theta = torch.acos((z / magnitude).clamp(-1.0, 1.0))
    return torch.stack([magnitude, theta, torch.atan2(y, x)], dim=-1)


def to_cartesian(spherical: Tensor) -> Tensor:
    """(magnitude, theta, phi), (..., 3), to Cartesian (..., 3)."""
    magnitude, theta, phi = spherical.unbind(-1)
    flat = magnitude * torch.sin(theta)
    return torch.stack([flat * torch.cos(phi), flat * torch.sin(phi), magnitude * torch.cos(theta)], dim=-1)


def from_tanh(outputs: Tensor, *, full_magnitude: bool = False) -> Tensor:
    """A network's tanh outputs (..., 3) to the ranges of magnitude, theta and phi.

    Args:
        outputs: (..., 3), each from -1 to 1.
        full_magnitude: the first output's range is that of the magnitude, 0..1, instead of its sigmoid's.
    """
    first, second, third = outputs.unbind(-1)
    magnitude = (first + 1.0) / 2.0 if full_magnitude else torch.sigmoid(first)
    return torch.stack([magnitude, (second + 1.0) / 2.0 * math.pi, third * math.pi], dim=-1)


def nearest_turn(spherical: Tensor, reference: Tensor) -> Tensor:
    """The same points, (..., 3), with phi moved by whole turns to within half a turn of the reference's."""
    turns = torch.round((reference[..., 2] - spherical[..., 2]) / (2.0 * math.pi))
    magnitude, theta, phi = spherical.unbind(-1)
    return torch.stack([magnitude, theta, phi + 2.0 * math.pi * turns], dim=-1)
