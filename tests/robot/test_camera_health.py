from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.camera_health import (
    BLIND_S,
    IDENTICAL_FRAMES,
    LATENCY_S,
    RATE_FRAMES,
    CameraHealth,
    FreezeWatch,
    is_black,
    is_blank,
    luminance,
    measured_fps,
    sharpness,
)
from robot.seams import ByteArray

RNG = np.random.default_rng(5)
NOISE = RNG.normal(0.0, 2.0, (120, 160, 3))
"""Of a webcam in a lit room, in steps of 255."""
DT_S = 1 / 30


def scene(x: int = 0, brightness: float = 1.0) -> ByteArray:
    """A table with an arm on it, whose finger is at column ``x``."""
    image = np.full((120, 160, 3), (190, 170, 150), np.uint8)
    image[40:, 60:75] = (40, 40, 36)
    image[60:70, x % 160 : x % 160 + 8] = 20
    return (image * brightness).astype(np.uint8)


def noisy(image: ByteArray) -> ByteArray:
    return np.clip(image + np.roll(NOISE, RNG.integers(1000)), 0, 255).astype(np.uint8)


def pose(pan_deg: float, gripper: float = 0.0) -> np.ndarray:
    return np.array([pan_deg, 0, 0, 0, 0, gripper], dtype=np.float64)


# -- one picture -------------------------------------------------------------------------------------------


@given(st.integers(0, 255), st.floats(0.0, 2.5))
def test_a_covered_lens_is_black_a_wall_is_blank_and_a_scene_is_neither(level: int, noise: float) -> None:
    flat = np.clip(np.full((120, 160, 3), level) + noise * NOISE / 2.0, 0, 255).astype(np.uint8)
    assert is_blank(flat)
    if level <= 6:
        assert is_black(flat)
    if level >= 16:
        assert not is_black(flat)
    assert not is_blank(scene()) and not is_black(scene())


@given(st.floats(0.3, 1.0))
def test_a_dim_room_is_not_black(brightness: float) -> None:
    image = scene(brightness=brightness)
    assert not is_black(image) and not is_blank(image)


def test_luminance_follows_the_standard() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0], image[0, 1], image[0, 2] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    np.testing.assert_allclose(luminance(image)[0], [76.2, 149.7, 29.1], atol=1.0)
    assert luminance(image).shape == (2, 3)


@settings(max_examples=20)
@given(st.floats(0.8, 1.6), st.floats(1.0, 2.0))
def test_sharpness_falls_with_blur(sigma: float, more: float) -> None:
    sharp = scene()
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), sigma))
    worse = np.asarray(cv2.GaussianBlur(sharp, (0, 0), sigma + more))
    assert sharpness(sharp) > sharpness(blurred) > sharpness(worse) > 0
    assert sharpness(np.full((8, 8, 3), 90, np.uint8)) == 0


# -- rate --------------------------------------------------------------------------------------------------


@given(st.floats(1.0, 240.0), st.integers(2, 100), st.floats(-1e4, 1e6))
def test_the_rate_is_that_of_the_times(fps: float, count: int, start_s: float) -> None:
    assert measured_fps([start_s + i / fps for i in range(count)]) == pytest.approx(fps, rel=1e-3)


def test_no_rate_without_two_pictures() -> None:
    assert measured_fps([]) == measured_fps([3.0]) == measured_fps([3.0, 3.0]) == 0.0


def fed(health: CameraHealth, fps: float, count: int, start_s: float = 0.0) -> float:
    """Noisy pictures at a rate; the time after the last."""
    for i in range(count):
        health.update(noisy(scene()), start_s + i / fps, None)
    return start_s + count / fps


