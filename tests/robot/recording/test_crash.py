"""A writer that is killed: whatever it had finished is there, and writing goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from recording_samples import create, record, vectors
from take_samples import check_episode, check_stats

from robot.errors import DatasetError
from robot.recording.files import read_json
from robot.recording.reader import Dataset
from robot.recording.take import QUEUE_S
from robot.recording.writer import DatasetWriter

LENGTH = 6
SCRIPT = """
import sys
from pathlib import Path
from recording_samples import create, record
writer = create(Path(sys.argv[1]))
print("created", flush=True)
for seed in range(1000):
    record(writer, seed, 6)
    print(seed, flush=True)
"""


def kill_while_writing(root: Path, delay_s: float, script: str = SCRIPT) -> list[str]:
    """Let a process write and kill it ``delay_s`` after its start; the lines in which it told what it did."""
    here = Path(__file__).resolve().parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parents[2])])}
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(root)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "created\n"
    time.sleep(delay_s)
    child.send_signal(signal.SIGKILL)
    said = child.stdout.read().splitlines()
    child.stdout.close()
    child.wait(10)
    return said


def check(root: Path, episodes: int) -> None:
    dataset = Dataset(root)
    assert len(dataset.episodes) == episodes
    for seed in range(episodes):
        wanted = np.float32([vectors(seed, k)[1] for k in range(LENGTH)])
        columns = dataset.load(seed)
        np.testing.assert_array_equal(columns["action"], wanted)
        assert columns["index"][0] == seed * LENGTH
        for camera in dataset.cameras:
            assert len(dataset.frames(seed, camera)) == LENGTH


TAKES = """
import sys, time
from pathlib import Path
from take_samples import add, create_labelled
writer = create_labelled(Path(sys.argv[1]))
print("created", flush=True)
for seed in range(1000):
    take = writer.begin_take("pick")
    for frame in range(40):
        time.sleep(1 / 60)
        add(writer, take, seed, frame)
        print(seed, frame, flush=True)
    take.end("success")
    print(seed, "ended", flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.9, 1.7])
def test_sigkill_while_takes_are_recorded(tmp_path: Path, delay_s: float) -> None:
    """Every take that ended is an episode, the open one too or aside, but for what was not encoded."""
    root = tmp_path / "d"
    said = kill_while_writing(root, delay_s, TAKES)
    ended = sum(line.endswith("ended") for line in said)
    frames = sum(not line.endswith("ended") for line in said)
    assert len(Dataset(root).episodes) <= ended + 1
    with DatasetWriter.open(root) as writer:
        recovered = writer.recovered
        found = writer.total_episodes
    dataset = Dataset(root)
    assert found in (ended, ended + 1)
    for number in range(found):
        length, label = dataset.episodes[number].length, int(dataset.load(number)["success"][0])
        # The last one that ended may have been in its encoders' hands.
        assert length == 40 or number >= ended - 1
        assert label == 1 or number == ended
        check_episode(dataset, number, number, length, label)
    aside = sum(r.frames for r in recovered if r.set_aside is not None)
    # What may wait for an encoder, and the picture that the file does not have yet: less than a second.
    assert dataset.total_frames + aside >= frames - round(QUEUE_S * 30) - 1 > frames - 30


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(6))
def test_sigkill_at_any_moment(tmp_path: Path, attempt: int) -> None:
    delay_s = float(np.random.default_rng(attempt).uniform(0.02, 0.6))
    finished = len(kill_while_writing(tmp_path / "d", delay_s))
    # The kill may fall between the end of save_episode and the line that tells of it.
    found = len(Dataset(tmp_path / "d").episodes)
    assert found in (finished, finished + 1)
    check(tmp_path / "d", found)
    with DatasetWriter.open(tmp_path / "d") as writer:
        resumed = writer.total_episodes
        assert resumed in (found, found + 1)
        record(writer, resumed, LENGTH)
    check(tmp_path / "d", resumed + 1)
    for folder in ("data", "meta/episodes", "videos/observation.images.wrist"):
        files = list((tmp_path / "d" / folder).rglob("file-*"))
        assert len(files) == resumed + 1, "a killed episode left files behind"


PUBLISHED_LAST = (
    "meta/info.json",
    "meta/stats.json",
    "meta/episodes/chunk-000/file-002.parquet",
    "videos/observation.images.wrist/chunk-000/file-002.mp4",
)


