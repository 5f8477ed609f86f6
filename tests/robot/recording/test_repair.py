"""Broken datasets made whole again: what is mended, what is set aside, and that nothing is ever lost."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from check_samples import (
    CAMERAS,
    data_file,
    edit_column,
    edit_info,
    encode,
    extra,
    footerless,
    goals,
    joints,
    pack,
    pictures,
    row_file,
    video_file,
    write,
)
from take_samples import Killed, dies

from robot.errors import DatasetError
from robot.recording.check import examine
from robot.recording.reader import Dataset
from robot.recording.repair import Repair, Repaired
from robot.recording.writer import DatasetWriter

LENGTHS = (45, 40, 50)
Seed = Callable[[Path], object]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("repair") / "good", LENGTHS)


@pytest.fixture(scope="module")
def packed(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(Path(shutil.copytree(good, tmp_path_factory.mktemp("repair") / "packed")))


@pytest.fixture
def root(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "d"))


def content(root: Path) -> list[dict[str, list[float]]]:
    """What each episode is about, whatever its number, with a picture of each camera."""
    dataset = Dataset(root)
    found = []
    for k in range(len(dataset.episodes)):
        columns = dataset.load(k)
        seen: dict[str, list[float]] = {n: columns[n].tolist() for n in ("action", "observation.state")}
        for camera in CAMERAS:
            seen[camera] = dataset.frames(k, camera, 20, 21).tolist()
        found.append(seen)
    return found


def files(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def repair(root: Path) -> Repaired:
    """Repair; everything that was there is there still, and nothing is wrong any more."""
    before = set(files(root).values())
    done = Repair(root).run()
    assert before <= set(files(root).values())
    assert examine(root).findings == []
    assert {path.name for path in root.parent.iterdir()} == {root.name}
    return done


def change(name: str, by: int) -> Seed:
    return lambda root: edit_column(data_file(root, 1), name, lambda values: values + by)


def garbage(name: str) -> Seed:
    return lambda root: (root / name).write_bytes(b"\x00garbage")


def cut_video(root: Path) -> None:
    video = video_file(root, 1).read_bytes()
    video_file(root, 1).write_bytes(video[: len(video) // 2])


def not_finite(root: Path) -> None:
    def spoil(values: np.ndarray) -> np.ndarray:
        values[33, 2] = np.nan
        return values

    edit_column(data_file(root, 1), "observation.state", spoil)


MENDED: dict[str, Seed] = {
    "counts": lambda root: edit_info(root, lambda info: info.update(total_episodes=7, total_frames=1)),
    "too few counted": lambda root: edit_info(root, lambda info: info.update(total_episodes=1)),
    "index": change("index", 5),
    "episode_index": change("episode_index", 1),
    "frame_index": change("frame_index", 1),
    "time stamps": lambda root: edit_column(
        data_file(root, 1), "timestamp", lambda v: (v + 0.01 * (np.arange(len(v)) == 3)).astype(np.float32)
    ),
    "statistics": garbage("meta/stats.json"),
    "tasks": garbage("meta/tasks.parquet"),
    "a row of the episode table": lambda root: footerless(row_file(root, 1)),
    "a row gone": lambda root: row_file(root, 1).unlink(),
    "all rows gone": lambda root: shutil.rmtree(root / "meta/episodes"),
    "a length": lambda root: edit_column(row_file(root, 1), "length", lambda values: values + 2),
    "a span": lambda root: edit_column(
        row_file(root, 1), "videos/observation.images.wrist/from_timestamp", lambda values: values + 0.5
    ),
}
LOST: dict[str, Seed] = {
    "row and video gone": lambda root: (row_file(root, 1).unlink(), video_file(root, 1).unlink()),
    "video cut off": cut_video,
    "video gone": lambda root: video_file(root, 1).unlink(),
    "rows without footer": lambda root: footerless(data_file(root, 1)),
    "rows gone": lambda root: data_file(root, 1).unlink(),
    "not a number": not_finite,
    "fewer pictures than rows": lambda root: encode(
        video_file(root, 1), pictures(1, LENGTHS[1], "wrist")[:-3]
    ),
}


@pytest.mark.parametrize("defect", MENDED)
def test_what_the_episodes_say_themselves_is_mended(good: Path, root: Path, defect: str) -> None:
    MENDED[defect](root)
    done = repair(root)
    assert done.plan.mends
    assert not done.plan.lost
    assert content(root) == content(good)


@pytest.mark.parametrize("defect", LOST)
def test_an_episode_that_is_not_whole_is_set_aside(good: Path, root: Path, defect: str) -> None:
    LOST[defect](root)
    done = repair(root)
    assert [lost.episode for lost in done.plan.lost] == [1]
    assert done.episodes == 2
    before = content(good)
    assert content(root) == [before[0], before[2]]
    assert done.set_aside == root / "set_aside/repair-001"
    reason = json.loads((done.set_aside / "reason.json").read_text())
    assert reason["lost"] == [{"episode": 1, "reason": done.plan.lost[0].reason}]


def test_files_that_episodes_share(good: Path, packed: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "d"))
    edit_info(root, lambda info: info.update(total_frames=1))
    key = "videos/observation.images.wrist/from_timestamp"
    edit_column(row_file(root, 0), key, lambda values: values + np.array([0, 0.2, 0]))
    edit_column(data_file(root, 0), "index", lambda values: values + 1)
    not_finite_at = LENGTHS[0] + 10

    def spoil(values: np.ndarray) -> np.ndarray:
        values[not_finite_at, 2] = np.inf
        return values

    edit_column(data_file(root, 0), "action", spoil)
    done = repair(root)
    assert [lost.episode for lost in done.plan.lost] == [1]
    before = content(good)
    assert content(root) == [before[0], before[2]]


@pytest.mark.parametrize(
    ("seed", "says"),
    [
        (lambda root: footerless(row_file(root, 0)), "restore it from a copy"),
        (lambda root: video_file(root, 0).write_bytes(b"broken"), "no episode of .* is whole"),
        (lambda root: edit_info(root, lambda info: info.update(fps=25)), "info.json has fps 25"),
        (garbage("meta/info.json"), "info.json"),
        (lambda root: shutil.rmtree(root / "meta/episodes"), "no episode of .* is whole"),
    ],
)
def test_what_nothing_tells_is_refused_and_stays(packed: Path, tmp_path: Path, seed: Seed, says: str) -> None:
    root = Path(shutil.copytree(packed, tmp_path / "d"))
    seed(root)
    before = files(root)
    with pytest.raises(DatasetError, match=says):
        Repair(root)
    assert files(root) == before


def test_looking_changes_nothing(root: Path) -> None:
    cut_video(root)
    edit_info(root, lambda info: info.update(total_frames=1))
    before = files(root)
    plan = Repair(root).plan
    assert plan.rebuilds
    assert files(root) == before


def test_a_good_dataset_stays_as_it_is(root: Path) -> None:
    before = files(root)
    done = Repair(root).run()
    assert not done.plan.rebuilds
    assert done.set_aside is None
    assert files(root) == before


def test_what_takes_judgement_is_left_and_named(root: Path) -> None:
    edit_column(data_file(root, 1), "action", lambda values: values * 0)
    edit_info(root, lambda info: info.update(total_frames=1))
    done = Repair(root).run()
    assert {f.code for f in done.plan.left} == {"action_dead"}
    assert {f.code for f in examine(root).findings} == {"action_dead"}


def killed_recording(root: Path, frames: int) -> None:
    with DatasetWriter.open(root) as writer:
        take = writer.begin_take("pick up the cube")
        states, actions = joints(7, frames), goals(7, frames)
        shown = {camera: pictures(7, frames, camera) for camera in CAMERAS}
        for k in range(frames):
            images = {camera: shown[camera][k] for camera in CAMERAS}
            take.add(states[k], actions[k], images, extra=extra(k), wait=True)


@pytest.mark.parametrize("broken", [False, True])
def test_a_killed_recording_is_recovered(good: Path, root: Path, broken: bool) -> None:
    killed_recording(root, 50)
    if broken:
        cut_video(root)
        data_file(root, 1).unlink()
    plan = Repair(root).plan
    assert plan.takes == 1
    done = Repair(root).run()
    assert examine(root).findings == []
    before = content(good)
    assert content(root)[:-1] == ([before[0], before[2]] if broken else before)
    assert done.recovered[0].frames == Dataset(root).episodes[-1].length == 50
    assert done.episodes == (3 if broken else 4)


def test_a_dataset_that_is_written_is_left_alone(root: Path) -> None:
    with DatasetWriter.open(root), pytest.raises(DatasetError, match="being written by another process"):
        Repair(root)


def test_a_file_that_may_not_be_read_is_not_called_broken(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the tests may be root, who may read everything."""
    closed = data_file(root, 1)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != closed)
    with pytest.raises(DatasetError, match=r"file-001\.parquet may not be read: see to its permissions"):
        Repair(root)


def test_what_is_recorded_between_looking_and_mending_is_kept(root: Path) -> None:
    edit_column(row_file(root, 1), "length", lambda values: values + 2)
    found = Repair(root)
    with DatasetWriter.open(root) as writer:
        writer.drop_last()
    with pytest.raises(DatasetError, match="repair it again"):
        found.run()
    assert {path.name for path in root.parent.iterdir()} == {root.name}
    assert not (root / "set_aside").exists()


def test_killed_anywhere_nothing_is_lost(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, deaths = content(good), 0
    while True:
        root = Path(shutil.copytree(good, tmp_path / f"{deaths}/d"))
        cut_video(root)
        there = set(files(root).values())
        found = Repair(root)
        try:
            with dies(root.parent, deaths * 11):
                found.run()
        except Killed:
            deaths += 1
        else:
            break
        if deaths % 3 == 1:
            assert repair(root).episodes == 2
            assert content(root) == [before[0], before[2]]
            assert there <= set(files(root).values())
    assert deaths > 3
