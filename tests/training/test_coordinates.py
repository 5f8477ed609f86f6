"""Each remedy against coordinates that are ignored does what it says, alone and with all the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from calibration.table import TableMap
from robot.config import config_root, load_robot
from robot.errors import ConfigError
from robot.kinematics import Kinematics
from training.config import load_train_config
from training.onnx_graph import write_onnx
from training.policies.act import Act, ActConfig
from training.policies.attention import attention_to_coordinates
from training.policies.backbones import ResNet18Backbone
from training.policies.base import Inputs, Labels, Stats
from training.policies.coordinates import (
    CoordinateFeatures,
    CoordinatesConfig,
    SeenFromTool,
    contrastive_loss,
)
from training.policies.crop import CropConfig, TableCrop
from training.policies.images import ImageInput
from training.policies.registry import load_policy_config

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (48, 64)
CAMERA = TableMap.from_mujoco(52.0, 640, 480, np.array([0.0, 1, 0, -1, 0, 0, 0, 0, 1]), (0.20, -0.05, 0.70))
TILTED = TableMap.from_pinhole(
    np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]),
    np.array([[0.0, -0.6, 0.8], [-1, 0, 0], [0, -0.8, -0.6]]),
    (-0.35, 0.0, 0.5),
)
STATS = Stats.identity()
STATS.pickup_mean[:] = (0.24, 0.0)
STATS.pickup_std[:] = (0.05, 0.1)


def crop_of(camera: TableMap = CAMERA, **options: Any) -> CropConfig:
    options = {"side_m": 0.2, "side_px": 40, "source_scale": 2} | options
    return CropConfig(pixel_to_table=camera.matrix, **options)


def everything(**options: Any) -> CoordinatesConfig:
    return CoordinatesConfig.model_validate(
        {
            "encoding": "fourier",
            "tool_frame": True,
            "repeat": 2,
            "every_layer": True,
            "film": True,
            "crop": crop_of(keep_overview=True),
            "auxiliary_weight": 0.1,
            "contrastive_weight": 0.1,
            "contrastive_pairs": "swapped",
        }
        | options
    )


def act(tiny: ActConfig, coordinates: CoordinatesConfig, **options: Any) -> Act:
    torch.manual_seed(0)
    changes = {"image_height_px": SIZE[0], "image_width_px": SIZE[1], "coordinates": coordinates, **options}
    policy = Act(ActConfig.model_validate({**dict(tiny), **changes}), STATS)
    policy.eval()
    return policy


def observation(policy: Act, batch: int = 3) -> Inputs:
    rng = torch.Generator().manual_seed(1)
    images = {
        camera: torch.randint(
            0, 256, (batch, *policy.config.picture_size_px(camera), 3), dtype=torch.uint8, generator=rng
        )
        for camera in policy.config.cameras
    }
    xy_m = torch.tensor([[0.2, 0.1], [0.3, -0.1], [0.25, 0.0]])[:batch]
    return Inputs(images, torch.randn(batch, 6, generator=rng), xy_m)


def with_blob(camera: TableMap, xy_m: tuple[float, float], size: tuple[int, int]) -> Tensor:
    """A black picture with a white disc of 12 mm at a point of the table."""
    grid = camera.table_grid(640, 480)
    disc = np.nan_to_num(np.hypot(*(grid - xy_m).transpose(2, 0, 1)), nan=1.0) < 0.012
    factor = 480 // size[0]
    small = disc.reshape(size[0], factor, size[1], factor).mean((1, 3)) * 255.0
    return torch.from_numpy(small.astype(np.float32)).expand(1, 3, *size)


def middle(crop: Tensor) -> tuple[float, float]:
    """Centre of brightness, (row, column), of a single crop."""
    weight = crop[0, 0] / crop[0, 0].sum()
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    return float((weight * rows).sum()), float((weight * columns).sum())


@pytest.mark.parametrize("camera", [CAMERA, TILTED], ids=["straight down", "tilted"])
@pytest.mark.parametrize("size", [(240, 320), (480, 640)])
def test_a_crop_has_the_coordinates_in_its_middle_and_a_scale(
    camera: TableMap, size: tuple[int, int]
) -> None:
    crop = TableCrop(crop_of(camera))
    for place in [(0.24, 0.05), (0.18, -0.12), (0.30, 0.15)]:
        picture = with_blob(camera, place, size)
        at = torch.tensor([place])
        np.testing.assert_allclose(middle(crop(picture, at, None, at[0])), (19.5, 19.5), atol=0.35)
        # 5 mm to the pixel: what is 40 mm further away is 8 rows up, 20 mm to the left is 4 columns
        beside = at - torch.tensor([[0.040, 0.020]])
        np.testing.assert_allclose(middle(crop(picture, beside, None, at[0])), (11.5, 15.5), atol=0.35)


def test_where_no_coordinates_are_given_the_whole_field_is_seen() -> None:
    crop, mean = TableCrop(crop_of(whole_side_m=0.6)), torch.tensor([0.24, 0.0])
    picture = with_blob(CAMERA, (0.24, 0.15), (480, 640))
    absent = torch.tensor([False])
    shown = crop(picture, torch.tensor([[0.3, 0.3]]), absent, mean)
    np.testing.assert_allclose(middle(shown), (19.5, 9.5), atol=0.35)
    assert torch.equal(shown, crop(picture, torch.tensor([[0.1, -0.2]]), absent, mean))
    given = crop(picture, torch.tensor([[0.3, 0.3]]), ~absent, mean)
    assert torch.equal(given, crop(picture, torch.tensor([[0.3, 0.3]]), None, mean))


@pytest.mark.parametrize("keep_overview", [False, True])
def test_what_is_beside_the_crop_has_no_influence_unless_the_overview_is_kept(
    tiny: ActConfig, keep_overview: bool
) -> None:
    policy = act(tiny, CoordinatesConfig(crop=crop_of(keep_overview=keep_overview, side_m=0.1)))
    seen = observation(policy)
    moved = seen.images["overhead"].clone()
    for picture, place in zip(moved, seen.pickup_xy_m.tolist(), strict=True):
        u, v = CAMERA.to_pixel(place[0], place[1] + (0.15 if place[1] < 0 else -0.15))
        row, column = int(v / 5), int(u / 5)
        picture[row - 4 : row + 5, column - 4 : column + 5] = torch.tensor([210, 30, 30], dtype=torch.uint8)
    with torch.no_grad():
        before = policy.predict(seen)
        after = policy.predict(Inputs({**seen.images, "overhead": moved}, seen.state, seen.pickup_xy_m))
    assert torch.equal(before, after) != keep_overview


def test_the_gripper_sees_a_point_where_it_is() -> None:
    kinematics, rng = Kinematics(), np.random.default_rng(0)
    states = rng.uniform(-60, 60, (20, 6)).astype(np.float32)
    points = rng.uniform(-0.3, 0.3, (20, 2)).astype(np.float32)
    told = SeenFromTool()(torch.from_numpy(states), torch.from_numpy(points))
    for state, point, seen in zip(states, points, told.numpy(), strict=True):
        tool_m = kinematics.tool_position_m(state.astype(np.float64))
        turn = kinematics.data.body("gripper").xmat.reshape(3, 3)
        np.testing.assert_allclose(seen, turn.T @ (np.append(point, 0.0) - tool_m), atol=2e-6)


def test_codes_of_coordinates() -> None:
    xy_m, normalised = torch.tensor([[0.24, 0.1]]), torch.tensor([[0.0, 1.0]])
    state = torch.zeros(1, 6)

    def code(**options: Any) -> Tensor:
        return CoordinateFeatures(CoordinatesConfig(**options))(xy_m, normalised, state)[0]

    assert torch.equal(code(encoding="raw"), xy_m[0])
    assert torch.equal(code(), normalised[0])
    half = 0.5**0.5
    expected = [0.0, 1.0, 0.0, 0.0, half, 1.0, 1.0, 1.0, half, 0.0]
    np.testing.assert_allclose(code(encoding="fourier", fourier_bands=2), expected, atol=1e-6)


@pytest.mark.parametrize("remedy", ["film", "every_layer"])
def test_a_remedy_inside_the_network_begins_as_nothing_and_can_become_something(
    tiny: ActConfig, remedy: str
) -> None:
    plain = act(tiny, CoordinatesConfig(token=False))
    policy = act(tiny, CoordinatesConfig.model_validate({"token": False, remedy: True}))
    policy.load_state_dict(plain.state_dict(), strict=False)
    seen = observation(policy)
    elsewhere = Inputs(seen.images, seen.state, seen.pickup_xy_m + 0.1)
    with torch.no_grad():
        assert torch.allclose(policy.predict(seen), plain.predict(seen), atol=1e-5)
        assert torch.equal(policy.predict(seen), policy.predict(elsewhere))
        for name, parameter in policy.named_parameters():
            if "film" in name or "every_layer" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        assert not torch.allclose(policy.predict(seen), policy.predict(elsewhere), atol=1e-4)


def test_every_block_of_a_resnet_is_scaled_and_shifted() -> None:
    torch.manual_seed(0)
    backbone = ResNet18Backbone([(32, 32)], 16, pretrained=False, film=True)
    pictures, condition = torch.randn(1, 3, 32, 32), torch.randn(1, 16)
    tokens, _ = backbone(pictures, condition)
    assert torch.equal(tokens, backbone.project(backbone.body(pictures)).flatten(2).transpose(1, 2))
    assert backbone.films is not None and len(backbone.films) == 8
    tokens.sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []
    for film in backbone.films:
        torch.nn.init.normal_(film.generate.weight, std=0.1)
    assert not torch.allclose(backbone(pictures, condition)[0], backbone(pictures, -condition)[0])


def test_without_the_coordinates_nothing_depends_on_them(tiny: ActConfig) -> None:
    policy = act(tiny, CoordinatesConfig(), reads_pickup=False)
    seen = observation(policy)
    with torch.no_grad():
        assert torch.equal(
            policy.predict(seen), policy.predict(Inputs(seen.images, seen.state, seen.pickup_xy_m * 3))
        )
    assert policy.tokens() == act(tiny, CoordinatesConfig()).tokens() - 1


def test_chunks_that_are_alike_cost_as_much_as_they_lack_to_the_margin() -> None:
    valid = torch.ones(4, 2, dtype=torch.bool)
    valid[2, 1] = False
    chunks, others = torch.zeros(4, 2, 3), torch.zeros(4, 2, 3)
    others[1] = 0.25
    others[2, 0], others[2, 1] = 0.5, 100.0  # the second step does not exist
    others[3] = 9.0
    far = torch.tensor([True, True, True, True])
    np.testing.assert_allclose(contrastive_loss(chunks, others, valid, far, 1.0), (1 + 0.75 + 0.5 + 0) / 4)
    far[0] = False
    np.testing.assert_allclose(contrastive_loss(chunks, others, valid, far, 1.0), (0.75 + 0.5 + 0) / 3)
    assert contrastive_loss(chunks, others, valid, far & False, 1.0) == 0


def test_a_policy_that_ignores_its_coordinates_is_found_out_by_swapping_them(tiny: ActConfig) -> None:
    deaf = {"token": False, "steer": False, "contrastive_weight": 2.0, "contrastive_margin": 0.3}
    labels = Labels(torch.randn(3, 6, 6), torch.ones(3, 6, dtype=torch.bool))
    losses = {}
    for pairs in ("batch", "swapped"):
        policy = act(tiny, CoordinatesConfig.model_validate({**deaf, "contrastive_pairs": pairs}))
        with torch.no_grad():
            losses[pairs] = policy.loss(observation(policy), labels)
    assert float(losses["swapped"]["contrastive"]) == pytest.approx(0.3)
    # other states, other chunks: pairs of a batch tell less
    assert float(losses["batch"]["contrastive"]) < 0.3
    found = losses["swapped"]
    np.testing.assert_allclose(
        found["loss"].item(),
        (found["l1"] + 10.0 * found["kl"] + 2.0 * found["contrastive"]).item(),
        rtol=1e-5,
    )


def test_the_auxiliary_loss_teaches_image_tokens_and_counts_given_coordinates_only(tiny: ActConfig) -> None:
    policy = act(tiny, CoordinatesConfig(auxiliary_weight=0.5, steer=False), use_vae=False)
    seen, labels = observation(policy), Labels(torch.zeros(3, 6, 6), torch.zeros(3, 6, dtype=torch.bool))
    present = torch.tensor([True, True, False])
    found = policy.loss(Inputs(seen.images, seen.state, seen.pickup_xy_m, present), labels)
    two = Inputs({c: i[:2] for c, i in seen.images.items()}, seen.state[:2], seen.pickup_xy_m[:2])
    shorter = Labels(labels.actions[:2], labels.valid[:2])
    assert found["auxiliary"].item() > 0.1
    assert policy.loss(two, shorter)["auxiliary"].item() == pytest.approx(found["auxiliary"].item(), rel=1e-4)
    np.testing.assert_allclose(found["loss"].item(), 0.5 * found["auxiliary"].item(), rtol=1e-5)
    found["auxiliary"].backward()
    gradient = policy.backbones["wrist"].heat.weight.grad
    assert gradient is not None and gradient.abs().max() > 0


def test_every_parameter_is_trained_with_all_remedies(tiny: ActConfig) -> None:
    policy = act(tiny, everything(), standardise=True)
    seen = observation(policy)
    labels = Labels(torch.randn(3, 6, 6), torch.ones(3, 6, dtype=torch.bool))
    present = torch.tensor([True, False, True])
    found = policy.loss(Inputs(seen.images, seen.state, seen.pickup_xy_m, present), labels)
    assert set(found) == {"loss", "l1", "kl", "auxiliary", "contrastive"}
    found["loss"].backward()
    assert [name for name, p in policy.named_parameters() if p.grad is None] == []


@pytest.mark.slow  # the exporter itself takes ten seconds
def test_all_remedies_together_are_the_same_in_onnx(tiny: ActConfig, tmp_path: Path) -> None:
    import onnxruntime

    policy = act(tiny, everything(), standardise=True)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    camera_size_px = (120, 160)
    write_onnx(policy, camera_size_px, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for place in [(0.2, 0.1), (0.3, -0.15)]:
        images = {c: rng.integers(0, 256, (*camera_size_px, 3), np.uint8) for c in policy.config.cameras}
        state, xy_m = rng.uniform(-50, 50, 6).astype(np.float32), np.array(place, np.float32)
        with torch.no_grad():
            expected = policy.predict(
                Inputs(
                    {c: torch.from_numpy(image)[None] for c, image in images.items()},
                    torch.from_numpy(state)[None],
                    torch.from_numpy(xy_m)[None],
                )
            )[0]
        feed = {f"image_{c}": image for c, image in images.items()} | {"state": state, "pickup_xy_m": xy_m}
        np.testing.assert_allclose(session.run(None, feed)[0], expected, atol=1e-4)


def test_the_published_shape_reads_603_tokens() -> None:
    published = load_policy_config("act_cvae")
    assert isinstance(published, ActConfig)
    small = {"pretrained": False, "d_model": 16, "heads": 2, "d_ff": 16, "encoder_layers": 1, "vae_layers": 1}
    with torch.device("meta"):  # shapes are enough
        policy = Act(published.model_copy(update=small), STATS).eval()
    assert policy.tokens() == 603
    read, seen = [], observation(policy, 1)
    pictures = {camera: images.to("meta") for camera, images in seen.images.items()}
    policy.encoder[0].register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
    with torch.no_grad():
        policy.predict(Inputs(pictures, seen.state.to("meta"), seen.pickup_xy_m.to("meta")))
    assert read == [603]


def test_standardised_pictures_do_not_know_the_lamp() -> None:
    rng = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 16, 16, 3, generator=rng) * 120 + 40
    look = ImageInput(16, 16, standardise=True)
    brighter = picture * 1.3 + torch.tensor([10.0, 0.0, -5.0])
    np.testing.assert_allclose(look(brighter), look(picture), atol=0.06)
    assert look(picture).std() == pytest.approx(1.0, abs=0.1)
    assert look(torch.full((1, 16, 16, 3), 90.0)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"coordinates": {"crop": {"camera": "side", "pixel_to_table": CAMERA.matrix}}}, "side"),
        ({"coordinates": {"crop": {"pixel_to_table": CAMERA.matrix}}, "reads_pickup": False}, "reads_pickup"),
        ({"observation_steps": 2}, "observation_steps"),
        ({"coordinates": {"encoding": "polar"}}, "encoding"),
    ],
)
def test_what_cannot_be_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        ActConfig.model_validate(change)


def test_attention_to_the_coordinates_is_what_the_network_mixes(tiny: ActConfig) -> None:
    policy = act(tiny, CoordinatesConfig(repeat=2))
    seen = observation(policy)
    found = attention_to_coordinates(policy, seen)
    assert len(found.queries) == 1 and len(found.image_tokens) == 1
    assert found.even == pytest.approx(2 / policy.tokens())
    # With values that are 1 at the coordinates and 0 elsewhere, what comes out is the attention's share.
    cross = policy.decoder[0].cross_attention
    mixed = []
    with torch.no_grad():
        for layer in (cross.value, cross.out):
            layer.weight.zero_()
            layer.bias.zero_()
        cross.out.weight.copy_(torch.eye(16))

        def only_coordinates(_: object, __: object, values: Tensor) -> Tensor:
            marked = torch.zeros_like(values)
            marked[:, policy.coordinate_slice] = 1.0
            return marked

        cross.value.register_forward_hook(only_coordinates)
        cross.register_forward_hook(lambda _, __, out: mixed.append(out))
        policy.predict(seen)
    assert float(mixed[0].mean()) == pytest.approx(found.queries[0], rel=1e-4)
    # Keys of nought are all alike.
    for attention in (cross, policy.encoder[0].attention):
        torch.nn.init.zeros_(attention.key.weight)
    alike = attention_to_coordinates(policy, seen)
    np.testing.assert_allclose([*alike.queries, *alike.image_tokens], alike.even, rtol=1e-5)
    with pytest.raises(ConfigError, match="no coordinate token"):
        attention_to_coordinates(act(tiny, CoordinatesConfig(token=False)), seen)


def test_the_runs_of_the_confuser_study_differ_in_the_remedy_only() -> None:
    folder = config_root() / "experiments" / "confuser"
    runs = sorted(path for path in folder.glob("*.yaml") if path.stem not in {"study", "shipped"})
    assert [run.stem for run in runs] == [
        "all", "auxiliary", "baseline", "contrastive", "crop", "film", "fourier", "signal", "steer",
        "tool_frame",
    ]  # fmt: skip
    trained = {run.stem: load_train_config(run) for run in runs}
    same = trained["baseline"]
    baseline = load_policy_config(same.policy)
    assert isinstance(baseline, ActConfig)
    plain = baseline.coordinates.model_dump()
    assert (plain["encoding"], plain["token"], plain["steer"], plain["crop"]) == ("raw", True, False, None)
    for name, run in trained.items():
        changed = {"policy": f"confuser/{name}", "output_dir": f"outputs/train/confuser_{name}"}
        assert run == same.model_copy(update=changed)
        policy = load_policy_config(run.policy)
        assert isinstance(policy, ActConfig)
        assert policy.model_copy(update={"coordinates": baseline.coordinates}) == baseline
        remedies = {key for key, value in policy.coordinates.model_dump().items() if value != plain[key]}
        keys = {
            "baseline": set(),
            "fourier": {"encoding"},
            "contrastive": {"contrastive_weight", "contrastive_pairs"},
            "auxiliary": {"auxiliary_weight"},
            "signal": {"repeat", "every_layer"},
        }
        assert name == "all" or remedies == keys.get(name, {name})


def test_the_shipped_crop_is_where_the_twins_camera_looks() -> None:
    (camera,) = (c for c in load_robot("twin")[0].cameras if c.name == "overhead")
    for name in ("act_pick_place", "confuser/crop", "confuser/all"):
        policy = load_policy_config(name)
        assert isinstance(policy, ActConfig) and policy.coordinates.crop is not None
        assert policy.coordinates.crop.pixel_to_table == camera.table_map
        assert policy.picture_size_px("overhead") == (192, 256) and policy.picture_size_px("wrist") == (
            96,
            128,
        )
