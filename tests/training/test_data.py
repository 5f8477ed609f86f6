from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.errors import DatasetError
from robot.kinematics import Kinematics
from robot.recording.features import Feature
from robot.recording.writer import DatasetWriter, Units
from training.data import MIN_STD_DELTA_M, MIN_STD_USER, Corpus, in_batches, rows_of_step
from training.policies.act import ActConfig
from training.policies.base import PolicyShape


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


@pytest.fixture(scope="module")
def waving_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of 12 and 9 frames of an arm that waves, ever brighter; frame 8 of the first is masked."""
    root = tmp_path_factory.mktemp("waving") / "set"
    masks = [Feature("loss_mask", "float32", (1,))]
    with DatasetWriter.create(
        root, fps=30, cameras={"wrist": (32, 32)}, environment_state=False, extra_features=masks
    ) as writer:
        for episode, length in enumerate((12, 9)):
            writer.begin_episode("wave")
            for t in range(length):
                writer.add_frame(
                    np.full(6, 100.0 * episode + t),
                    waving(episode, t),
                    {"wrist": np.full((32, 32, 3), 10 * t + 10, np.uint8)},
                    extra={"loss_mask": [float((episode, t) != (0, 8))]},
                )
            writer.save_episode()
    return root


def waving(episode: int, t: int) -> np.ndarray:
    return np.array([10.0 * np.sin(t), 5.0 * episode, 3.0 * t, 20.0, 0.0, 50.0])


def shape(**changes: Any) -> PolicyShape:
    base = {
        "type": "any",
        "cameras": ("wrist",),
        "image_height_px": 32,
        "image_width_px": 32,
        "chunk_size": 3,
    }
    return PolicyShape.model_validate({**base, **changes})


def test_a_window_does_not_go_on_after_a_masked_frame(waving_root: Path, tmp_path: Path) -> None:
    corpus = Corpus([waving_root], shape(chunk_size=5, cameras=()), tmp_path)
    assert corpus.gather(np.array([6])).valid[0].tolist() == [True, True, False, False, False]
    strided = Corpus([waving_root], shape(frame_stride=2, cameras=()), tmp_path)
    # Frames 7, 9, 11: none of them is masked, but what was done at 8 leads from one to the next.
    assert strided.gather(np.array([7])).valid[0].tolist() == [True, False, False]
    assert 8 not in strided.split(0.0, 0)[0]


def test_a_stride_thins_goals_and_history(waving_root: Path, tmp_path: Path) -> None:
    corpus = Corpus([waving_root], shape(frame_stride=3, observation_steps=3), tmp_path)
    corpus.open_images()
    assert corpus.fps == 30 and corpus.chunk_fps == 10
    batch = corpus.gather(np.array([7, 12 + 4, 12]))
    assert batch.images["wrist"].shape == (3, 3, 32, 32, 3) and batch.state.shape == (3, 3, 6)
    np.testing.assert_array_equal(batch.state[:, :, 0], [[1, 4, 7], [100, 101, 104], [100, 100, 100]])
    grey = batch.images["wrist"].reshape(3, 3, -1).mean(2)
    np.testing.assert_allclose(grey, 10 + 10 * (batch.state[:, :, 0] % 100), atol=4)
    goals = [[waving(1, t) for t in (4, 7, 8)], [waving(1, t) for t in (0, 3, 6)]]
    np.testing.assert_allclose(batch.actions[1:], goals, rtol=1e-6)
    assert batch.valid[1:].tolist() == [[True, True, False], [True, True, True]]
    late = (
        corpus.gather(np.array([7, 12 + 4]), np.array([[2], [5]])).images["wrist"].reshape(2, 3, -1).mean(2)
    )
    np.testing.assert_allclose(late, [[10, 30, 60], [10, 10, 10]], atol=4)


@pytest.mark.parametrize(("space", "width"), [("tool_delta_xyz", 3), ("tool_delta_xy", 2)])
def test_the_tool_moves_as_the_commanded_joints_move_it(
    waving_root: Path, tmp_path: Path, space: str, width: int
) -> None:
    corpus = Corpus([waving_root], shape(action_space=space, frame_stride=2, cameras=()), tmp_path)
    batch = corpus.gather(np.array([0, 12 + 4]))
    tool = np.array([Kinematics().tool_position_m(waving(0, t)) for t in (0, 2, 4, 6)])
    np.testing.assert_allclose(batch.actions[0], np.diff(tool, axis=0)[:, :width], atol=1e-7)
    # Of the last nine frames' steps 4-6, 6-8 and 8-10 the third leads past the end.
    assert batch.valid.tolist() == [[True, True, True], [True, True, False]]
    assert not batch.actions[1, 2].any() and batch.actions[1, 1].any()
    rows, _ = corpus.split(0.0, 0)
    assert rows.tolist() == [*range(6), 9, *range(12, 12 + 7)]  # 9, which goes to 11; 10 and 11 lead nowhere
    stats = corpus.stats(rows)
    first = corpus.gather(rows).actions[:, 0]
    np.testing.assert_allclose(stats.action_std, first.std(0), rtol=1e-4)
    still = corpus.stats(np.array([0, 0]))
    assert still.action_mean.shape == (width,)
    np.testing.assert_array_equal(still.action_std, np.float32(MIN_STD_DELTA_M))


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
