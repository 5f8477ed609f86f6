from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording_samples import create, picture, record, vectors
from take_samples import full

from robot.errors import DatasetError
from robot.recording.features import Feature
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter

STAT_NAMES = ["min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"]
FEATURES = [
    "action", "observation.state", "observation.environment_state", "observation.images.wrist",
    "observation.images.overhead", "timestamp", "frame_index", "episode_index", "index", "task_index",
]  # fmt: skip


@pytest.fixture(scope="module")
def two_episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dataset") / "d"
    with create(root, calibration_sha256="ab" * 32, extra_info={"seed": 3}) as writer:
        record(writer, 1, 6)
        record(writer, 2, 4, task="put it away")
    return root


def test_files_lie_where_lerobot_looks(two_episodes: Path) -> None:
    files = {str(p.relative_to(two_episodes)) for p in two_episodes.rglob("*") if p.is_file()}
    expected = {"meta/info.json", "meta/stats.json", "meta/tasks.parquet"}
    for name in ("file-000", "file-001"):
        expected |= {f"meta/episodes/chunk-000/{name}.parquet", f"data/chunk-000/{name}.parquet"}
        for camera in ("wrist", "overhead"):
            expected.add(f"videos/observation.images.{camera}/chunk-000/{name}.mp4")
    assert files == expected


def test_info_has_every_key(two_episodes: Path) -> None:
    info = json.loads((two_episodes / "meta/info.json").read_text())
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": "so_follower",
        "total_episodes": 2,
        "total_frames": 10,
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 30,
        "splits": {"train": "0:2"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "so101": {"units": "degrees", "calibration_sha256": "ab" * 32, "seed": 3},
    }
    assert list(features) == FEATURES
    wrist = features["observation.images.wrist"]
    assert (wrist["dtype"], wrist["shape"], wrist["names"]) == (
        "video",
        [32, 48, 3],
        ["height", "width", "channels"],
    )
    block = wrist["info"]
    assert (block["video.height"], block["video.width"], block["video.channels"]) == (32, 48, 3)
    assert (block["video.codec"], block["video.pix_fmt"], block["video.fps"]) == ("h264", "yuv420p", 30)
    assert (block["video.g"], block["has_audio"], block["is_depth_map"]) == (2, False, False)
    assert (two_episodes / "meta/info.json").read_text().startswith('{\n    "codebase_version"')


def test_data_table(two_episodes: Path) -> None:
    file = pq.ParquetFile(two_episodes / "data/chunk-000/file-001.parquet")
    assert file.num_row_groups == 1
    assert file.metadata.row_group(0).column(0).compression == "SNAPPY"
    table = file.read()
    assert table.column_names == [name for name in FEATURES if "images" not in name]
    assert table.schema.field("action").type == pa.list_(pa.field("element", pa.float32()), 6)
    assert table.schema.field("timestamp").type == pa.float32()
    assert b"huggingface" in table.schema.metadata
    assert table["frame_index"].to_pylist() == [0, 1, 2, 3]
    assert table["index"].to_pylist() == [6, 7, 8, 9]
    assert table["episode_index"].to_pylist() == [1] * 4
    assert table["task_index"].to_pylist() == [1] * 4
    np.testing.assert_array_equal(table["timestamp"].to_numpy(), (np.arange(4) / 30).astype(np.float32))


def test_tasks_read_as_a_pandas_index(two_episodes: Path) -> None:
    table = pq.read_table(two_episodes / "meta/tasks.parquet")
    assert table.to_pydict() == {"task_index": [0, 1], "task": ["pick up the cube", "put it away"]}
    pandas = json.loads(table.schema.metadata[b"pandas"])
    assert pandas["index_columns"] == ["task"]
    assert [(c["name"], c["pandas_type"]) for c in pandas["columns"]] == [
        ("task_index", "int64"),
        ("task", "unicode"),
    ]


def test_episode_table_has_every_column(two_episodes: Path) -> None:
    table = pq.read_table(two_episodes / "meta/episodes/chunk-000/file-001.parquet")
    expected = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index",
                "dataset_from_index", "dataset_to_index"]  # fmt: skip
    for camera in ("wrist", "overhead"):
        for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp"):
            expected.append(f"videos/observation.images.{camera}/{name}")
    expected += [f"stats/{feature}/{stat}" for feature in FEATURES for stat in STAT_NAMES]
    expected += ["meta/episodes/chunk_index", "meta/episodes/file_index"]
    assert table.column_names == expected
    row = table.to_pylist()[0]
    assert row["episode_index"] == 1
    assert row["tasks"] == ["put it away"]
    assert (row["dataset_from_index"], row["dataset_to_index"], row["length"]) == (6, 10, 4)
    assert (row["data/chunk_index"], row["data/file_index"], row["meta/episodes/file_index"]) == (0, 1, 1)
    assert row["videos/observation.images.wrist/from_timestamp"] == 0
    assert row["videos/observation.images.wrist/to_timestamp"] == pytest.approx(4 / 30)
    assert len(row["stats/action/q50"]) == 6
    assert np.shape(row["stats/observation.images.wrist/mean"]) == (3, 1, 1)
    assert row["stats/observation.images.wrist/count"] == [4]


