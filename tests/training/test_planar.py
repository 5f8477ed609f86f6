from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from services.policy_catalogue import architectures
from training.policies.base import Inputs, Labels, Stats
from training.policies.planar import PlanarPolicy
from training.policies.registry import build, parse_policy_config

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = ("planar_mlp", "planar_act", "planar_vit")


def tiny(kind: str, stats: Stats | None = None, **changes: object) -> PlanarPolicy:
    torch.manual_seed(0)
    size = {"image_height_px": 32, "image_width_px": 48}
    config = parse_policy_config({"type": kind, "chunk_size": 3, **size, **changes})
    policy = build(config, stats or Stats.identity(2))
    assert isinstance(policy, PlanarPolicy)
    return policy


def discs() -> Inputs:
    """Four pictures with a bright square each, somewhere else."""
    pictures = torch.full((4, 32, 48, 3), 60, dtype=torch.uint8)
    for picture, (row, column) in zip(pictures, ((4, 4), (4, 36), (22, 6), (20, 30)), strict=True):
        picture[row : row + 8, column : column + 8] = 250
    return Inputs({"overhead": pictures}, torch.zeros(4, 6), torch.zeros(4, 2))


def seen(batch: int = 4, seed: int = 0) -> Inputs:
    pictures = np.random.default_rng(seed).integers(0, 256, (batch, 32, 48, 3), dtype=np.uint8)
    return Inputs({"overhead": torch.from_numpy(pictures)}, torch.zeros(batch, 6), torch.zeros(batch, 2))


def test_the_shipped_ones_have_exactly_as_many_parameters_as_published() -> None:
    parameters = {found["name"]: found["parameters"] for found in architectures()}
    assert parameters["bc_planar"] == 4_207_906
    assert parameters["chunk_mlp"] == 4_208_816
    assert parameters["act_planar"] == 69_282
    assert parameters["vit_planar"] == 287_426


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_in_metres_and_of_the_picture_alone(kind: str) -> None:
    policy, inputs = tiny(kind).eval(), seen()
    mean, std = np.array([0.5, -0.5], np.float32), np.array([2.0, 3.0], np.float32)
    identity = vars(Stats.identity(2))
    scaled = tiny(kind, Stats(**{**identity, "action_mean": mean, "action_std": std})).eval()
    with torch.no_grad():
        steps = policy.predict(inputs)
        assert steps.shape == (4, 3, 2) and torch.equal(steps, policy.predict(inputs))
        expected = steps.numpy() * std + mean
        np.testing.assert_allclose(scaled.predict(inputs), expected, atol=1e-6)
        elsewhere = Inputs(inputs.images, inputs.state + 9.0, inputs.pickup_xy_m + 9.0)
        assert torch.equal(steps, policy.predict(elsewhere))
        assert (policy.predict(seen(seed=1)) - steps).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_of_the_chunk_is_learned_from_labels_that_exist(kind: str) -> None:
    policy, inputs = tiny(kind, **({} if kind == "planar_mlp" else {"dropout": 0.0})), discs()
    actions = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(4, 3, dtype=torch.bool)
    valid[0, 2] = False
    actions[0, 2] = 1e6
    labels = Labels(actions, valid)
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    losses = []
    for _ in range(50):
        loss = policy.loss(inputs, labels)["loss"]
        optimiser.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in policy.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] < 10.0 and losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cameras": ["wrist", "overhead"]},
        {"reads_state": True},
        {"observation_steps": 2},
        {"action_space": "joint_position"},
        {"image_height_px": 100},
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_it_cannot_do_is_refused(kind: str, wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        parse_policy_config({"type": kind, **wrong})
