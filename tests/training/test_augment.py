from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.augment import augmented, draw, to_device
from training.config import AugmentConfig
from training.data import Batch
from training.picture_noise import PictureNoise, apply, blurred, shifted
from training.policies.base import Inputs, Labels, PolicyShape

CPU = torch.device("cpu")
SHAPE = PolicyShape(type="any", cameras=("wrist",), image_height_px=16, image_width_px=24, chunk_size=5)
OFF = AugmentConfig(
    pickup_noise_m=0.0, pickup_dropout=0.0, state_noise=0.0, brightness=0.0, contrast=0.0,
    max_camera_delay_frames=0,
)  # fmt: skip
EVERYTHING = AugmentConfig(
    saturation=0.5, channel_gain=0.2, sharpness=0.8, erase_share=0.5, shift_px=2, rotate_deg=5.0, zoom=0.1
)


def batch_of(size: int) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        {"wrist": rng.integers(0, 256, (size, 16, 24, 3), dtype=np.uint8)},
        rng.normal(size=(size, 6)).astype(np.float32),
        rng.normal(size=(size, 2)).astype(np.float32),
        rng.normal(size=(size, 5, 6)).astype(np.float32),
        np.ones((size, 5), np.bool_),
        np.ones(size, np.bool_),
    )


def noisy(
    batch: Batch, seed: int = 0, shape: PolicyShape = SHAPE, **changes: object
) -> tuple[Inputs, Labels]:
    config = AugmentConfig.model_validate({**OFF.model_dump(), **changes})
    noise = draw(config, shape, len(batch.state), np.random.default_rng(seed))
    return augmented(batch, noise, config.blur_px, CPU)


def pictures_with(images: np.ndarray, seed: int = 0, **changes: object) -> torch.Tensor:
    batch = replace(batch_of(len(images)), images={"wrist": images})
    shape = SHAPE.model_copy(update={"image_height_px": images.shape[-3], "image_width_px": images.shape[-2]})
    return noisy(batch, seed, shape, **changes)[0].images["wrist"]


def test_switched_off_it_changes_nothing() -> None:
    batch = batch_of(4)
    inputs, _ = noisy(batch)
    np.testing.assert_array_equal(inputs.images["wrist"], batch.images["wrist"])
    np.testing.assert_array_equal(inputs.state, batch.state)
    np.testing.assert_array_equal(inputs.pickup_xy_m, batch.pickup_xy_m)
    assert inputs.pickup_present is not None and inputs.pickup_present.all()


def test_nothing_moves_a_picture_unless_it_is_asked_for() -> None:
    shifts = draw(AugmentConfig(), SHAPE, 50, np.random.default_rng(0)).pictures["wrist"]
    assert shifts.shift_px is None and shifts.affine is None and shifts.erased is None


def test_coordinates_are_partly_noisy_and_partly_clean() -> None:
    batch = batch_of(4000)
    inputs, _ = noisy(batch, pickup_noise_m=0.01, pickup_noisy_share=0.6, pickup_dropout=0.1)
    error = inputs.pickup_xy_m.numpy() - batch.pickup_xy_m
    wrong = np.abs(error).max(1) > 1e-6
    assert wrong.mean() == pytest.approx(0.6, abs=0.03)
    np.testing.assert_allclose(error[wrong].std(0), 0.01, rtol=0.05)
    assert inputs.pickup_present is not None
    assert inputs.pickup_present.float().mean() == pytest.approx(0.9, abs=0.02)


def test_a_coordinate_that_was_not_given_is_never_present() -> None:
    batch = replace(batch_of(400), pickup_given=np.arange(400) % 2 == 0)
    present = noisy(batch, pickup_dropout=0.5)[0].pickup_present
    assert present is not None
    assert not present[1::2].any() and 0.3 < present[::2].float().mean() < 0.7
    kept = to_device(batch, CPU)[0].pickup_present
    assert kept is not None
    np.testing.assert_array_equal(kept, batch.pickup_given)