def test_stats_file_covers_all_episodes(two_episodes: Path) -> None:
    stats = json.loads((two_episodes / "meta/stats.json").read_text())
    assert list(stats) == FEATURES
    assert all(list(part) == STAT_NAMES for part in stats.values())
    actions = np.float32([vectors(1, k)[1] for k in range(6)] + [vectors(2, k)[1] for k in range(4)])
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(stats["action"]["std"], actions.std(axis=0), atol=1e-5)
    assert stats["index"]["max"] == [9]
    assert np.shape(stats["observation.images.wrist"]["q99"]) == (3, 1, 1)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    cameras=st.sampled_from([(), ("wrist",), ("wrist", "overhead")]),
    reopen=st.booleans(),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], cameras: tuple[str, ...], reopen: bool
) -> None:
    root = tmp_path_factory.mktemp("trip") / "d"
    writer = create(root, cameras)
    for seed, length in enumerate(lengths):
        record(writer, seed, length)
        if reopen:
            writer.close()
            writer = DatasetWriter.open(root)
    writer.close()
    dataset = Dataset(root)
    assert [episode.length for episode in dataset.episodes] == lengths
    assert dataset.cameras == cameras
    for seed, length in enumerate(lengths):
        columns = dataset.load(seed)
        pairs = [vectors(seed, k) for k in range(length)]
        np.testing.assert_array_equal(columns["observation.state"], np.float32([s for s, _ in pairs]))
        np.testing.assert_array_equal(columns["action"], np.float32([a for _, a in pairs]))
        np.testing.assert_allclose(columns["observation.environment_state"], [[0.2, seed / 100]] * length)
        assert columns["index"].tolist() == list(range(sum(lengths[:seed]), sum(lengths[: seed + 1])))
        for k, camera in enumerate(cameras):
            images = dataset.frames(seed, camera)
            wanted = np.stack([picture(seed * 1000 + frame * 10 + k) for frame in range(length)])
            assert images.shape == wanted.shape
            # Each picture has a colour of its own, so a shift by one frame would show.
            assert np.abs(images.astype(int) - wanted).mean(axis=(1, 2, 3)).max() < 6


def good() -> dict[str, object]:
    return {
        "state": np.zeros(6),
        "action": np.zeros(6),
        "images": {"wrist": picture(1), "overhead": picture(2)},
        "environment_state": np.zeros(2),
    }


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"state": np.full(6, np.nan)}, "observation.state"),
        ({"action": np.zeros(7)}, "action"),
        ({"action": ["a"] * 6}, "action"),
        ({"environment_state": None}, "observation.environment_state"),
        ({"environment_state": np.array([np.inf, 0])}, "observation.environment_state"),
        ({"images": {"wrist": picture(1)}}, "observation.images.overhead"),
        (
            {"images": {"wrist": picture(1), "overhead": picture(2).astype(float)}},
            "observation.images.overhead",
        ),
        ({"images": {"wrist": picture(1), "overhead": picture(2)[:16]}}, "observation.images.overhead"),
        (
            {"images": {"wrist": picture(1), "overhead": picture(2), "side": picture(3)}},
            "observation.images.side",
        ),
        ({"extra": {"reward": 1.0}}, "reward"),
    ],
)
def test_a_bad_frame_is_named_and_costs_nothing(
    tmp_path: Path, change: dict[str, object], names: str
) -> None:
    with create(tmp_path / "d") as writer:
        record(writer, 1, 3)
        writer.begin_episode("pick")
        for _ in range(3):
            writer.add_frame(**good())
        with pytest.raises(DatasetError, match=names.replace(".", r"\.")):
            writer.add_frame(**(good() | change))
        assert writer.episode_length == 3
        writer.add_frame(**good())
        writer.save_episode()
    dataset = Dataset(tmp_path / "d")
    assert [e.length for e in dataset.episodes] == [3, 4]
    assert len(dataset.frames(1, "overhead")) == 4


