"""Visuomotor cloning and sequence ACT: what they see, what their outputs mean, what they are trained on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torchvision.models import ViT_B_16_Weights, vit_b_16

from training.policies.base import Inputs, Labels, Stats
from training.policies.registry import build, parse_policy_config
from training.policies.tool_steps import ToolStepPolicy
from training.policies.visual_encoders import PlainCnn, ResNet18, VitB16

pytestmark = pytest.mark.usefixtures("one_thread")

BOTH = ("visuomotor", "sequence_act")
SMALL = {
    "visuomotor": {"head_width": 16, "chunk_size": 3},
    "sequence_act": {"d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 1, "decoder_layers": 1},
}


def tiny(kind: str, **changes: object) -> ToolStepPolicy:
    torch.manual_seed(0)
    size = {"image_height_px": 32, "image_width_px": 32, "chunk_size": 3, "max_step_m": 0.1}
    config = parse_policy_config({"type": kind, **size, **SMALL[kind], **changes})
    policy = build(config, Stats.identity(3)).eval()
    assert isinstance(policy, ToolStepPolicy)
    return policy


def seen(policy: ToolStepPolicy, batch: int = 4, seed: int = 0) -> Inputs:
    rng = np.random.default_rng(seed)
    steps = policy.config.observation_steps
    lead = (batch,) if steps == 1 else (batch, steps)
    images = {
        camera: torch.from_numpy(rng.integers(0, 256, (*lead, 32, 32, 3), dtype=np.uint8))
        for camera in policy.config.cameras
    }
    state = torch.from_numpy(rng.uniform(-40, 40, (*lead, 6)).astype(np.float32))
    return Inputs(images, state, torch.zeros(batch, 2))


def answering(tanh_outputs: tuple[float, float, float], **changes: object) -> ToolStepPolicy:
    """A policy whose network answers the same to everything."""
    policy = tiny("visuomotor", chunk_size=1, **changes)
    last = next(layer for layer in reversed(policy.head) if isinstance(layer, nn.Linear))
    nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.atanh(torch.tensor(tanh_outputs)))
    return policy


def labels(*step_m: float, batch: int = 4) -> Labels:
    return Labels(torch.tensor(step_m).expand(batch, 1, 3), torch.ones(batch, 1, dtype=torch.bool))


def test_maps_of_the_cnn_are_of_the_published_sizes() -> None:
    sides = []
    cnn = PlainCnn()
    for layer in cnn:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _layer, _inputs, result: sides.append(result.shape[1:]))
    assert cnn(torch.zeros(2, 3, 84, 84)).shape == (2, 64)
    assert sides == [(32, 21, 21), (64, 11, 11), (64, 11, 11), (64, 11, 11)]


def test_resnet_gives_512_numbers_and_the_same_for_a_picture_in_any_batch() -> None:
    pictures = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for frozen_norm in (False, True):
        encoder = ResNet18(frozen_norm=frozen_norm, pretrained=False).train()
        with torch.no_grad():
            features = encoder(pictures)
            assert features.shape == (3, 512)
            np.testing.assert_allclose(encoder(pictures[:1])[0], features[0], rtol=1e-3, atol=1e-4)


def test_vit_sees_84_pixels_whole_in_a_border_of_the_mean_colour() -> None:
    with torch.device("meta"):
        encoder = VitB16(84, pretrained=False)
    padded = torch.nn.functional.pad(torch.ones(1, 1, 84, 84), encoder.border)
    assert padded.shape[2:] == (96, 96) and padded[0, 0, 6:90, 6:90].all() and padded.sum() == 84 * 84
    assert encoder.net.encoder.pos_embedding.shape == (1, 36 + 1, 768)
    assert encoder(torch.zeros(2, 3, 84, 84, device="meta")).shape == (2, 768)


def test_weights_for_224_pixels_fit_the_smaller_vit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes and names alone: nothing is downloaded."""
    with torch.device("meta"):
        published = vit_b_16().state_dict()
        monkeypatch.setattr(ViT_B_16_Weights, "get_state_dict", lambda *_args, **_options: published)
        encoder = VitB16(84, pretrained=True)
    assert encoder.net.encoder.pos_embedding.shape == (1, 36 + 1, 768)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("coordinates", ["cartesian", "spherical"])
def test_a_label_that_is_the_answer_costs_nothing(kind: str, coordinates: str) -> None:
    policy = tiny(kind, coordinates=coordinates)
    inputs = seen(policy)
    with torch.no_grad():
        steps = policy.predict(inputs)
        assert steps.shape == (4, 3, 3) and 1e-4 < steps.abs().max() < 0.1
        valid = torch.ones(4, 3, dtype=torch.bool)
        right = policy.loss(inputs, Labels(steps, valid))
        wrong = policy.loss(inputs, Labels(steps + 0.05, valid))
        valid[1, 1:] = False
        masked = torch.where(valid[:, :, None], steps, 1e3)
        same = policy.loss(inputs, Labels(masked, valid))
    for loss in (right, same):
        assert loss["loss"].item() < 1e-9 and loss["error_m"].item() < 1e-6
    assert wrong["loss"].item() > 1e-2
    assert wrong["error_m"].item() == pytest.approx(0.05 * math.sqrt(3), rel=1e-4)


