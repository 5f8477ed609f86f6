"""LeRobot's ACT without LeRobot: its size, its tensors' names, what its parts are for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from training.policies.base import Inputs, Labels, Stats
from training.policies.lerobot_act import LeRobotAct, LeRobotActConfig
from training.policies.registry import build, load_policy_config

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = LeRobotActConfig(
    cameras=("front", "side"),
    image_height_px=64,
    image_width_px=96,
    camera_sizes_px={"side": (33, 64)},
    chunk_size=5,
    dim_model=16,
    n_heads=2,
    dim_feedforward=24,
    n_encoder_layers=1,
    n_vae_encoder_layers=1,
    latent_dim=4,
    dropout=0.0,
    reads_pickup=True,
)


def inputs(batch: int = 2, seed: int = 0) -> Inputs:
    rng = torch.Generator().manual_seed(seed)
    images = {
        name: torch.randint(0, 256, (batch, 64, 96, 3), dtype=torch.uint8, generator=rng)
        for name in ("front", "side")
    }
    return Inputs(images, torch.randn(batch, 6, generator=rng) * 30, torch.rand(batch, 2, generator=rng))


def predicted(policy: LeRobotAct, seen: Inputs) -> Tensor:
    policy.eval()
    with torch.no_grad():
        return policy.predict(seen)


@pytest.fixture
def policy() -> LeRobotAct:
    torch.manual_seed(0)
    return LeRobotAct(TINY, Stats.identity())


@pytest.mark.parametrize("name", ["lerobot_act", "lerobot_act_224", "lerobot_act_240x320"])
def test_sizes_are_lerobots(name: str) -> None:
    with torch.device("meta"):
        policy = build(load_policy_config(name).untrained(), Stats.identity())
    assert sum(weight.numel() for weight in policy.parameters()) == 51_597_190
    assert sum(weight.numel() for weight in policy.backbone_parameters()) == 11_166_912
    tensors = {key for key in policy.state_dict() if key.startswith("model.")}
    assert len(tensors) == 234
    assert {
        "model.vae_encoder_pos_enc",
        "model.vae_encoder.layers.3.self_attn.in_proj_weight",
        "model.backbone.layer4.1.bn2.running_var",
        "model.decoder.layers.0.multihead_attn.out_proj.bias",
        "model.encoder_1d_feature_pos_embed.weight",
    } <= tensors


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"observation_steps": 2}, "one observation"),
        ({"n_heads": 3}, "multiple"),
        ({"camera_sizes_px": {"top": (64, 64)}}, "top"),
        ({"cameras": []}, "without a camera"),
        ({"reads_state": False}, "nor without the state"),
    ],
)
def test_shapes_that_cannot_be_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LeRobotActConfig.model_validate({**TINY.model_dump(), **change})


@pytest.mark.parametrize("pre_norm", [False, True])
def test_every_input_and_every_weight_matters(pre_norm: bool) -> None:
    torch.manual_seed(0)
    policy = LeRobotAct(TINY.model_copy(update={"pre_norm": pre_norm}), Stats.identity())
    policy.train()
    labels = Labels(torch.randn(2, 5, 6), torch.tensor([[True] * 5, [True] * 3 + [False] * 2]))
    losses = policy.loss(inputs(), labels)
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(losses["loss"], losses["l1"] + 10.0 * losses["kl"])
    assert [name for name, weight in policy.named_parameters() if weight.grad is None] == []
    seen = inputs()
    usual = predicted(policy, seen)
    for other in (
        replace(seen, state=seen.state + 5.0),
        replace(seen, pickup_xy_m=seen.pickup_xy_m + 0.1),
        *(replace(seen, images={**seen.images, name: 255 - seen.images[name]}) for name in seen.images),
    ):
        assert (predicted(policy, other) - usual).abs().max() > 1e-4


def test_steps_that_do_not_exist_change_nothing(policy: LeRobotAct) -> None:
    policy.train()
    actions = torch.randn(2, 5, 6)
    valid = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    found = []
    for beyond in (0.0, 70.0):
        actions[1, 2:] = beyond
        torch.manual_seed(1)
        found.append({k: v.item() for k, v in policy.loss(inputs(), Labels(actions.clone(), valid)).items()})
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_normalisation_is_inside(policy: LeRobotAct) -> None:
    """A policy in other units, told so by its statistics, does the same."""
    ones, scale = np.ones(6, np.float32), np.array([2, 3, 4, 5, 6, 7], np.float32)
    stats = Stats(ones, scale, -ones, scale, np.full(2, 0.2, np.float32), np.full(2, 0.1, np.float32))
    other = LeRobotAct(TINY, stats)
    other.model.load_state_dict(policy.model.state_dict())
    seen, scaled = inputs(), torch.from_numpy(scale)
    there = replace(seen, state=seen.state * scaled + 1.0, pickup_xy_m=seen.pickup_xy_m * 0.1 + 0.2)
    torch.testing.assert_close(
        predicted(other, there), predicted(policy, seen) * scaled - 1.0, atol=1e-4, rtol=1e-4
    )


def test_coordinates_that_are_not_given_are_the_mean(policy: LeRobotAct) -> None:
    given = replace(inputs(), pickup_xy_m=torch.tensor([[0.3, 0.1], [0.0, 0.0]]))
    absent = replace(given, pickup_present=torch.tensor([True, False]))
    torch.testing.assert_close(predicted(policy, absent), predicted(policy, given))


def test_each_camera_has_its_own_size_and_colours(policy: LeRobotAct) -> None:
    assert policy.model.picture_positions.shape == (2 * 3 + 2 * 2, 16)
    seen = inputs()
    usual = predicted(policy, seen)
    policy.image_mean[1] += 0.2
    assert (predicted(policy, seen) - usual).abs().max() > 1e-4
    brighter = {**seen.images, "side": seen.images["side"].float() + 0.2 * 255.0}
    torch.testing.assert_close(predicted(policy, replace(seen, images=brighter)), usual, atol=1e-4, rtol=1e-4)


def test_a_policy_without_vae_has_no_tensors_for_it() -> None:
    policy = LeRobotAct(TINY.model_copy(update={"use_vae": False}), Stats.identity())
    assert not [key for key in policy.state_dict() if "vae" in key]
    assert policy.loss(inputs(), Labels(torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool))).keys() == {
        "loss",
        "l1",
    }
