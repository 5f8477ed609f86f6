from __future__ import annotations

import numpy as np
import pytest
import torch

from training.policies.act import Act, ActConfig
from training.policies.backbones import ResNet18Backbone, SmallBackbone, sine_positions
from training.policies.base import Inputs, Labels, Stats
from training.policies.images import ImageInput, resize

pytestmark = pytest.mark.usefixtures("one_thread")


def inputs(config: ActConfig, batch: int = 3, seed: int = 0):  # type: ignore[no-untyped-def]
    rng = torch.Generator().manual_seed(seed)
    size = (batch, config.image_height_px, config.image_width_px, 3)
    images = {c: torch.randint(0, 256, size, dtype=torch.uint8, generator=rng) for c in config.cameras}
    return images, torch.randn(batch, 6, generator=rng), torch.randn(batch, 2, generator=rng)


def test_resize_of_vga_is_the_mean_of_five_by_five() -> None:
    images = torch.randint(0, 256, (2, 480, 640, 3), dtype=torch.uint8)
    expected = images.double().reshape(2, 96, 5, 128, 5, 3).mean((2, 4)).permute(0, 3, 1, 2)
    np.testing.assert_allclose(resize(images, 96, 128), expected, atol=1e-3)


def test_resize_to_any_size_keeps_a_ramp() -> None:
    ramp = torch.arange(90.0).view(1, 1, 90, 1).expand(1, 70, 90, 3)
    small = resize(ramp, 20, 31)
    assert small.shape == (1, 3, 20, 31)
    steps = small[0, 0, 0, 2:-2].diff()
    np.testing.assert_allclose(steps, steps.mean(), atol=0.2)
    assert resize(ramp, 70, 90).equal(ramp.permute(0, 3, 1, 2))


def test_pictures_are_normalised_as_imagenet() -> None:
    grey = torch.full((1, 8, 8, 3), 255, dtype=torch.uint8)
    np.testing.assert_allclose(
        ImageInput(8, 8)(grey)[0, :, 0, 0],
        [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225],
        rtol=1e-5,
    )


def test_positions_are_those_of_act() -> None:
    """Values of the published policy for a 15x20 map, first cell."""
    first = sine_positions(15, 20, 512)[0]
    np.testing.assert_allclose(first[:4], [0.406737, 0.913545, 0.380001, 0.924986], atol=1e-5)
    np.testing.assert_allclose(first[256:260], [0.309017, 0.951057, 0.288201, 0.957570], atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (32, 32), (72, 104), (90, 120)])
def test_small_backbone_takes_any_size(height: int, width: int) -> None:
    tokens, positions = SmallBackbone(height, width, 16)(torch.zeros(2, 3, height, width), torch.zeros(2, 16))
    assert tokens.shape == (2, len(positions), 16)


def test_keypoints_follow_a_blob_and_the_condition() -> None:
    torch.manual_seed(0)
    backbone = SmallBackbone(96, 128, 16)
    pictures, condition = torch.zeros(1, 3, 96, 128), torch.zeros(1, 16)
    token = backbone(pictures, condition)[0][0, 0]
    moved = pictures.clone()
    moved[:, :, 60:70, 100:110] = 3.0
    assert not torch.allclose(token, backbone(moved, condition)[0][0, 0], atol=1e-4)
    # steering begins at zero, so that training starts from plain keypoints
    assert torch.equal(token, backbone(pictures, condition + 1.0)[0][0, 0])
    torch.nn.init.normal_(backbone.steer.weight)
    assert not torch.allclose(token, backbone(pictures, condition + 1.0)[0][0, 0], atol=1e-4)


def test_resnet_gives_a_token_per_cell_and_keeps_its_norms() -> None:
    backbone = ResNet18Backbone([(64, 96)], 16, pretrained=False)
    tokens, positions = backbone(torch.zeros(1, 3, 64, 96), torch.zeros(1, 16))
    assert tokens.shape == (1, 6, 16) and positions.shape == (6, 16)
    assert not any("running" in name for name, _ in backbone.named_parameters())