def test_tanh_outputs_are_shares_of_the_longest_step() -> None:
    policy = answering((0.5, -0.25, 0.0))
    np.testing.assert_allclose(
        policy.predict(seen(policy)).detach()[:, 0], [[0.05, -0.025, 0.0]] * 4, atol=1e-7
    )


def test_spherical_answers_point_where_they_say() -> None:
    # theta 90 degrees, phi 90 degrees, magnitude 0.5
    policy = answering((0.0, 0.0, 0.5), coordinates="spherical")
    np.testing.assert_allclose(policy.predict(seen(policy)).detach()[:, 0], [[0.0, 0.05, 0.0]] * 4, atol=1e-7)


def test_only_a_full_magnitude_stands_still() -> None:
    lowest = (-0.999999, 0.0, 0.0)
    lengths = [
        policy.predict(seen(policy)).norm(dim=-1).max().item()
        for full in (False, True)
        for policy in [answering(lowest, coordinates="spherical", full_magnitude=full)]
    ]
    assert lengths[0] == pytest.approx(0.1 * 0.268941, rel=1e-4)
    assert lengths[1] < 1e-6


def test_a_wrapped_azimuth_goes_the_short_way_round() -> None:
    at = math.radians(-175.0)
    expert = labels(0.05 * math.cos(at), 0.05 * math.sin(at), 0.0)
    losses = [
        policy.loss(seen(policy), expert)["loss"].item()
        for wrap in (False, True)
        for policy in [answering((0.0, 0.0, 175.0 / 180.0), coordinates="spherical", wrap_azimuth=wrap)]
    ]
    weight = 1.0 + 2.0 * 0.5
    assert losses[0] == pytest.approx(weight * (math.radians(350.0) - 0.5) / 3, rel=1e-3)
    assert losses[1] == pytest.approx(weight * 0.5 * math.radians(10.0) ** 2 / 3, rel=1e-3)


@pytest.mark.parametrize("kind", BOTH)
def test_of_the_joints_only_where_the_tool_is_counts(kind: str) -> None:
    policy = tiny(kind)
    inputs = seen(policy)
    moved, squeezed = inputs.state.clone(), inputs.state.clone()
    moved[..., 0] += 20.0
    squeezed[..., 5] += 50.0
    blind = tiny(kind, reads_state=False)
    with torch.no_grad():
        steps = policy.predict(inputs)
        assert torch.equal(policy.predict(Inputs(inputs.images, squeezed, inputs.pickup_xy_m)), steps)
        again = policy.predict(Inputs(inputs.images, moved, inputs.pickup_xy_m))
        assert (again - steps).abs().max() > 1e-5
        elsewhere = Inputs(inputs.images, moved, inputs.pickup_xy_m)
        assert torch.equal(blind.predict(inputs), blind.predict(elsewhere))


@pytest.mark.parametrize(("kind", "changes"), [("visuomotor", {"use_gru": True}), ("sequence_act", {})])
def test_every_observation_counts_and_their_order(kind: str, changes: dict[str, object]) -> None:
    policy = tiny(kind, observation_steps=3, cameras=["wrist", "overhead"], **changes)
    inputs = seen(policy)
    with torch.no_grad():
        steps = policy.predict(inputs)
        backwards = Inputs(
            {camera: images.flip(1) for camera, images in inputs.images.items()},
            inputs.state.flip(1),
            inputs.pickup_xy_m,
        )
        assert (policy.predict(backwards) - steps).abs().max() > 1e-5
        for camera in policy.config.cameras:
            for observation in range(3):
                images = {name: pictures.clone() for name, pictures in inputs.images.items()}
                images[camera][:, observation] = 255 - images[camera][:, observation]
                other = policy.predict(Inputs(images, inputs.state, inputs.pickup_xy_m))
                assert (other - steps).abs().max() > 1e-6, (camera, observation)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("visuomotor", {"use_gru": True}),
        ("visuomotor", {"coordinates": "spherical", "wrap_azimuth": True}),
        ("sequence_act", {"observation_steps": 1}),
        ("sequence_act", {"coordinates": "spherical"}),
    ],
)
def test_every_parameter_is_trained(kind: str, changes: dict[str, object]) -> None:
    policy = tiny(kind, **changes).train()
    still = Labels(torch.zeros(4, 3, 3), torch.ones(4, 3, dtype=torch.bool))
    policy.loss(seen(policy), still)["loss"].backward()
    gradients = {name: parameter.grad for name, parameter in policy.named_parameters()}
    assert [name for name, grad in gradients.items() if grad is None or not grad.isfinite().all()] == []
    encoder = {id(parameter) for parameter in policy.backbone_parameters()}
    assert 0 < len(encoder) < len(gradients)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pretrained": True}, "resnet18 or vit_b16"),
        ({"pretrained": True, "encoder": "resnet18"}, "frozen_batch"),
        ({"encoder": "vit_b16", "image_width_px": 96}, "square"),
        ({"observation_steps": 4}, "use_gru"),
        ({"max_step_m": 0.0}, "max_step_m"),
        ({"reads_pickup": True}, "reads_pickup"),
    ],
)
def test_what_does_not_fit_together_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parse_policy_config({"type": "visuomotor", **wrong})
