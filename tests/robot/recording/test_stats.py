from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robot.errors import DatasetError
from robot.recording.stats import (
    QUANTILES,
    STAT_NAMES,
    ImageStats,
    column_stats,
    from_json,
    merge_stats,
    to_json,
)

values = st.floats(-1e3, 1e3, width=32)


@settings(deadline=None, max_examples=40)
@given(arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=values))
def test_column_statistics_are_numpys(column: np.ndarray) -> None:
    stats = column_stats(column)
    assert tuple(stats) == STAT_NAMES
    wide = column.astype(np.float64)
    np.testing.assert_array_equal(stats["min"], wide.min(axis=0))
    np.testing.assert_array_equal(stats["max"], wide.max(axis=0))
    np.testing.assert_allclose(stats["mean"], wide.mean(axis=0))
    np.testing.assert_allclose(stats["std"], wide.std(axis=0))
    assert stats["count"].tolist() == [len(column)]
    for name, quantile in QUANTILES.items():
        np.testing.assert_allclose(stats[name], np.quantile(wide, quantile, axis=0))


def test_integers_stay_integers() -> None:
    stats = column_stats(np.arange(5).reshape(5, 1))
    assert stats["min"].tolist() == [0]
    assert stats["max"].dtype == np.int64


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.float64, (7, 2), elements=values),
    arrays(np.float64, (3, 2), elements=values),
    arrays(np.float64, (1, 2), elements=values),
)
def test_merged_statistics_are_those_of_the_whole(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    whole = column_stats(np.concatenate([a, b, c]))
    merged = merge_stats([column_stats(part) for part in (a, b, c)])
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(merged[name], whole[name], rtol=1e-9, atol=1e-6)
    for name, envelope in (("q01", np.min), ("q10", np.min), ("q90", np.max), ("q99", np.max)):
        parts = [column_stats(part)[name] for part in (a, b, c)]
        np.testing.assert_array_equal(merged[name], envelope(parts, axis=0))


def test_image_statistics_are_exact_and_shaped_per_channel() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(10, 200, (6, 20, 24, 3), dtype=np.uint8)
    collected = ImageStats()
    for image in images:
        collected.add(image)
    stats = collected.stats()
    pixels = images.reshape(-1, 3) / 255.0
    for name, expected in (
        ("min", pixels.min(axis=0)), ("max", pixels.max(axis=0)),
        ("mean", pixels.mean(axis=0)), ("std", pixels.std(axis=0)),
    ):  # fmt: skip
        assert stats[name].shape == (3, 1, 1)
        np.testing.assert_allclose(stats[name].ravel(), expected, atol=1e-9)
    for name, quantile in QUANTILES.items():
        np.testing.assert_allclose(stats[name].ravel(), np.quantile(pixels, quantile, axis=0), atol=1 / 255)
    assert stats["count"].tolist() == [6]


def test_large_images_are_thinned_not_distorted() -> None:
    image = np.zeros((480, 640, 3), dtype=np.uint8)
    image[:, 320:] = 255
    collected = ImageStats()
    collected.add(image)
    np.testing.assert_allclose(collected.stats()["mean"].ravel(), 0.5, atol=0.01)


def test_json_round_trip() -> None:
    stats = {"a": column_stats(np.ones((3, 2))), "b": column_stats(np.ones((3, 1), dtype=np.int64))}
    back = from_json(to_json(stats))
    for feature, part in stats.items():
        for name, value in part.items():
            np.testing.assert_array_equal(back[feature][name], value)


def test_nothing_and_unlike_shapes_cannot_be_merged() -> None:
    with pytest.raises(DatasetError):
        merge_stats([])
    with pytest.raises(DatasetError):
        merge_stats([column_stats(np.ones((3, 2))), column_stats(np.ones((3, 1)))])
