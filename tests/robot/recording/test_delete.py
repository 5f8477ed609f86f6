"""Episodes deleted from datasets, ours and packed as LeRobot packs them, also by a process that is killed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from check_samples import footerless, pack, row_file, video_file, write
from take_samples import Killed, dies

from robot.errors import DatasetError
from robot.recording import swap
from robot.recording.check import examine
from robot.recording.delete import delete, parse_numbers
from robot.recording.reader import Dataset
from robot.recording.writer import DatasetWriter

LENGTHS = (45, 40, 50)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("delete") / "good", LENGTHS)


@pytest.fixture
def root(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "d"))


def content(root: Path) -> list[dict[str, list[float]]]:
    """What each episode is about, whatever its number."""
    dataset = Dataset(root)
    numbered = {"index", "episode_index"}
    return [
        {name: c.tolist() for name, c in dataset.load(k).items() if name not in numbered}
        for k in range(len(dataset.episodes))
    ]


def pictures(root: Path, episode: int, camera: str) -> np.ndarray:
    return Dataset(root).frames(episode, camera)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_the_others_stay_as_they_are(good: Path, root: Path, packed: bool, in_place: bool) -> None:
    before = content(good)
    if packed:
        pack(root)
    out = root if in_place else root.with_name("out")
    left = delete(root, [1], None if in_place else out)
    assert (left.episodes, left.frames) == (2, LENGTHS[0] + LENGTHS[2])
    assert content(out) == [before[0], before[2]]
    for camera in ("wrist", "overhead"):
        np.testing.assert_array_equal(pictures(out, 1, camera), pictures(good, 2, camera))
    assert examine(out).findings == []  # numbers, counts, spans and statistics
    assert len(Dataset(root).episodes) == (2 if in_place else 3)
    assert {path.name for path in root.parent.iterdir()} == {"d", *(() if in_place else ("out",))}


def test_a_broken_episode_can_be_deleted(root: Path) -> None:
    video_file(root, 1).write_bytes(b"broken")
    footerless(root / "data/chunk-000/file-001.parquet")
    delete(root, [1])
    assert examine(root).findings == []


def test_what_is_not_the_datasets_stays(root: Path) -> None:
    (root / "README.md").write_text("mine")
    (root / "set_aside/take-000000").mkdir(parents=True)
    (root / "set_aside/take-000000/rows.bin").write_bytes(b"rows")
    delete(root, [0])
    assert (root / "README.md").read_text() == "mine"
    assert (root / "set_aside/take-000000/rows.bin").read_bytes() == b"rows"


def test_a_dataset_behind_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    delete(tmp_path / "link", [0])
    assert (tmp_path / "link").is_symlink()
    assert len(Dataset(root).episodes) == 2


@pytest.mark.parametrize(
    ("numbers", "says"), [([3], "no episode 3"), ([0, 1, 2], "no episode would be left")]
)
def test_what_cannot_be_deleted(root: Path, numbers: list[int], says: str) -> None:
    before = content(root)
    with pytest.raises(DatasetError, match=says):
        delete(root, numbers)
    assert content(root) == before


def test_a_dataset_that_is_written_is_left_alone(root: Path) -> None:
    with DatasetWriter.open(root), pytest.raises(DatasetError, match="being written by another process"):
        delete(root, [0])
    assert len(Dataset(root).episodes) == 3
    delete(root, [0])


def test_takes_of_a_killed_recording_come_first(root: Path) -> None:
    with DatasetWriter.open(root) as writer:
        writer.begin_take("pick")
    with pytest.raises(DatasetError, match="so101 dataset repair"):
        delete(root, [0])


def test_another_broken_episode_stops_it_and_nothing_has_changed(root: Path) -> None:
    video_file(root, 2).write_bytes(b"broken")
    info = (root / "meta/info.json").read_bytes()
    with pytest.raises(DatasetError, match=r"file-002\.mp4"):
        delete(root, [0])
    assert (root / "meta/info.json").read_bytes() == info
    assert row_file(root, 0).exists()
    assert [path.name for path in root.parent.iterdir()] == ["d"]


def test_a_file_system_that_cannot_exchange_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "_RENAME_EXCHANGE", 1 << 20)  # a flag that no kernel knows
    before = content(root)
    with pytest.raises(DatasetError, match="copy it to a file system"):
        delete(root, [0])
    assert content(root) == before
    assert [path.name for path in root.parent.iterdir()] == ["d"]


def test_what_another_tool_keeps_in_meta_stays(root: Path) -> None:
    (root / "meta/modality.json").write_text("{}")
    delete(root, [0])
    assert (root / "meta/modality.json").read_text() == "{}"


def test_what_a_killed_repair_left_is_not_deleted(root: Path) -> None:
    left = root.with_name(".d.repairing")
    left.mkdir()
    (left / "the only copy").write_text("of an episode")
    delete(root, [0])
    assert (left / "the only copy").exists()


def test_a_place_that_cannot_be_written(root: Path) -> None:
    (root.parent / "file").write_text("")
    with pytest.raises(DatasetError, match="file/new cannot be written"):
        delete(root, [0], root.parent / "file/new")


def test_killed_anywhere_the_old_one_is_whole(good: Path, tmp_path: Path) -> None:
    before, deaths = content(good), 0
    while True:
        root = Path(shutil.copytree(good, tmp_path / f"{deaths}/d"))
        try:
            with dies(root.parent, deaths * 9):
                delete(root, [1])
        except Killed:
            assert content(root) == before
            deaths += 1
            if deaths % 3 == 1:
                delete(root, [1])
                assert content(root) == [before[0], before[2]]
                assert {path.name for path in root.parent.iterdir()} == {"d"}, "what was left is gone"
        else:
            break
    assert deaths > 3


def test_killed_after_it_the_new_one_is_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(root)

    def die(folder: Path) -> None:
        raise Killed

    monkeypatch.setattr("robot.recording.delete.remove", die)
    with pytest.raises(Killed):
        delete(root, [1])
    assert content(root) == [before[0], before[2]]
    monkeypatch.undo()
    delete(root, [0])
    assert content(root) == [before[2]]
    assert {path.name for path in root.parent.iterdir()} == {"d"}


@pytest.mark.parametrize(
    ("text", "numbers"), [("3", [3]), ("5-7,3", [3, 5, 6, 7]), (" 1 , 1-2", [1, 2]), ("0-0", [0])]
)
def test_lists_of_episodes(text: str, numbers: list[int]) -> None:
    assert parse_numbers(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "3-", "-3", "7-5", "1,,2", "1.5"])
def test_lists_that_are_none(text: str) -> None:
    with pytest.raises(DatasetError, match=r"list|backwards"):
        parse_numbers(text)
