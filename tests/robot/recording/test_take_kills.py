"""Writers that are killed: at every step of a commit and of a recovery, and at every byte of a take."""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from take_samples import Killed, check_episode, check_stats, create_labelled, dies, fill

from robot.recording.files import read_json
from robot.recording.reader import Dataset
from robot.recording.scratch import Ended, TakeFolder
from robot.recording.writer import DatasetWriter

FRAMES = 40


@pytest.fixture(autouse=True)
def no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is killed here is the process: what it has written is there."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "fdatasync", lambda _: None)


def died_with(root: Path, takes: int, ended: bool, frames: int, cameras: tuple[str, ...]) -> None:
    """A dataset of one episode and so many takes, as a writer leaves it that dies before it commits them."""
    with create_labelled(root, cameras=cameras) as writer:
        fill(writer, 0, 5).end("success")
    writer = DatasetWriter.open(root)
    for number in range(takes):
        take = fill(writer, 1 + number, frames, f"task {number}")
        if ended:
            take._on_end = lambda *_: None
            take.end("failure")
            take.finish()
        else:
            take._open = False
            for encoder in take._encoders.values():
                encoder.end()
            take.finish()
    os.close(writer._lock)
    writer._lock = -1


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ended") / "d"
    died_with(root, 2, True, 4, ("wrist",))
    return root


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("opened") / "d"
    died_with(root, 1, False, FRAMES, ("wrist", "overhead"))
    return root


