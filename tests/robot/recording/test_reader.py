from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from recording_samples import REAL, create, picture, record, vectors

from robot.errors import DatasetError
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter

LENGTHS = (5, 7, 4)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with create(tmp_path / "d", ("wrist",)) as writer:
        for seed, length in enumerate(LENGTHS):
            record(writer, seed, length)
    return tmp_path / "d"


def pack(root: Path) -> None:
    """Rewrite a dataset as LeRobot does: all episodes in one data file, one mp4, one table."""
    data = sorted((root / "data/chunk-000").glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(path) for path in data])
    rows = [pq.read_table(path) for path in sorted((root / "meta/episodes/chunk-000").glob("*.parquet"))]
    episodes = pa.concat_tables(rows)
    video = root / "videos/observation.images.wrist/chunk-000"
    seed_frames = [(seed, frame) for seed, length in enumerate(LENGTHS) for frame in range(length)]
    with av.open(str(video / "all.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.gop_size = 2
        for seed, frame in seed_frames:
            image = av.VideoFrame.from_ndarray(picture(seed * 1000 + frame * 10), format="rgb24")
            out.mux(stream.encode(image))
        out.mux(stream.encode(None))
    for path in (*data, *(root / "meta/episodes/chunk-000").glob("*.parquet"), *video.glob("file-*.mp4")):
        path.unlink()
    (video / "all.mp4").rename(video / "file-000.mp4")
    pq.write_table(table, root / "data/chunk-000/file-000.parquet")
    zeros = pa.array([0] * len(LENGTHS), pa.int64())
    starts = np.cumsum((0, *LENGTHS)) / 30
    replaced = {
        "data/file_index": zeros,
        "meta/episodes/file_index": zeros,
        "videos/observation.images.wrist/file_index": zeros,
        "videos/observation.images.wrist/from_timestamp": pa.array(starts[:-1]),
        "videos/observation.images.wrist/to_timestamp": pa.array(starts[1:]),
    }
    for name, column in replaced.items():
        episodes = episodes.set_column(episodes.column_names.index(name), name, column)
    pq.write_table(episodes, root / "meta/episodes/chunk-000/file-000.parquet")


def check(dataset: Dataset) -> None:
    assert [episode.length for episode in dataset.episodes[:3]] == list(LENGTHS)
    for seed in (1, 0, 2):
        columns = dataset.load(seed)
        wanted = np.float32([vectors(seed, k)[0] for k in range(LENGTHS[seed])])
        np.testing.assert_array_equal(columns["observation.state"], wanted)
        images = dataset.frames(seed, "wrist")
        pictures = np.stack([picture(seed * 1000 + k * 10) for k in range(LENGTHS[seed])])
        assert np.abs(images.astype(int) - pictures).mean(axis=(1, 2, 3)).max() < 6


def test_several_episodes_per_file(root: Path) -> None:
    pack(root)
    check(Dataset(root))


def test_appending_to_a_dataset_with_shared_files(root: Path) -> None:
    pack(root)
    with DatasetWriter.open(root) as writer:
        record(writer, 7, 3)
    dataset = Dataset(root)
    check(dataset)
    assert dataset.episodes[3].data.file == 1
    assert dataset.load(3)["index"].tolist() == [16, 17, 18]
    assert len(dataset.frames(3, "wrist")) == 3


def test_a_part_of_the_pictures(root: Path) -> None:
    for packed in (False, True):
        if packed:
            pack(root)
        images = Dataset(root).frames(1, "wrist", 3, 6)
        pictures = np.stack([picture(1000 + k * 10) for k in (3, 4, 5)])
        assert np.abs(images.astype(int) - pictures).mean(axis=(1, 2, 3)).max() < 6
    with pytest.raises(DatasetError, match="within"):
        Dataset(root).frames(1, "wrist", 3, 8)


def test_what_the_dataset_says_of_itself(root: Path) -> None:
    dataset = Dataset(root)
    assert (dataset.fps, dataset.cameras, dataset.units) == (30, ("wrist",), "degrees")
    assert dataset.tasks == ["pick up the cube"]
    assert dataset.total_frames == sum(LENGTHS)
    assert dataset.stats()["action"]["count"].tolist() == [sum(LENGTHS)]
    assert dataset.episode(1).from_index == 5


def test_no_such_thing(root: Path) -> None:
    dataset = Dataset(root)
    with pytest.raises(DatasetError, match="no episode 3"):
        dataset.load(3)
    with pytest.raises(DatasetError, match="no episode -1"):
        dataset.episode(-1)
    with pytest.raises(DatasetError, match=r"'side'.*wrist"):
        dataset.frames(0, "side")


@pytest.mark.parametrize(
    ("victim", "says"),
    [
        ("data/chunk-000/file-001.parquet", "parquet"),
        ("videos/observation.images.wrist/chunk-000/file-001.mp4", "mp4"),
    ],
)
def test_damage_names_the_file(root: Path, victim: str, says: str) -> None:
    whole = (root / victim).read_bytes()
    for content in (whole[: len(whole) // 2], b"", None):
        (root / victim).unlink()
        if content is not None:
            (root / victim).write_bytes(content)
        dataset = Dataset(root)
        dataset.load(0)
        with pytest.raises(DatasetError, match=says):
            (dataset.load(1), dataset.frames(1, "wrist"))
        (root / victim).write_bytes(whole)


def test_damaged_meta(root: Path) -> None:
    table = root / "meta/episodes/chunk-000/file-001.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[:100])
    with pytest.raises(DatasetError, match=r"file-001\.parquet"):
        Dataset(root)
    table.unlink()
    with pytest.raises(DatasetError, match="counts 3 episodes"):
        Dataset(root)
    table.write_bytes(whole)
    shutil.copy(table, table.with_name("file-009.parquet"))
    with pytest.raises(DatasetError, match="twice"):
        Dataset(root)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"codebase_version": "v2.1"}, r"v2\.1"),
        ({"fps": None}, "lacks 'fps'"),
        ({"fps": "thirty"}, "fps 'thirty'"),
        ({"total_episodes": "many"}, "total_episodes 'many'"),
        ({"features": [1]}, "features"),
        ({"features": {"action": {"shape": [6]}}}, "feature action lacks dtype"),
        ({"features": {"action": 3}}, "feature action lacks dtype"),
        ({"so101": "degrees"}, "so101.*must be an object"),
    ],
)
def test_other_formats_are_refused(root: Path, change: dict[str, object], says: str) -> None:
    path = root / "meta/info.json"
    info = json.loads(path.read_text()) | change
    path.write_text(json.dumps({key: value for key, value in info.items() if value is not None}))
    with pytest.raises(DatasetError, match=says):
        Dataset(root)
    path.write_text("{")
    with pytest.raises(DatasetError, match="cannot be read"):
        Dataset(root)