def test_a_slow_camera_is_named_and_forgiven() -> None:
    health = CameraHealth("wrist", 30)
    now_s = fed(health, 30.0, RATE_FRAMES + 1)
    assert health.findings() == ()
    now_s = fed(health, 15.0, RATE_FRAMES + 1, now_s)
    (finding,) = health.findings()
    assert finding.code == "camera_slow" and "15 pictures a second instead of 30" in finding.message
    assert not finding.blinds
    now_s = fed(health, 22.0, RATE_FRAMES + 1, now_s)
    assert [f.code for f in health.findings()] == ["camera_slow"]  # not yet brisk
    fed(health, 29.0, RATE_FRAMES + 1, now_s)
    assert health.findings() == ()


def test_a_gap_is_not_slowness() -> None:
    health = CameraHealth("wrist", 30)
    now_s = fed(health, 30.0, RATE_FRAMES + 1)
    fed(health, 30.0, RATE_FRAMES + 1, now_s + 4.0)
    assert health.findings() == () and health.fps == pytest.approx(30.0)


# -- frozen ------------------------------------------------------------------------------------------------


def test_one_picture_of_a_moving_arm_is_frozen_after_five_repeats() -> None:
    watch, image = FreezeWatch(), scene()
    frozen = [watch.update(image.copy(), i * DT_S, pose(2.0 * i)) for i in range(12)]
    assert frozen.index(True) == IDENTICAL_FRAMES
    assert all(frozen[IDENTICAL_FRAMES:])
    assert not watch.update(scene(3), 12 * DT_S, pose(24.0))


@given(st.lists(st.floats(-0.9, 0.9), min_size=12, max_size=60))
def test_a_still_arm_freezes_nothing(wobble_deg: list[float]) -> None:
    watch, image = FreezeWatch(), scene()
    assert not any(watch.update(image, i * DT_S, pose(p)) for i, p in enumerate(wobble_deg))


def test_motion_that_the_pictures_cannot_show_yet_does_not_count() -> None:
    watch, image = FreezeWatch(), scene()
    for i in range(30):
        assert not watch.update(image, i * DT_S, pose(0.0))
    # The arm jumps: for the length of the latency, pictures may honestly show the time before.
    late = [watch.update(image, (30 + i) * DT_S, pose(40.0)) for i in range(10)]
    assert late.index(True) == pytest.approx(LATENCY_S / DT_S, abs=1)


def test_the_gripper_alone_and_an_unread_arm_do_not_count() -> None:
    watch, image = FreezeWatch(), scene()
    assert not any(watch.update(image, i * DT_S, pose(0.0, 5.0 * i)) for i in range(20))
    watch = FreezeWatch()
    assert not any(watch.update(image, i * DT_S, None) for i in range(20))


@given(st.integers(0, 119), st.integers(0, 159), st.integers(0, 2))
def test_one_pixel_is_a_new_picture(row: int, column: int, channel: int) -> None:
    watch, image = FreezeWatch(), scene()
    for i in range(20):
        image = image.copy()
        image[row, column, channel] ^= 1
        assert not watch.update(image, i * DT_S, pose(3.0 * i))


def test_sensor_noise_is_never_frozen() -> None:
    watch = FreezeWatch()
    assert not any(watch.update(noisy(scene()), i * DT_S, pose(3.0 * i)) for i in range(40))


# -- all together ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "code"), [(0, "camera_black"), (230, "camera_blank")])
def test_black_and_blank_are_told_once_they_last_and_are_not_called_frozen(level: int, code: str) -> None:
    health = CameraHealth("overhead", 30)
    codes = []
    for i in range(30):
        health.update(np.full((120, 160, 3), level, np.uint8), i * DT_S, pose(3.0 * i))
        codes.append([finding.code for finding in health.findings()])
    blind = codes.index([code])
    assert blind * DT_S == pytest.approx(BLIND_S, abs=1.5 * DT_S)
    assert codes == [[]] * blind + [[code]] * (30 - blind)
    assert all(finding.blinds and "overhead" in finding.message for finding in health.findings())
    health.update(scene(), 1.0, pose(90.0))
    assert health.findings() == ()