def test_extra_features(tmp_path: Path) -> None:
    extra = (
        Feature("loss_mask", "float32", (1,)),
        Feature("intervention", "bool", (1,)),
        Feature("image_delay_s", "float64", (2,), ("wrist", "overhead")),
    )
    with create(tmp_path / "d", (), extra_features=extra, environment_state=False) as writer:
        writer.begin_episode("pick")
        for k in range(4):
            values = {"loss_mask": np.float32(k % 2), "intervention": k > 1, "image_delay_s": [0.1, k / 10]}
            writer.add_frame(np.zeros(6), np.zeros(6), {}, extra=values)
        writer.save_episode()
    dataset = Dataset(tmp_path / "d")
    columns = dataset.load(0)
    assert columns["loss_mask"].tolist() == [0, 1, 0, 1]
    assert columns["intervention"].tolist() == [False, False, True, True]
    assert columns["image_delay_s"].tolist() == [[0.1, k / 10] for k in range(4)]
    assert dataset.info["video_path"] is None


def test_discarded_frames_leave_no_trace(tmp_path: Path) -> None:
    with create(tmp_path / "d") as writer:
        writer.begin_episode("pick")
        writer.add_frame(**good())
        writer.discard_episode()
        record(writer, 5, 2)
    dataset = Dataset(tmp_path / "d")
    assert [e.length for e in dataset.episodes] == [2]
    assert not (tmp_path / "d" / ".recording").exists()


def test_order_of_calls_is_enforced(tmp_path: Path) -> None:
    with create(tmp_path / "d") as writer:
        with pytest.raises(DatasetError, match="begin_episode"):
            writer.add_frame(**good())
        with pytest.raises(DatasetError, match="task"):
            writer.begin_episode(" ")
        writer.begin_episode("pick")
        with pytest.raises(DatasetError, match="save or discard"):
            writer.begin_episode("pick")
        with pytest.raises(DatasetError, match="no frames"):
            writer.save_episode()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with create(tmp_path / "d"), pytest.raises(DatasetError, match="another process"):
        DatasetWriter.open(tmp_path / "d")
    DatasetWriter.open(tmp_path / "d").close()


def test_create_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    (tmp_path / ".recording").mkdir()
    with pytest.raises(DatasetError, match="not empty"):
        create(tmp_path)
    assert (tmp_path / ".recording").is_dir()
    for name in ("data", "meta/precious"):
        (tmp_path / "other" / name).mkdir(parents=True)
        with pytest.raises(DatasetError, match="not empty"):
            create(tmp_path / "other")
        shutil.rmtree(tmp_path / "other")


def test_open_needs_a_v3_dataset(tmp_path: Path) -> None:
    for absent in (tmp_path, tmp_path / "none"):
        with pytest.raises(DatasetError, match="not a LeRobot dataset"):
            DatasetWriter.open(absent)
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text('{"codebase_version": "v2.1"}')
    with pytest.raises(DatasetError, match=r"v2\.1"):
        DatasetWriter.open(tmp_path)


@pytest.mark.parametrize(
    "key", ["features", "fps", "chunks_size", "data_path", "video_path", "total_episodes", "total_frames"]
)
def test_what_info_lacks_is_named(tmp_path: Path, key: str) -> None:
    create(tmp_path / "d", ()).close()
    path = tmp_path / "d/meta/info.json"
    info = json.loads(path.read_text())
    del info[key]
    path.write_text(json.dumps(info))
    with pytest.raises(DatasetError, match=rf"info\.json lacks {key}: restore"):
        DatasetWriter.open(tmp_path / "d")


def test_a_ready_made_episode_that_does_not_fit_on_the_disk_is_told(tmp_path: Path) -> None:
    columns = {"action": np.zeros((3, 6), np.float32), "observation.state": np.zeros((3, 6), np.float32)}
    with create(tmp_path / "d", (), environment_state=False) as writer:
        with full(tmp_path / "d"), pytest.raises(DatasetError, match=r"d cannot be written.*Make room"):
            writer.commit_episode("pick", columns, {}, {})
        assert writer.total_episodes == 0


def test_av1(tmp_path: Path) -> None:
    with create(tmp_path / "d", ("wrist",), codec="av1") as writer:
        record(writer, 1, 5)
    with DatasetWriter.open(tmp_path / "d") as writer:
        record(writer, 2, 5)
    dataset = Dataset(tmp_path / "d")
    assert dataset.info["features"]["observation.images.wrist"]["info"]["video.codec"] == "av1"
    assert np.abs(dataset.frames(1, "wrist")[3].astype(int) - picture(2030)).mean() < 8


def test_files_move_to_the_next_chunk(tmp_path: Path) -> None:
    with create(tmp_path / "d", ()):
        pass
    path = tmp_path / "d/meta/info.json"
    path.write_text(path.read_text().replace('"chunks_size": 1000', '"chunks_size": 2'))
    with DatasetWriter.open(tmp_path / "d") as writer:
        for seed in range(3):
            record(writer, seed, 2)
    assert (tmp_path / "d/data/chunk-001/file-000.parquet").is_file()
    assert (tmp_path / "d/meta/episodes/chunk-001/file-000.parquet").is_file()
    assert Dataset(tmp_path / "d").load(2)["index"].tolist() == [4, 5]