def test_the_policy_repeats_and_depends_on_every_input(tiny: ActConfig) -> None:
    torch.manual_seed(0)
    policy = Act(tiny, Stats.identity()).eval()
    images, state, pickup = inputs(tiny)
    with torch.no_grad():
        actions = policy.predict(Inputs(images, state, pickup))
        assert actions.shape == (3, 6, 6)
        assert torch.equal(actions, policy.predict(Inputs(images, state, pickup)))
        others = [
            (images, state + 1, pickup),
            (images, state, pickup + 1),
            *(({**images, camera: 255 - images[camera]}, state, pickup) for camera in images),
        ]
        for other in others:
            assert (policy.predict(Inputs(*other)) - actions).abs().max() > 1e-4
        one = policy.predict(Inputs({c: i[1:2] for c, i in images.items()}, state[1:2], pickup[1:2]))
        np.testing.assert_allclose(one[0], actions[1], atol=1e-5)


def test_a_dropped_coordinate_changes_nothing_else(tiny: ActConfig) -> None:
    torch.manual_seed(0)
    policy = Act(tiny, Stats.identity()).eval()
    images, state, pickup = inputs(tiny)
    absent = torch.zeros(3, dtype=torch.bool)
    with torch.no_grad():
        a = policy(Inputs(images, state, pickup, absent)).actions
        b = policy(Inputs(images, state, pickup * 7, absent)).actions
        c = policy(Inputs(images, state, pickup, ~absent)).actions
        d = policy(Inputs(images, state, pickup)).actions
    assert torch.equal(a, b) and torch.equal(c, d) and not torch.equal(a, c)


def test_normalisation_is_inside(tiny: ActConfig) -> None:
    """Shifting and scaling the world along with the statistics shifts and scales the actions."""
    torch.manual_seed(0)
    plain = Act(tiny, Stats.identity()).eval()
    values = {
        name: np.full(len(v), 3.0 if "std" in name else 5.0, np.float32)
        for name, v in vars(Stats.identity()).items()
    }
    scaled = Act(tiny, Stats(**values)).eval()
    scaled.load_state_dict({k: v for k, v in plain.state_dict().items() if k not in values}, strict=False)
    images, state, pickup = inputs(tiny)
    moved = Inputs(images, state * 3 + 5, pickup * 3 + 5)
    with torch.no_grad():
        expected = plain.predict(Inputs(images, state, pickup)) * 3 + 5
        np.testing.assert_allclose(scaled.predict(moved), expected, atol=1e-4)


def test_the_latent_ignores_padding_and_is_zero_without_actions(tiny: ActConfig) -> None:
    torch.manual_seed(0)
    policy = Act(tiny, Stats.identity()).eval()
    images, state, pickup = inputs(tiny)
    seen, actions = Inputs(images, state, pickup), torch.randn(3, 6, 6)
    valid = torch.ones(3, 6, dtype=torch.bool)
    valid[:, 4:] = False
    padded = actions.clone()
    padded[:, 4:] = 100.0
    with torch.no_grad():
        a = policy(seen, Labels(actions, valid))
        b = policy(seen, Labels(padded, valid))
        c = policy(seen)
    np.testing.assert_allclose(a.mean, b.mean, atol=1e-5)
    np.testing.assert_allclose(a.log_variance, b.log_variance, atol=1e-5)
    assert c.mean is None and not torch.allclose(a.actions, c.actions)


def test_every_parameter_is_trained(tiny: ActConfig) -> None:
    torch.manual_seed(0)
    policy = Act(tiny, Stats.identity())
    images, state, pickup = inputs(tiny)
    present = torch.tensor([True, False, True])
    labels = Labels(torch.randn(3, 6, 6), torch.ones(3, 6, dtype=torch.bool))
    output = policy(Inputs(images, state, pickup, present), labels)
    (output.actions.square().sum() + output.mean.sum() + output.log_variance.sum()).backward()
    assert [name for name, p in policy.named_parameters() if p.grad is None] == []
    backbone = {id(p) for p in policy.backbone_parameters()}
    assert 0 < len(backbone) < len(list(policy.parameters()))


def test_the_shipped_small_policy_has_about_a_million_parameters() -> None:
    from training.policies.registry import load_policy_config

    with torch.device("meta"):  # shapes are enough to count by
        policy = Act(load_policy_config("act_small"), Stats.identity())
        resnet = Act(load_policy_config("act_resnet18").untrained(), Stats.identity())
    assert 1.0e6 < sum(p.numel() for p in policy.parameters()) < 1.3e6
    assert 45e6 < sum(p.numel() for p in resnet.parameters()) < 60e6
