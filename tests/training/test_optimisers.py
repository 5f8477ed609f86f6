from __future__ import annotations

import json

import pytest
import torch

from training.config import OptimiserConfig
from training.optimisers import Schedule, load_moments, make_optimiser, moments
from training.policies.act import Act, ActConfig
from training.policies.base import Stats

LOSSES = [1.0, 0.9, 0.895, 0.893, 0.892, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.499, 0.498, 0.497, 0.1]


@pytest.mark.parametrize("patience", [0, 2])
def test_a_plateau_is_what_torch_takes_for_one(patience: int) -> None:
    config = OptimiserConfig(
        schedule="plateau",
        warmup_steps=0,
        plateau_patience=patience,
        plateau_threshold=0.01,
        final_lr_share=0.0,
    )
    parameter = torch.nn.Parameter(torch.zeros(1))
    peer = torch.optim.SGD([parameter], lr=1.0)
    rule = torch.optim.lr_scheduler.ReduceLROnPlateau(peer, factor=0.5, patience=patience, threshold=0.01)
    schedule = Schedule(config, 100, {})
    for loss in LOSSES:
        rule.step(loss)
        schedule.validated(loss)
        assert schedule.share(5) == peer.param_groups[0]["lr"]
        # Killed and resumed after each validation it goes on the same.
        schedule = Schedule(config, 100, json.loads(json.dumps(schedule.state())))
    assert schedule.share(5) < 0.5


def test_a_plateau_falls_no_lower_than_it_may() -> None:
    config = OptimiserConfig(schedule="plateau", warmup_steps=4, plateau_patience=0, final_lr_share=0.2)
    schedule = Schedule(config, 100, {})
    assert [schedule.share(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    for _ in range(9):
        schedule.validated(1.0)
    assert schedule.share(50) == 0.2 and schedule.share(0) == 0.25


def test_constant_is_constant_after_its_warm_up() -> None:
    schedule = Schedule(OptimiserConfig(schedule="constant", warmup_steps=2), 10, {})
    assert [schedule.share(step) for step in (0, 1, 2, 9)] == [0.5, 1.0, 1.0, 1.0]


def tiny(channels_last: bool) -> Act:
    torch.manual_seed(0)
    policy = Act(
        ActConfig(image_height_px=32, image_width_px=32, chunk_size=4, d_model=16, heads=2, d_ff=16),
        Stats.identity(),
    )
    return policy.to(memory_format=torch.channels_last) if channels_last else policy


def stepped(policy: Act, optimiser: torch.optim.Optimizer, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=rng))
    optimiser.step()


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_moments_come_back_whatever_the_order_in_memory(kind: str) -> None:
    config = OptimiserConfig(type=kind, betas=(0.8, 0.95))
    first, second = tiny(channels_last=True), tiny(channels_last=True)
    one, other = make_optimiser(first, config), make_optimiser(second, config)
    assert type(one) is (torch.optim.Adam if kind == "adam" else torch.optim.AdamW)
    assert one.param_groups[0]["betas"] == (0.8, 0.95)
    stepped(first, one, 1)
    second.load_state_dict({name: value.contiguous() for name, value in first.state_dict().items()})
    load_moments(other, {name: value.contiguous() for name, value in moments(one).items()}, 1)
    stepped(first, one, 2)
    stepped(second, other, 2)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_the_backbone_has_a_learning_rate_of_its_own() -> None:
    policy = tiny(channels_last=False)
    rest, backbone = make_optimiser(policy, OptimiserConfig(lr=1e-3, backbone_lr=1e-5)).param_groups
    assert (rest["full_lr"], backbone["full_lr"]) == (1e-3, 1e-5)
    assert {id(p) for p in backbone["params"]} == {id(p) for p in policy.backbone_parameters()}
    assert len(rest["params"]) + len(backbone["params"]) == len(list(policy.parameters()))
