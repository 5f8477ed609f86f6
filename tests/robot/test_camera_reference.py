from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.camera_reference import Reference, likeness, load_references, swapped, thumbnail
from robot.config import load_robot
from robot.errors import ConfigError
from robot.seams import ByteArray


def wrist(seed: int) -> ByteArray:
    """Fingers that are always there, before a background that is always another."""
    rng = np.random.default_rng(seed)
    image = np.kron(rng.integers(60, 200, (4, 4, 3)), np.ones((30, 40, 1))).astype(np.uint8)
    image[70:, 20:40], image[80:, 100:130] = 20, 240
    return image


def overhead(seed: int) -> ByteArray:
    """Base and bowl that are always there, and an arm that is somewhere."""
    rng = np.random.default_rng(seed)
    image = np.full((120, 160, 3), 170, np.uint8)
    image[90:, 60:80], image[30:60, 120:150] = 230, 60
    row, column = rng.integers(0, 60), rng.integers(0, 100)
    image[row : row + 40, column : column + 15] = 30
    return image


WRIST = Reference.of(wrist(seed) for seed in range(40))
OVERHEAD = Reference.of(overhead(seed) for seed in range(40))
BOTH = {"wrist": WRIST, "overhead": OVERHEAD}


@given(st.integers(100, 10_000), st.integers(100, 10_000), st.sampled_from([BOTH, {"overhead": OVERHEAD}]))
def test_exchanged_cameras_are_told_and_right_ones_are_not(
    a: int, b: int, references: dict[str, Reference]
) -> None:
    assert swapped({"wrist": wrist(a), "overhead": overhead(b)}, references) == ()
    assert swapped({"wrist": overhead(b), "overhead": wrist(a)}, references) == (("wrist", "overhead"),)


def test_nothing_is_told_without_a_reference_or_a_second_camera() -> None:
    assert swapped({"wrist": overhead(1), "overhead": wrist(1)}, {}) == ()
    assert swapped({"wrist": overhead(1)}, BOTH) == ()


@given(st.integers(0, 1000), st.floats(0.4, 1.0), st.integers(0, 60))
def test_exposure_and_contrast_make_no_difference(seed: int, gain: float, offset: int) -> None:
    image = overhead(seed)
    other = np.clip(image * gain * 0.75 + offset, 0, 255).astype(np.uint8)
    assert likeness(other, OVERHEAD) == pytest.approx(likeness(image, OVERHEAD), abs=0.05)


@given(st.integers(0, 255))
def test_a_flat_picture_is_like_nothing(level: int) -> None:
    assert likeness(np.full((120, 160, 3), level, np.uint8), OVERHEAD) == 0.0


def test_of_one_picture_it_is_its_thumbnail() -> None:
    alone = Reference.of([overhead(1)])
    np.testing.assert_array_equal(alone.mean, thumbnail(overhead(1)))
    assert not alone.std.any()
    assert likeness(overhead(1), alone) == pytest.approx(1.0)


def test_a_reference_survives_its_file() -> None:
    back = Reference.from_json(json.loads(json.dumps(OVERHEAD.as_json())))
    np.testing.assert_allclose(back.mean, OVERHEAD.mean, atol=0.5)
    np.testing.assert_allclose(back.std, OVERHEAD.std, atol=0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {"mean": [[1]]},
        {"mean": [[1]], "std": [[1]]},
        OVERHEAD.as_json() | {"std": [[-1] * 32] * 24},
        OVERHEAD.as_json() | {"mean": [["x"] * 32] * 24},
    ],
)
def test_what_is_no_reference_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError):
        Reference.from_json(wrong)


def test_references_are_read_from_the_files_that_the_cameras_name(tmp_path: Path) -> None:
    robot, _ = load_robot("twin")
    wrist_config, overhead_config = robot.cameras
    mine = robot.model_copy(
        update={
            "cameras": (
                wrist_config.model_copy(update={"calibration": "wrist.json"}),
                overhead_config.model_copy(update={"calibration": None}),
            )
        }
    )
    path = tmp_path / "wrist.json"
    path.write_text(json.dumps({"lens": None, "table": None}))
    assert load_references(mine, tmp_path) == {}
    path.write_text(json.dumps({"lens": None, "reference": WRIST.as_json()}))
    assert list(load_references(mine, tmp_path)) == ["wrist"]
    for damage, command in (("{", "camera"), ("[]", "camera"), ('{"reference": 3}', "reference")):
        path.write_text(damage)
        with pytest.raises(ConfigError, match=rf"camera wrist.*wrist\.json.*calibrate {command} wrist"):
            load_references(mine, tmp_path)