def test_labels_stay_clean_and_a_seed_repeats() -> None:
    batch = batch_of(8)
    changes = EVERYTHING.model_dump()
    a, labels = noisy(batch, 5, **changes)
    b, _ = noisy(batch, 5, **changes)
    c, _ = noisy(batch, 6, **changes)
    np.testing.assert_array_equal(labels.actions, batch.actions)
    assert torch.equal(a.images["wrist"], b.images["wrist"]) and torch.equal(a.state, b.state)
    assert not torch.equal(a.images["wrist"], c.images["wrist"])
    assert a.images["wrist"].min() >= 0 and a.images["wrist"].max() <= 255


def test_a_part_of_a_batch_gets_what_it_gets_in_the_whole() -> None:
    batch, part = batch_of(8), slice(2, 6)
    noise = draw(EVERYTHING, SHAPE, 8, np.random.default_rng(0))
    whole, _ = augmented(batch, noise, 1.0, CPU)
    cut = Batch(
        {"wrist": batch.images["wrist"][part]},
        *(vars(batch)[k][part] for k in ("state", "pickup_xy_m", "actions", "valid", "pickup_given")),
    )
    some, _ = augmented(cut, noise.rows(part), 1.0, CPU)
    assert torch.equal(some.images["wrist"], whole.images["wrist"][part])
    assert torch.equal(some.state, whole.state[part])
    assert torch.equal(some.pickup_xy_m, whole.pickup_xy_m[part])


def test_brightness_and_contrast_stay_in_range_and_act_on_whole_pictures() -> None:
    pictures = pictures_with(np.full((200, 4, 4, 3), 127, np.uint8), brightness=0.1).flatten(1)
    assert pictures.std(1).max() == 0
    assert 100 < pictures.min() < 106 and 148 < pictures.max() < 154
    pictures = pictures_with(batch_of(50).images["wrist"], brightness=1.0, contrast=0.9)
    assert pictures.min() >= 0 and pictures.max() <= 255


def test_saturation_leaves_grey_alone_and_a_white_balance_does_not() -> None:
    grey = np.full((40, 4, 4, 3), 100, np.uint8)
    torch.testing.assert_close(pictures_with(grey, saturation=1.0), torch.full((40, 4, 4, 3), 100.0))
    tinted = pictures_with(grey, channel_gain=0.2)[:, 0, 0]
    assert (tinted.std(1) > 1.0).float().mean() > 0.9
    assert 80 <= tinted.min() < 84 and 116 < tinted.max() <= 120
    red = np.zeros((40, 4, 4, 3), np.uint8)
    red[..., 0] = 200
    paler = pictures_with(red, saturation=1.0)[:, 0, 0]
    assert paler[:, 1].max() > 40.0 and (paler[:, 0] >= paler[:, 1]).all()


def test_a_blur_keeps_the_mean_and_takes_the_details() -> None:
    flat = torch.full((2, 12, 14, 3), 37.0)
    torch.testing.assert_close(blurred(flat, 1.5), flat)
    dot = torch.zeros(1, 15, 15, 3)
    dot[0, 7, 7, 1] = 100.0
    soft = blurred(dot, 1.0)
    assert soft[..., 1].sum() == pytest.approx(100.0, rel=1e-5) and soft[..., 0].abs().max() == 0.0
    assert soft[0, 7, 7, 1] == pytest.approx(100.0 / (2.0 * np.pi), rel=0.02)
    torch.testing.assert_close(soft, soft.transpose(1, 2))
    details = batch_of(60).images["wrist"]
    spread = pictures_with(details, sharpness=1.0).flatten(1).std(1)
    assert spread.min() < 40 and spread.max() > 75


@given(st.integers(-7, 7), st.integers(-7, 7))
def test_shifting_repeats_the_edges(down: int, right: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 9, 3), dtype=np.uint8)
    moved = shifted(torch.from_numpy(image), torch.tensor([[down, right]]))
    y = np.clip(np.arange(8) - down, 0, 7)
    x = np.clip(np.arange(9) - right, 0, 8)
    np.testing.assert_array_equal(moved[0], image[0][y[:, None], x[None]])


