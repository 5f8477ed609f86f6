from __future__ import annotations

import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recording_samples import create, record

from robot.calibration_file import load_calibration
from robot.config import load_robot
from robot.errors import ConfigError, DatasetError
from robot.recording import convert as converting
from robot.recording.convert import convert
from robot.recording.reader import Dataset
from robot.recording.stats import column_stats
from robot.recording.transfer import new_dataset
from robot.recording.writer import DatasetWriter
from tests.legacy_dataset import number_of, write_legacy

LENGTHS = (5, 7, 4)
CONFIG, FOLDER = load_robot("twin")


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("legacy") / "old"
    write_legacy(root, LENGTHS)
    return root


def check_counted(root: Path, lengths: tuple[int, ...] = LENGTHS) -> Dataset:
    """Row ``n`` of all has action ``n`` and picture ``n`` of both cameras."""
    dataset, first = Dataset(root), 0
    assert [episode.length for episode in dataset.episodes] == list(lengths)
    for episode, length in enumerate(lengths):
        numbers = list(range(first, first + length))
        columns = dataset.load(episode)
        np.testing.assert_array_equal(columns["action"][:, 0], numbers)
        np.testing.assert_array_equal(columns["index"], numbers)
        np.testing.assert_allclose(columns["timestamp"], np.arange(length) / 30, atol=1e-6)
        for camera in ("wrist", "overhead"):
            assert [number_of(image) for image in dataset.frames(episode, camera)] == numbers
        first += length
    return dataset


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_an_old_dataset_becomes_a_new_one(legacy: Path, tmp_path: Path) -> None:
    before, done = tree(legacy), []
    result = convert(legacy, tmp_path / "new", units="degrees", on_episode=lambda: done.append(1))
    assert (result.episodes, result.frames, len(done)) == (3, 16, 3)
    dataset = check_counted(tmp_path / "new")
    assert (dataset.units, dataset.info["so101"]["converted_from"]) == ("degrees", "v2.1")
    assert dataset.tasks == ["pick", "place"]
    assert [episode.tasks for episode in dataset.episodes] == [("pick",), ("place",), ("pick",)]
    actions = np.concatenate([dataset.load(k)["action"] for k in range(3)])
    found, expected = dataset.stats()["action"], column_stats(actions)
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
    assert found.keys() == dataset.stats()["observation.images.wrist"].keys() == expected.keys()
    assert tree(legacy) == before
    old = legacy / "videos/chunk-000/observation.images.wrist/episode_000000.mp4"
    new = tmp_path / "new/videos/observation.images.wrist/chunk-000/file-000.mp4"
    assert old.samefile(new)  # nothing was encoded, nothing takes room twice
    with DatasetWriter.open(tmp_path / "new") as writer:  # and it goes on
        assert writer.total_episodes == 3


def test_units_are_said_only_where_they_are_known(legacy: Path, tmp_path: Path) -> None:
    convert(legacy, tmp_path / "unsaid")
    assert Dataset(tmp_path / "unsaid").units is None
    convert(tmp_path / "unsaid", tmp_path / "said", units="m100_100")
    assert check_counted(tmp_path / "said").units == "m100_100"
    with pytest.raises(ConfigError, match="says that its units are m100_100, not degrees"):
        convert(tmp_path / "said", tmp_path / "other", units="degrees")
    with pytest.raises(ConfigError, match="units 'rad' are not known"):
        convert(legacy, tmp_path / "other", units="rad")
    assert not (tmp_path / "other").exists()


def test_hundredths_of_the_range_become_degrees(tmp_path: Path) -> None:
    write_legacy(tmp_path / "old", (4,), cameras=())
    calibration = load_calibration(FOLDER / CONFIG.calibration)
    with pytest.raises(ConfigError, match="needs the arm's calibration"):
        convert(tmp_path / "old", tmp_path / "new", units="m100_100", to_degrees=True)
    with pytest.raises(ConfigError, match="--units degrees or m100_100"):
        convert(tmp_path / "old", tmp_path / "new", to_degrees=True, calibration=calibration)
    convert(tmp_path / "old", tmp_path / "new", units="m100_100", to_degrees=True, calibration=calibration)
    dataset = Dataset(tmp_path / "new")
    assert dataset.units == "degrees"
    assert dataset.info["so101"]["calibration_sha256"] == calibration.hash
    raw = Dataset(tmp_path / "new").load(0)["action"][2]
    # By hand, as LeRobot defines it: the share of the swept ticks, then ticks from its middle as degrees.
    value = 2.0 + np.arange(6) / 8
    ticks = calibration.range_min + (value + 100) / 200 * (calibration.range_max - calibration.range_min)
    degrees = (ticks - (calibration.range_min + calibration.range_max) / 2) * 360 / 4095
    np.testing.assert_allclose(raw[:5], degrees[:5], rtol=1e-5)
    np.testing.assert_allclose(raw[5], value[5])
    assert dataset.stats()["action"]["max"][5] == pytest.approx(3 + 5 / 8)
    with pytest.raises(ConfigError, match="is in degrees already"):
        convert(tmp_path / "new", tmp_path / "twice", to_degrees=True, calibration=calibration)


def test_pictures_in_the_table_become_videos(tmp_path: Path) -> None:
    write_legacy(tmp_path / "old", LENGTHS, images=True, version="v2.0")
    convert(tmp_path / "old", tmp_path / "new")
    dataset = check_counted(tmp_path / "new")
    assert dataset.info["features"]["observation.images.wrist"]["dtype"] == "video"
    assert dataset.info["features"]["observation.images.wrist"]["info"]["video.codec"] == "h264"