@pytest.mark.parametrize(("count", "counted"), [(1, 3), (2, 3), (3, 2), (4, 2)])
def test_every_point_between_two_renames(tmp_path: Path, count: int, counted: int) -> None:
    """Take the files back that were published last, in the order of their publication."""
    missing = PUBLISHED_LAST[:count]
    root = tmp_path / "d"
    with create(root) as writer:
        record(writer, 0, LENGTH)
        record(writer, 1, LENGTH)
        before = {name: (root / name).read_bytes() for name in missing if (root / name).is_file()}
        record(writer, 2, LENGTH)
        whole = read_json(root / "meta/stats.json")
    for name in missing:
        if name in before:
            (root / name).write_bytes(before[name])
        else:
            (root / name).unlink()
    check(root, 2)
    with DatasetWriter.open(root) as writer:
        assert writer.total_episodes == counted
    check(root, counted)
    assert len(list((root / "data").rglob("*.parquet"))) == counted
    if counted == 3:
        check_stats(root, whole)
        rows = [pq.read_table(p) for p in sorted((root / "meta/episodes").rglob("*.parquet"))]
        assert sum(row["length"][0].as_py() for row in rows) == 3 * LENGTH
    with DatasetWriter.open(root) as writer:
        record(writer, counted, LENGTH)
    check(root, counted + 1)


def cut(path: Path) -> None:
    path.write_text(path.read_text()[:100])


def drop_feature(path: Path) -> None:
    stats = read_json(path)
    del stats["action"]
    path.write_text(json.dumps(stats))


@pytest.mark.parametrize("damage", [Path.unlink, cut, drop_feature])
def test_lost_statistics_are_made_again_of_all_episodes(tmp_path: Path, damage: Callable) -> None:
    for name in ("whole", "damaged"):
        with create(tmp_path / name) as writer:
            record(writer, 0, LENGTH)
            record(writer, 1, LENGTH)
    damage(tmp_path / "damaged/meta/stats.json")
    DatasetWriter.open(tmp_path / "damaged").close()
    check_stats(tmp_path / "damaged", read_json(tmp_path / "whole/meta/stats.json"))
    damage(tmp_path / "damaged/meta/stats.json")
    for name in ("whole", "damaged"):
        with DatasetWriter.open(tmp_path / name) as writer:
            record(writer, 2, LENGTH)
    check_stats(tmp_path / "damaged", read_json(tmp_path / "whole/meta/stats.json"))


def test_statistics_of_some_frames_are_made_again_of_all(tmp_path: Path) -> None:
    root = tmp_path / "d"
    with create(root) as writer:
        record(writer, 0, LENGTH)
        some = (root / "meta/stats.json").read_text()
        record(writer, 1, LENGTH)
        whole = read_json(root / "meta/stats.json")
    (root / "meta/stats.json").write_text(some)
    DatasetWriter.open(root).close()
    check_stats(root, whole)


def test_statistics_that_cannot_be_made_again_are_missed_by_name(tmp_path: Path) -> None:
    root = tmp_path / "d"
    with create(root) as writer:
        record(writer, 0, LENGTH)
    row = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(row)
    pq.write_table(table.drop([name for name in table.column_names if name.startswith("stats/action/")]), row)
    DatasetWriter.open(root).close()
    (root / "meta/stats.json").unlink()
    with pytest.raises(DatasetError, match=r"statistics of 'action'"):
        DatasetWriter.open(root)


@pytest.mark.parametrize("left", [".recording/info.json", ".recording/", ".merging/x.mp4", "meta/"])
def test_what_is_left_of_a_writer_killed_at_its_start_is_no_dataset(tmp_path: Path, left: str) -> None:
    (tmp_path / left).parent.mkdir(exist_ok=True)
    if left.endswith("/"):
        (tmp_path / left).mkdir()
    else:
        (tmp_path / left).write_text("{")
    with create(tmp_path) as writer:
        record(writer, 0, LENGTH)
    check(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "meta", "videos"]


def test_what_is_left_of_a_killed_merge_is_removed(tmp_path: Path) -> None:
    create(tmp_path / "d").close()
    (tmp_path / "d/.merging").mkdir()
    (tmp_path / "d/.merging/x.mp4").write_text("x")
    DatasetWriter.open(tmp_path / "d").close()
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["meta"]


def test_a_folder_that_is_being_written_is_not_taken_for_leftovers(tmp_path: Path) -> None:
    with create(tmp_path / "d") as writer:
        (tmp_path / "d/meta/info.json").unlink()  # as before the first one is published
        with pytest.raises(DatasetError, match="another process"):
            create(tmp_path / "d")
        record(writer, 0, LENGTH)
    check(tmp_path / "d", 1)


def test_a_missing_finished_episode_is_not_papered_over(tmp_path: Path) -> None:
    root = tmp_path / "d"
    with create(root) as writer:
        record(writer, 0, LENGTH)
        record(writer, 1, LENGTH)
    (root / "data/chunk-000/file-000.parquet").unlink()
    with pytest.raises(DatasetError, match="episode 0 is not whole"):
        DatasetWriter.open(root)