def test_turns_zooms_and_shifts_go_where_they_say() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (1, 16, 24, 3), dtype=np.uint8)

    def moved(**changes: object) -> torch.Tensor:
        return pictures_with(np.repeat(image, 30, axis=0), **changes)

    # Next to no zoom: the affine way must agree with whole pixels.
    still = AugmentConfig.model_validate({**OFF.model_dump(), "shift_px": 3, "zoom": 1e-7})
    noise = draw(still, SHAPE, 30, np.random.default_rng(4)).pictures["wrist"]
    whole = draw(still.model_copy(update={"zoom": 0.0}), SHAPE, 30, np.random.default_rng(4)).pictures[
        "wrist"
    ]
    pictures = torch.from_numpy(np.repeat(image, 30, axis=0))
    torch.testing.assert_close(
        apply(pictures, noise, 1.0), apply(pictures, whole, 1.0).float(), atol=0.05, rtol=0
    )
    # A quarter turn of a square, by hand, keeps its shape on pixels: rows become columns.
    square = torch.from_numpy(image[:, :, :16])
    quarter = PictureNoise(affine=np.array([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]], np.float32))
    turned = apply(square, quarter, 1.0)[0]
    torch.testing.assert_close(turned, torch.rot90(square[0].float()), atol=0.05, rtol=0)
    # A turn about the middle moves what is in the middle least.
    change = (moved(rotate_deg=10.0) - torch.from_numpy(image).float()).abs().mean((0, 3))
    assert change[7:9, 11:13].mean() < 0.7 * change[[0, -1]].mean()


def test_only_the_cameras_that_may_move_do() -> None:
    images = batch_of(30).images["wrist"]
    for cameras, same in ((["overhead"], True), (["wrist"], False), (None, False)):
        moved = pictures_with(images, shift_px=3, moved_cameras=cameras)
        assert torch.equal(moved, torch.from_numpy(images)) == same


def test_a_rectangle_is_erased_in_a_share_of_the_pictures() -> None:
    before = np.full((400, 20, 20, 3), 7, np.uint8)
    after = pictures_with(before, erase_share=0.5, erase_side=0.5)
    changed = (after != 7.0).any(-1)
    assert changed.flatten(1).any(1).float().mean() == pytest.approx(0.5, abs=0.1)
    assert changed.float().mean((1, 2)).max() <= 0.25 + 0.06
    for picture, where in zip(after, changed, strict=True):
        rows, columns = where.any(1).nonzero(), where.any(0).nonzero()
        if len(rows):  # one box of one colour
            box = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert (box == box[0, 0]).all() and where.sum() == len(box) * box.shape[1]


def test_the_pictures_of_a_history_are_changed_together() -> None:
    one = np.random.default_rng(1).integers(0, 256, (20, 1, 8, 9, 3), dtype=np.uint8)
    batch = replace(
        batch_of(20), images={"wrist": np.repeat(one, 3, axis=1)}, state=np.zeros((20, 3, 6), np.float32)
    )
    shape = SHAPE.model_copy(update={"observation_steps": 3, "image_height_px": 8, "image_width_px": 9})
    inputs, _ = noisy(batch, 0, shape, **EVERYTHING.model_dump())
    wrist = inputs.images["wrist"]
    assert wrist.shape == (20, 3, 8, 9, 3) and inputs.state.shape == (20, 3, 6)
    torch.testing.assert_close(wrist[:, 0], wrist[:, 2])
    assert not torch.equal(wrist[:, 0], torch.from_numpy(one[:, 0]).float())


def test_delays_cover_their_range() -> None:
    shape = SHAPE.model_copy(update={"cameras": ("wrist", "overhead")})
    delays = draw(AugmentConfig(max_camera_delay_frames=2), shape, 500, np.random.default_rng(0)).delay_frames
    assert delays.shape == (500, 2) and set(delays.flatten()) == {0, 1, 2}
    assert not draw(OFF, shape, 5, np.random.default_rng(0)).delay_frames.any()


def test_to_device_keeps_types() -> None:
    inputs, labels = to_device(batch_of(2), CPU)
    assert inputs.images["wrist"].dtype == torch.uint8 and labels.valid.dtype == torch.bool
