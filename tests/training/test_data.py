from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robot.errors import DatasetError
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter, Units
from training.data import MIN_STD_USER, Corpus, in_batches, rows_of_step
from training.image_cache import open_images, resize_frames
from training.policies.act import ActConfig


@pytest.fixture
def corpus(dataset_root: Path, tiny: ActConfig, tmp_path: Path) -> Corpus:
    made = Corpus([dataset_root], tiny, tmp_path / "cache")
    made.open_images()
    return made


def test_windows_end_with_the_episode(corpus: Corpus) -> None:
    assert len(corpus) == 9 + 12 + 10 + 11 and corpus.episodes == 4
    batch = corpus.gather(np.array([0, 6, 8]))
    assert batch.actions.shape == (3, 6, 6)
    np.testing.assert_array_equal(batch.actions[0, :, 0], [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(batch.actions[1, :, 0], [7, 8, 9, 9, 9, 9])
    np.testing.assert_array_equal(batch.valid.sum(1), [6, 3, 1])
    np.testing.assert_array_equal(batch.state[:, 2], [2, 8, 10])


def test_what_is_masked_is_seen_but_never_a_label(corpus: Corpus) -> None:
    train, validation = corpus.split(0.0, 0)
    assert len(validation) == 0
    masked = np.arange(9 + 6, 9 + 12)
    assert not np.isin(masked, train).any() and len(train) == len(corpus) - 6
    batch = corpus.gather(np.array([9 + 3, 9 + 4]))
    np.testing.assert_array_equal(batch.valid, [[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]])


def test_a_window_does_not_go_on_after_a_masked_frame(corpus: Corpus) -> None:
    corpus.trained[2] = False
    assert corpus.gather(np.array([0])).valid[0].tolist() == [True, True, False, False, False, False]


def test_pictures_belong_to_their_frames(corpus: Corpus) -> None:
    rows = np.array([3, 9 + 7, 9 + 12 + 10])  # frame 3 of episode 0, 7 of 1, 0 of 3
    batch = corpus.gather(rows)
    for camera in ("wrist", "overhead"):
        assert batch.images[camera].shape == (3, 32, 32, 3)
        found = batch.images[camera].reshape(3, -1).mean(1)
        np.testing.assert_allclose(found, [45, 85, 90], atol=4)  # the video is compressed


def test_a_late_picture_is_of_the_same_episode(corpus: Corpus) -> None:
    rows = np.array([5, 9 + 1])
    batch = corpus.gather(rows, np.array([[2, 0], [3, 1]]))
    np.testing.assert_allclose(batch.images["wrist"].reshape(2, -1).mean(1), [45, 50], atol=4)
    np.testing.assert_allclose(batch.images["overhead"].reshape(2, -1).mean(1), [55, 50], atol=4)
    np.testing.assert_array_equal(batch.state, corpus.state[rows])


def test_episodes_are_held_out_whole(corpus: Corpus) -> None:
    train, validation = corpus.split(0.5, 3)
    assert len(set(corpus.episode[validation])) == 2
    assert not set(corpus.episode[train]) & set(corpus.episode[validation])
    again, _ = corpus.split(0.5, 3)
    np.testing.assert_array_equal(train, again)


def test_statistics_have_a_floor(corpus: Corpus) -> None:
    stats = corpus.stats(np.arange(5))
    np.testing.assert_allclose(stats.action_mean, corpus.action[:5].mean(0))
    np.testing.assert_allclose(stats.action_std, corpus.action[:5].std(0), rtol=1e-5)
    np.testing.assert_array_equal(corpus.stats(np.array([0])).state_std, MIN_STD_USER)


def test_each_epoch_sees_every_row_once() -> None:
    rows = np.arange(100, 140)
    epoch = np.concatenate([rows_of_step(rows, 8, 1, step) for step in range(5)])
    assert sorted(epoch) == list(rows)
    other = np.concatenate([rows_of_step(rows, 8, 1, step) for step in range(5, 10)])
    assert sorted(other) == list(rows) and (epoch != other).any()
    np.testing.assert_array_equal(rows_of_step(rows, 8, 1, 7), other[16:24])
    assert len(rows_of_step(rows, 64, 1, 3)) == 40


def test_validation_rows_are_spread() -> None:
    assert [len(b) for b in in_batches(np.arange(100), 16, 40)] == [16, 16, 8]
    assert np.concatenate(list(in_batches(np.arange(10), 4, 40))).tolist() == list(range(10))


def test_several_datasets_are_one(dataset_root: Path, tiny: ActConfig, tmp_path: Path) -> None:
    both = Corpus([dataset_root, dataset_root], tiny, tmp_path / "cache")
    both.open_images()
    size = len(both) // 2
    assert both.episodes == 8
    batch = both.gather(np.array([5, size + 5, size - 1]))
    np.testing.assert_array_equal(batch.actions[0], batch.actions[1])
    np.testing.assert_array_equal(batch.images["wrist"][0], batch.images["wrist"][1])
    assert batch.valid[2].sum() == 1


def test_pictures_are_decoded_once(dataset_root: Path, tmp_path: Path) -> None:
    dataset, counts = Dataset(dataset_root), []
    first = open_images(dataset, ("wrist",), 16, 16, tmp_path, counts.append)
    assert counts == [9, 12, 10, 11]
    again = open_images(dataset, ("wrist",), 16, 16, tmp_path, counts.append)
    assert len(counts) == 4
    np.testing.assert_array_equal(first["wrist"], again["wrist"])
    assert open_images(dataset, ("wrist",), 8, 8, tmp_path)["wrist"].shape == (42, 8, 8, 3)


def test_caching_averages_as_the_policy_does() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (300, 20, 30, 3), dtype=np.uint8)
    expected = frames.reshape(300, 4, 5, 6, 5, 3).mean((2, 4))
    assert np.abs(resize_frames(frames, 4, 6) - expected).max() <= 0.5001


def small_set(root: Path, *, fps: int = 30, pickup: bool = True, units: Units = "degrees") -> Path:
    cameras = {"wrist": (32, 32)}
    with DatasetWriter.create(
        root, fps=fps, cameras=cameras, environment_state=pickup, units=units
    ) as writer:
        writer.begin_episode("x")
        for _ in range(3):
            place = [0.2, 0.1] if pickup else None
            writer.add_frame(np.zeros(6), np.zeros(6), {"wrist": np.zeros((32, 32, 3), np.uint8)}, place)
        writer.save_episode()
    return root


def test_datasets_that_do_not_fit_are_refused(dataset_root: Path, tiny: ActConfig, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"one frame rate, got \[15.0, 30.0\]"):
        Corpus([dataset_root, small_set(tmp_path / "slow", fps=15)], tiny, tmp_path)
    with pytest.raises(DatasetError, match=r"m100_100, not degrees.*--to-degrees --calibration FILE"):
        Corpus([small_set(tmp_path / "old", units="m100_100")], tiny, tmp_path)
    unsaid = small_set(tmp_path / "unsaid")
    info = json.loads((unsaid / "meta/info.json").read_text())
    del info["so101"]  # as LeRobot's own
    (unsaid / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DatasetError, match=r"does not say in which units.*dataset convert .*--units degrees"):
        Corpus([unsaid], tiny, tmp_path)
    one_camera = Corpus([small_set(tmp_path / "mono")], tiny, tmp_path)
    with pytest.raises(DatasetError, match="no camera overhead, only wrist"):
        one_camera.open_images()


def test_datasets_with_and_without_a_pickup_point_go_together(
    dataset_root: Path, tiny: ActConfig, tmp_path: Path
) -> None:
    alone = Corpus([dataset_root], tiny, tmp_path)
    mixed = Corpus([dataset_root, small_set(tmp_path / "blind", pickup=False)], tiny, tmp_path)
    assert mixed.pickup_given.tolist() == [True] * 42 + [False] * 3
    rows = np.arange(45)
    np.testing.assert_array_equal(mixed.stats(rows).pickup_mean, alone.stats(rows[:42]).pickup_mean)
    np.testing.assert_array_equal(mixed.stats(rows).pickup_std, alone.stats(rows[:42]).pickup_std)
