from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.augment import augmented, camera_delays, shifted, to_device
from training.config import AugmentConfig
from training.data import Batch

CPU = torch.device("cpu")
OFF = AugmentConfig(
    pickup_noise_m=0.0, pickup_dropout=0.0, state_noise=0.0, brightness=0.0, contrast=0.0, shift_px=0,
    max_camera_delay_frames=0,
)  # fmt: skip


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


def test_switched_off_it_changes_nothing() -> None:
    batch = batch_of(4)
    inputs, _ = augmented(batch, OFF, np.random.default_rng(0), CPU)
    np.testing.assert_array_equal(inputs.images["wrist"], batch.images["wrist"])
    np.testing.assert_array_equal(inputs.state, batch.state)
    np.testing.assert_array_equal(inputs.pickup_xy_m, batch.pickup_xy_m)
    assert inputs.pickup_present.all()


def test_coordinates_are_partly_noisy_and_partly_clean() -> None:
    batch = batch_of(4000)
    config = OFF.model_copy(update={"pickup_noise_m": 0.01, "pickup_noisy_share": 0.6, "pickup_dropout": 0.1})
    inputs, _ = augmented(batch, config, np.random.default_rng(0), CPU)
    error = inputs.pickup_xy_m.numpy() - batch.pickup_xy_m
    noisy = np.abs(error).max(1) > 1e-6
    assert noisy.mean() == pytest.approx(0.6, abs=0.03)
    np.testing.assert_allclose(error[noisy].std(0), 0.01, rtol=0.05)
    assert inputs.pickup_present.float().mean() == pytest.approx(0.9, abs=0.02)


def test_a_coordinate_that_was_not_given_is_never_present() -> None:
    batch = replace(batch_of(400), pickup_given=np.arange(400) % 2 == 0)
    config = OFF.model_copy(update={"pickup_dropout": 0.5})
    present = augmented(batch, config, np.random.default_rng(0), CPU)[0].pickup_present.numpy()
    assert not present[1::2].any() and 0.3 < present[::2].mean() < 0.7
    np.testing.assert_array_equal(to_device(batch, CPU)[0].pickup_present, batch.pickup_given)


def test_labels_stay_clean_and_a_seed_repeats() -> None:
    batch = batch_of(8)
    a, labels = augmented(batch, AugmentConfig(), np.random.default_rng(5), CPU)
    b, _ = augmented(batch, AugmentConfig(), np.random.default_rng(5), CPU)
    c, _ = augmented(batch, AugmentConfig(), np.random.default_rng(6), CPU)
    np.testing.assert_array_equal(labels.actions, batch.actions)
    assert torch.equal(a.images["wrist"], b.images["wrist"]) and torch.equal(a.state, b.state)
    assert not torch.equal(a.images["wrist"], c.images["wrist"])


def test_brightness_and_contrast_stay_in_range_and_act_on_whole_pictures() -> None:
    grey = Batch(
        {"wrist": np.full((200, 4, 4, 3), 127, np.uint8)}, *(vars(batch_of(200))[k] for k in
        ("state", "pickup_xy_m", "actions", "valid", "pickup_given")),
    )  # fmt: skip
    config = OFF.model_copy(update={"brightness": 0.1})
    pictures = augmented(grey, config, np.random.default_rng(0), CPU)[0].images["wrist"].flatten(1)
    assert pictures.std(1).max() == 0
    assert 100 < pictures.min() < 106 and 148 < pictures.max() < 154
    strong = OFF.model_copy(update={"brightness": 1.0, "contrast": 0.9})
    pictures = augmented(batch_of(50), strong, np.random.default_rng(0), CPU)[0].images["wrist"]
    assert pictures.min() >= 0 and pictures.max() <= 255


@given(st.integers(-7, 7), st.integers(-7, 7))
def test_shifting_repeats_the_edges(down: int, right: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 9, 3), dtype=np.uint8)
    moved = shifted(image, np.array([down]), np.array([right]))
    y = np.clip(np.arange(8) - down, 0, 7)
    x = np.clip(np.arange(9) - right, 0, 8)
    np.testing.assert_array_equal(moved[0], image[0][y[:, None], x[None]])


def test_the_pictures_of_a_history_are_changed_together() -> None:
    one = np.random.default_rng(1).integers(0, 256, (20, 1, 8, 9, 3), dtype=np.uint8)
    batch = replace(
        batch_of(20), images={"wrist": np.repeat(one, 3, axis=1)}, state=np.zeros((20, 3, 6), np.float32)
    )
    inputs, _ = augmented(batch, AugmentConfig(), np.random.default_rng(0), CPU)
    wrist = inputs.images["wrist"]
    assert wrist.shape == (20, 3, 8, 9, 3) and inputs.state.shape == (20, 3, 6)
    assert torch.equal(wrist[:, 0], wrist[:, 2]) and not torch.equal(wrist[:, 0], torch.from_numpy(one[:, 0]))
    rows, columns = np.arange(20) % 5 - 2, np.arange(20) % 3 - 1
    single, several = shifted(one[:, 0], rows, columns), shifted(batch.images["wrist"], rows, columns)
    np.testing.assert_array_equal(several, np.repeat(single[:, None], 3, axis=1))


def test_delays_cover_their_range() -> None:
    delays = camera_delays(AugmentConfig(max_camera_delay_frames=2), 500, 2, np.random.default_rng(0))
    assert delays.shape == (500, 2) and set(delays.flatten()) == {0, 1, 2}
    assert not camera_delays(OFF, 5, 2, np.random.default_rng(0)).any()


def test_to_device_keeps_types() -> None:
    inputs, labels = to_device(batch_of(2), CPU)
    assert inputs.images["wrist"].dtype == torch.uint8 and labels.valid.dtype == torch.bool