def test_a_kill_at_every_step_of_every_commit_loses_nothing(ended: Path, tmp_path: Path) -> None:
    wanted = tmp_path / "wanted"
    shutil.copytree(ended, wanted)
    with dies(wanted, -1) as death:
        DatasetWriter.open(wanted).close()
    assert death.steps > 25
    for step in range(death.steps):
        root = tmp_path / "d"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(ended, root)
        with dies(root, step), pytest.raises(Killed):
            DatasetWriter.open(root).close()
        # As it is, without repair, all that info.json counts is there.
        seen = Dataset(root)
        check_episode(seen, 0, 0, 5, 1)
        for number in range(1, len(seen.episodes)):
            check_episode(seen, number, number, 4, 0)
        # Killed once more on the way, then left in peace.
        with dies(root, step // 2), suppress(Killed):
            DatasetWriter.open(root).close()
        DatasetWriter.open(root).close()
        assert read_json(root / "meta/info.json") == read_json(wanted / "meta/info.json"), f"step {step}"
        check_stats(root, read_json(wanted / "meta/stats.json"))
        files = [sorted(str(p.relative_to(r)) for p in r.rglob("*")) for r in (root, wanted)]
        assert files[0] == files[1], f"step {step}"
    check_episode(Dataset(root), 2, 2, 4, 0)


def test_a_kill_at_every_step_of_a_drop_leaves_the_episode_whole_or_gone(tmp_path: Path) -> None:
    start = tmp_path / "start"
    with create_labelled(start) as writer:
        for seed in range(3):
            fill(writer, seed, 4).end()
    for step in range(100):
        root = tmp_path / f"d{step}"
        shutil.copytree(start, root)
        with DatasetWriter.open(root) as writer:
            with dies(root, step), suppress(Killed):
                writer.drop_last()
                break
            assert len(Dataset(root).episodes) in (2, 3)
        with DatasetWriter.open(root) as writer:
            left = writer.total_episodes
            assert left in (2, 3)
            for folder in ("data", "meta/episodes", "videos/observation.images.wrist"):
                assert len(list((root / folder).rglob("file-*"))) == left
            assert read_json(root / "meta/stats.json")["index"]["count"] == [4 * left]
        check_episode(Dataset(root), left - 1, left - 1, 4, -1)
    assert step > 6


def test_a_kill_at_every_step_of_a_label_leaves_the_one_or_the_other(tmp_path: Path) -> None:
    start, wanted = tmp_path / "start", tmp_path / "wanted"
    for root, last in ((start, None), (wanted, "failure")):
        with create_labelled(root, cameras=("wrist",)) as writer:
            for seed, label in enumerate(("success", None, last)):
                fill(writer, seed, 4).end(label)
    seen = set()
    for step in range(100):
        root = tmp_path / f"d{step}"
        shutil.copytree(start, root)
        with DatasetWriter.open(root) as writer:
            with dies(root, step), suppress(Killed):
                writer._ledger.label_last(0)
                break
            Dataset(root).load(2)  # at any moment
        with DatasetWriter.open(root) as writer:
            assert writer.total_episodes == 3
            if step % 2:
                fill(writer, 3, 4).end()
        dataset = Dataset(root)
        label = int(dataset.load(2)["success"][0])
        seen.add(label)
        for number, success in enumerate((1, -1, label)):
            check_episode(dataset, number, number, 4, success)
            assert dataset.episode_stats()[number]["success"]["mean"].tolist() == [success]
        stats = dataset.stats()["success"]
        labels = np.repeat([1, -1, label, *[-1] * (step % 2)], 4)
        assert [float(stats[name][0]) for name in ("count", "min", "max")] == [len(labels), -1, 1]
        np.testing.assert_allclose([stats["mean"][0], stats["std"][0]], [labels.mean(), labels.std()])
    assert seen == {-1, 0} and step > 3
    files = [p.relative_to(wanted) for p in wanted.rglob("*") if p.is_file()]
    assert {p.relative_to(root) for p in root.rglob("*") if p.is_file()} == {*files}
    for path in files:  # as if it had been said at its end
        if path.suffix == ".json":
            assert read_json(root / path) == read_json(wanted / path)
        elif path.suffix == ".parquet":
            tables = [pq.read_table(folder / path) for folder in (root, wanted)]
            assert tables[0].equals(tables[1], check_metadata=True)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
    which=st.sets(st.sampled_from([0, 1, 2])),
    garbage=st.booleans(),
)
def test_files_cut_anywhere_give_every_frame_they_hold(
    opened: Path,
    tmp_path_factory: pytest.TempPathFactory,
    cuts: tuple[float, float, float],
    which: set[int],
    garbage: bool,
) -> None:
    root = tmp_path_factory.mktemp("cut") / "d"
    shutil.copytree(opened, root)
    (take,) = (root / ".recording").glob("take-*")
    files = [take / "rows.bin", *sorted(take.glob("*.mp4"))]
    row_bytes = files[0].stat().st_size // FRAMES
    begun, whole = [], []
    for k, path in enumerate(files):
        content = path.read_bytes()
        kept = int(len(content) * cuts[k]) if k in which else len(content)
        # A power cut leaves a file's length without its last content.
        path.write_bytes(content[:kept] + (bytes(min(len(content) - kept, 3000)) if garbage else b""))
        # Pictures are found by looking for the boxes that hold them.
        begun.append(kept // row_bytes if k == 0 else content[:kept].count(b"moof"))
        whole.append(begun[k] - (k > 0 and kept < len(content)))
    with DatasetWriter.open(root) as writer:
        recovered = writer.recovered
    dataset = Dataset(root)
    check_episode(dataset, 0, 0, 5, 1)
    if begun[0] == 0:
        assert recovered == ()
        assert len(dataset.episodes) == 1
        return
    assert len(recovered) == 1
    frames = recovered[0].frames
    # At most the picture that was cut is lost.
    assert min(whole) <= frames <= min(begun)
    if frames < 30:
        assert recovered[0].episode is None
        aside = recovered[0].set_aside
        assert aside is not None
        assert (aside / "rows.bin").is_file()
        assert "1 s makes an episode" in read_json(aside / "reason.json")["reason"]
    else:
        check_episode(dataset, 1, 1, frames, -1)
        stats = read_json(root / "meta/stats.json")
        assert stats["observation.images.wrist"]["count"] == [5 + frames]
    assert not (root / ".recording").exists()


@pytest.mark.parametrize("whole", [True, False])
def test_an_episode_that_can_be_made_again_is_kept_whole_or_not_at_all(
    opened: Path, tmp_path: Path, whole: bool
) -> None:
    root = tmp_path / "d"
    shutil.copytree(opened, root)
    (take,) = (root / ".recording").glob("take-*")
    told = take / "take.json"
    told.write_text(told.read_text().replace('"keep": true', '"keep": false'))
    TakeFolder(take).end(Ended(FRAMES, "success"))
    if not whole:
        (take / "rows.bin").write_bytes((take / "rows.bin").read_bytes()[:-1])
    with DatasetWriter.open(root) as writer:
        assert [r.frames for r in writer.recovered] == ([FRAMES] if whole else [])
    assert len(Dataset(root).episodes) == 1 + whole
    assert not (root / "set_aside").exists()


def test_rows_whose_content_never_reached_the_disk_are_not_believed(opened: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    shutil.copytree(opened, root)
    (take,) = (root / ".recording").glob("take-*")
    content = bytearray((take / "rows.bin").read_bytes())
    size = len(content) // FRAMES
    content[35 * size + 10] ^= 1
    (take / "rows.bin").write_bytes(content)
    with DatasetWriter.open(root) as writer:
        assert [r.frames for r in writer.recovered] == [35]
    check_episode(Dataset(root), 1, 1, 35, -1)


@pytest.mark.parametrize("damage", ["absent", "empty", "other"])
def test_a_take_that_cannot_be_understood_is_set_aside(opened: Path, tmp_path: Path, damage: str) -> None:
    root = tmp_path / "d"
    shutil.copytree(opened, root)
    (take,) = (root / ".recording").glob("take-*")
    told = take / "take.json"
    if damage == "absent":
        told.unlink()
    else:
        told.write_text(
            "" if damage == "empty" else told.read_text().replace('"record_bytes": ', '"record_bytes": 1')
        )
    with DatasetWriter.open(root) as writer:
        (recovered,) = writer.recovered
        assert writer.total_episodes == 1
    assert recovered.set_aside == root / "set_aside" / take.name
    assert (root / "set_aside" / take.name / "rows.bin").is_file()


def test_encoders_and_syncs_end_with_their_takes(tmp_path: Path) -> None:
    before = threading.active_count()
    with create_labelled(tmp_path / "d") as writer:
        fill(writer, 0, 3).end()
        fill(writer, 1, 3).discard()
        writer.wait()
        assert threading.active_count() == before
        fill(writer, 2, 3)
    assert threading.active_count() == before
    assert len(Dataset(tmp_path / "d").episodes) == 1