def test_videos_of_odd_times_are_put_right(tmp_path: Path) -> None:
    write_legacy(tmp_path / "old", LENGTHS, time_base=Fraction(1, 1000), first_s=0.1, gop=12, b_frames=2)
    convert(tmp_path / "old", tmp_path / "new")
    check_counted(tmp_path / "new")


def test_what_is_left_out_is_left_out(legacy: Path, tmp_path: Path) -> None:
    convert(legacy, tmp_path / "new", drop=["observation.images.overhead"], skip=[1])
    dataset = Dataset(tmp_path / "new")
    assert (
        dataset.cameras == ("wrist",) and not (tmp_path / "new/videos/observation.images.overhead").exists()
    )
    np.testing.assert_array_equal(dataset.load(1)["action"][:, 0], [12, 13, 14, 15])
    with pytest.raises(DatasetError, match=r"has no force to drop, only action, observation.state"):
        convert(legacy, tmp_path / "other", drop=["force"])
    with pytest.raises(DatasetError, match="action cannot be dropped"):
        convert(legacy, tmp_path / "other", drop=["action"])
    with pytest.raises(DatasetError, match=r"no episode 3: .* has 3"):
        convert(legacy, tmp_path / "other", skip=[3])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("meta/episodes.jsonl", None, "no .*episodes.jsonl: the dataset is incomplete"),
        ("meta/episodes.jsonl", "{", "episodes.jsonl cannot be read"),
        ("meta/episodes.jsonl", '{"episode_index": 0, "tasks": ["x"], "length": 5}\n', "counts 3 .* lists 1"),
        ("meta/tasks.jsonl", '{"task_index": 4, "task": "x"}\n', "tasks are not numbered"),
        ("data/chunk-000/episode_000001.parquet", None, "no .*episode_000001.parquet"),
        ("videos/chunk-000/observation.images.wrist/episode_000002.mp4", None, "no video at .*000002.mp4"),
        ("meta/info.json", '{"codebase_version": "v1.6"}', "'v1.6'"),
    ],
)
def test_a_broken_dataset_leaves_nothing_behind(
    legacy: Path, tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(legacy, broken)
    (broken / name).unlink()
    if content is not None:
        (broken / name).write_text(content)
    with pytest.raises(DatasetError, match=says):
        convert(broken, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_a_row_that_is_not_finite_names_its_place(legacy: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(legacy, broken)
    path = broken / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    rows = table["action"].to_pylist()
    rows[3][2] = float("nan")
    table = table.set_column(0, table.schema.field(0), pa.array(rows, table.schema.field(0).type))
    pq.write_table(table, path)
    with pytest.raises(DatasetError, match="episode 1: action is not finite in frame 3"):
        convert(broken, tmp_path / "new")
    convert(broken, tmp_path / "new", skip=[1])


def test_columns_that_cannot_be_written_are_named_and_can_be_left_behind(
    legacy: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts"
    shutil.copytree(legacy, texts)
    info = json.loads((texts / "meta/info.json").read_text())
    info["features"]["subtask"] = {"dtype": "string", "shape": [1], "names": None}
    (texts / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DatasetError, match=r"texts: subtask: dtype 'string' .*--drop of convert"):
        convert(texts, tmp_path / "new")
    convert(texts, tmp_path / "new", drop=["subtask"])
    check_counted(tmp_path / "new")


def test_a_folder_in_use_is_left_alone(legacy: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="is not empty: choose another folder"):
        convert(legacy, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_a_killed_conversion_left_is_cleared_and_a_living_one_is_not(
    legacy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, reader, writer = tmp_path / "new", *os.pipe()

    def die() -> None:
        os.write(writer, b"x")
        os._exit(9)

    child = os.fork()
    if child == 0:
        convert(legacy, out, on_episode=die)
        os._exit(0)
    assert os.read(reader, 1) == b"x" and os.waitpid(child, 0)[1] != 0
    os.close(reader)
    os.close(writer)
    assert not out.exists() and (tmp_path / ".new.unfinished").is_dir()
    convert(legacy, out)
    check_counted(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]
    second = tmp_path / "second"
    info = {**Dataset(out).info, "total_episodes": 0, "total_frames": 0}
    with (
        new_dataset(second, info),
        pytest.raises(DatasetError, match=r"second.unfinished is being written by another"),
    ):
        convert(legacy, second)
    assert second.is_dir()


def test_our_own_datasets_are_copied_with_all_they_say(tmp_path: Path) -> None:
    with create(tmp_path / "a", calibration_sha256="aa", extra_info={"control_hz": 60}) as writer:
        record(writer, 0, 4)
        record(writer, 1, 3, task="put away")
    convert(tmp_path / "a", tmp_path / "b")
    a, b = Dataset(tmp_path / "a"), Dataset(tmp_path / "b")
    assert b.info["so101"] == {**a.info["so101"], "converted_from": "v3.0"}
    assert (a.episodes, a.tasks) == (b.episodes, b.tasks)
    texts = [json.loads((root / "meta/stats.json").read_text()) for root in (a.root, b.root)]
    assert texts[0] == texts[1]


def test_the_module_reads_only_what_it_knows(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="give the folder"):
        (tmp_path / "x.parquet").touch()
        converting.convert(tmp_path / "x.parquet", tmp_path / "y")