def test_bare_parquet(root: Path) -> None:
    pack(root)
    dataset = Dataset(root / "data/chunk-000/file-000.parquet")
    assert (dataset.fps, dataset.cameras, dataset.units, dataset.tasks) == (30, (), None, [])
    assert [episode.length for episode in dataset.episodes] == list(LENGTHS)
    np.testing.assert_array_equal(dataset.load(2)["action"], np.float32([vectors(2, k)[1] for k in range(4)]))


def test_parquet_that_is_no_episode(root: Path, tmp_path: Path) -> None:
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    path = tmp_path / "x.parquet"
    pq.write_table(table.drop_columns(["episode_index"]), path)
    with pytest.raises(DatasetError, match="episode_index"):
        Dataset(path)
    pq.write_table(table.filter(pc.equal(table["frame_index"], 0)), path)
    with pytest.raises(DatasetError, match="frame rate"):
        Dataset(path)


def test_a_real_recording() -> None:
    if not REAL.is_file():
        pytest.skip(f"no real recording at {REAL}")
    dataset = Dataset(REAL)
    assert dataset.fps == 30
    assert [episode.length for episode in dataset.episodes] == [373, 374, 372]
    columns = dataset.load(1)
    assert columns["action"].shape == columns["observation.state"].shape == (374, 6)
    assert np.isfinite(columns["action"]).all()
    assert np.abs(columns["action"][:, :5]).max() <= 100
