"""Takes: recorded at once, made episodes in the background, rows equal to frames whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recording_samples import create, picture
from take_samples import AT, add, check_episode, create_labelled, fill, full

from robot.errors import DatasetError, RecordingOverloadError
from robot.recording import encoder, ledger
from robot.recording import take as take_module
from robot.recording.reader import Dataset
from robot.recording.video import VideoWriter
from robot.recording.writer import DatasetWriter


def run(script: str, root: Path) -> subprocess.CompletedProcess[str]:
    here = Path(__file__).resolve().parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parents[2])])}
    command = [sys.executable, "-c", script, str(root)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Encoders stand still until the event is set."""
    free = threading.Event()

    class Slow(VideoWriter):
        def add(self, image: np.ndarray) -> None:
            assert free.wait(30)
            super().add(image)

    monkeypatch.setattr(encoder, "VideoWriter", Slow)
    return free


def test_takes_become_episodes_in_order_with_their_labels(tmp_path: Path) -> None:
    with create_labelled(tmp_path / "d") as writer:
        fill(writer, 0, 5).end("success")
        fill(writer, 1, 7, "another").end("failure")
        discarded = fill(writer, 2, 4)
        discarded.discard()
        fill(writer, 3, 6).end()
        writer.wait()
        assert writer.total_episodes == 3
        assert writer.failures == ()
    dataset = Dataset(tmp_path / "d")
    check_episode(dataset, 0, 0, 5, 1)
    check_episode(dataset, 1, 1, 7, 0)
    check_episode(dataset, 2, 3, 6, -1)
    assert [episode.tasks for episode in dataset.episodes] == [
        ("pick up the cube",),
        ("another",),
        ("pick up the cube",),
    ]
    assert not (tmp_path / "d/.recording").exists()


def test_a_take_begins_while_the_one_before_is_still_encoded(tmp_path: Path, stuck: threading.Event) -> None:
    with create_labelled(tmp_path / "d") as writer:
        fill(writer, 0, 5).end("success")
        second = fill(writer, 1, 5)
        assert writer.total_episodes == 0
        assert second.waiting == 5
        stuck.set()
        second.end()
    check_episode(Dataset(tmp_path / "d"), 1, 1, 5, -1)


def test_a_full_queue_is_told_at_once_and_costs_no_frame(
    tmp_path: Path, stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take_module, "QUEUE_S", 0.2)
    with create_labelled(tmp_path / "d") as writer:
        take = writer.begin_take("pick")
        with pytest.raises(RecordingOverloadError, match=r"images\.\w+: its encoder is 0\.2 s behind.*--fps"):
            for frame in range(100):
                take.add(np.zeros(6), np.zeros(6), {n: picture(frame) for n in writer.cameras}, AT)
        length = take.length
        assert 6 <= length <= 7  # one of them in the encoder's hands
        stuck.set()
        take.end()
        writer.wait()
        assert writer.failures == ()
    dataset = Dataset(tmp_path / "d")
    assert [episode.length for episode in dataset.episodes] == [length]
    for camera in dataset.cameras:
        assert len(dataset.frames(0, camera)) == length


def test_pictures_may_be_drawn_over_after_they_were_added(tmp_path: Path, stuck: threading.Event) -> None:
    with create(tmp_path / "d", ("wrist",)) as writer:
        take = writer.begin_take("pick")
        buffer = np.empty((32, 48, 3), np.uint8)
        for frame in range(4):
            buffer[:] = picture(frame)
            take.add(np.zeros(6), np.zeros(6), {"wrist": buffer}, AT)
        buffer[:] = 0
        stuck.set()
        take.end()
    images = Dataset(tmp_path / "d").frames(0, "wrist").astype(int)
    assert np.abs(images - np.stack([picture(k) for k in range(4)])).mean() < 6


def test_a_video_that_lost_a_picture_is_set_aside_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(VideoWriter):
        def add(self, image: np.ndarray) -> None:
            if self._index != 3 or "overhead" not in self._path.name:
                super().add(image)
            else:
                Forgetful.add = VideoWriter.add  # type: ignore[method-assign]

    root = tmp_path / "d"
    with create_labelled(root) as writer:
        fill(writer, 0, 5).end()
        writer.wait()
        with monkeypatch.context() as patch:
            patch.setattr(encoder, "VideoWriter", Forgetful)
            fill(writer, 1, 6).end("success")
            with pytest.raises(DatasetError, match=r"6 frames has rows 6.*overhead 5: it was set aside"):
                writer.wait()
        fill(writer, 2, 4).end()
        writer.wait()
        assert len(writer.failures) == 1
    dataset = Dataset(root)
    check_episode(dataset, 0, 0, 5, -1)
    check_episode(dataset, 1, 2, 4, -1)
    (aside,) = (root / "set_aside").iterdir()
    assert "overhead 5" in json.loads((aside / "reason.json").read_text())["reason"]
    assert (aside / "rows.bin").stat().st_size > 0


def test_a_failed_commit_ends_committing_and_the_next_opening_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "d"
    writer = create_labelled(root)
    fill(writer, 0, 5).end()
    writer.wait()

    def no_space(temporary: Path, final: Path) -> None:
        raise OSError(28, "No space left on device", str(final))

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "publish", no_space)
        fill(writer, 1, 6).end("success")
        third = fill(writer, 2, 7)
        with pytest.raises(DatasetError, match=r"No space left.*kept in.*so101 dataset repair"):
            writer.wait()
    third.end("failure")
    for _ in range(2):
        with pytest.raises(DatasetError, match="No space left"):
            writer.begin_take("pick")
    writer.close()  # it has been said
    assert [e.length for e in Dataset(root).episodes] == [5]
    with DatasetWriter.open(root) as writer:
        assert [(r.frames, r.episode) for r in writer.recovered] == [(6, 1), (7, 2)]
        assert all(r.lost_reason is None for r in writer.recovered)
    dataset = Dataset(root)
    check_episode(dataset, 1, 1, 6, 1)
    check_episode(dataset, 2, 2, 7, 0)
    assert DatasetWriter.open(root).recovered == ()


def test_an_encoder_that_dies_stops_the_take_and_keeps_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(VideoWriter):
        def add(self, image: np.ndarray) -> None:
            if self._index == 40:
                raise DatasetError("the graphics card is gone")
            super().add(image)

    root = tmp_path / "d"
    monkeypatch.setattr(encoder, "VideoWriter", Dying)
    with create_labelled(root) as writer:
        take = writer.begin_take("pick")
        with pytest.raises(DatasetError, match="graphics card is gone"):
            for frame in range(1000):
                add(writer, take, 5, frame)
        with pytest.raises(DatasetError, match="graphics card is gone"):
            add(writer, take, 5, take.length)
        take.end("success")
        with pytest.raises(DatasetError, match="graphics card is gone"):
            writer.wait()
    monkeypatch.undo()
    with DatasetWriter.open(root) as writer:
        (recovered,) = writer.recovered
    assert (recovered.frames, recovered.episode) == (40, 0)
    assert "of at least" in str(recovered.lost_reason)
    check_episode(Dataset(root), 0, 5, 40, 1)


@pytest.mark.parametrize("keep", [True, False])
def test_an_open_take_outlives_its_writer_and_an_open_episode_does_not(tmp_path: Path, keep: bool) -> None:
    writer = create_labelled(tmp_path / "d")
    if keep:
        fill(writer, 1, 31)
    else:
        writer.begin_episode("pick")
        writer.add_frame(np.zeros(6), np.zeros(6), {n: picture(1) for n in writer.cameras}, AT)
    writer.close()
    with DatasetWriter.open(tmp_path / "d") as writer:
        assert [(r.episode, r.set_aside) for r in writer.recovered] == ([(0, None)] if keep else [])
        assert writer.total_episodes == int(keep)


def test_a_process_that_ends_without_closing_keeps_what_it_had(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from take_samples import create_labelled, fill
writer = create_labelled(Path(sys.argv[1]))
fill(writer, 0, 5).end("success")
fill(writer, 1, 31)
raise SystemExit(3)
"""
    assert run(script, tmp_path / "d").returncode == 3
    check_episode(Dataset(tmp_path / "d"), 0, 0, 5, 1)
    with DatasetWriter.open(tmp_path / "d") as writer:
        assert [(r.frames, r.episode) for r in writer.recovered] == [(31, 1)]


def test_calls_out_of_order_are_refused(tmp_path: Path) -> None:
    with create_labelled(tmp_path / "d") as writer:
        take = writer.begin_take("pick")
        with pytest.raises(DatasetError, match="being recorded"):
            writer.begin_take("pick")
        with pytest.raises(DatasetError, match="no frames"):
            take.end()
        with pytest.raises(DatasetError, match="success"):
            take.add(
                np.zeros(6),
                np.zeros(6),
                {n: picture(1) for n in writer.cameras},
                AT,
                {"success": np.int64(1)},
            )
        add(writer, take, 1, 0)
        take.end()
        take.discard()  # too late: it stays
        for late in (take.end, lambda: add(writer, take, 1, 1)):
            with pytest.raises(DatasetError, match="ended"):
                late()
    assert len(Dataset(tmp_path / "d").episodes) == 1
    with pytest.raises(DatasetError, match="closed"):
        writer.begin_take("pick")


def test_the_newest_episode_can_be_dropped(tmp_path: Path) -> None:
    for name in ("d", "never"):
        with create_labelled(tmp_path / name) as writer:
            fill(writer, 0, 5).end()
            if name == "d":
                fill(writer, 1, 6).end("success")
                assert writer.drop_last().index == 1  # waits for it to be one
            fill(writer, 2, 7).end("failure")
    root = tmp_path / "d"
    check_episode(Dataset(root), 1, 2, 7, 0)
    for name in ("meta/info.json", "meta/stats.json"):
        assert (root / name).read_text() == (tmp_path / "never" / name).read_text()
    files = [sorted(p.relative_to(r) for p in r.rglob("file-*")) for r in (root, tmp_path / "never")]
    assert files[0] == files[1]
    with DatasetWriter.open(root) as writer:
        writer.drop_last()
        writer.drop_last()
        with pytest.raises(DatasetError, match="no episode"):
            writer.drop_last()
        fill(writer, 9, 5).end()
    check_episode(Dataset(root), 0, 9, 5, -1)


def test_the_newest_episode_can_be_labelled_while_the_next_is_recorded(tmp_path: Path) -> None:
    root = tmp_path / "d"
    with create_labelled(root) as writer:
        fill(writer, 0, 5).end("failure")
        fill(writer, 1, 6).end()
        writer.label_last("success")  # of the take that is no episode yet
        second = fill(writer, 2, 7)
        writer.wait()
        assert [int(Dataset(root).load(k)["success"][0]) for k in range(2)] == [0, 1]
        writer.label_last("failure")
        second.end("success")
        writer.label_last(None)
    dataset = Dataset(root)
    for number, label in enumerate((0, 0, -1)):
        check_episode(dataset, number, number, 5 + number, label)
    with DatasetWriter.open(root) as writer:
        writer.label_last("success")
    for late in (lambda: writer.label_last("failure"), writer.drop_last):
        with pytest.raises(DatasetError, match="closed"):
            late()
    check_episode(Dataset(root), 2, 2, 7, 1)


def test_a_label_that_comes_after_the_disk_is_full_is_kept_with_its_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "d"
    writer = create_labelled(root)
    fill(writer, 0, 5).end("failure")
    writer.wait()

    def no_space(temporary: Path, final: Path) -> None:
        raise OSError(28, "No space left on device", str(final))

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "publish", no_space)
        fill(writer, 1, 6).end()
        with pytest.raises(DatasetError, match="No space left"):
            writer.wait()
        with full(root):
            writer.label_last("success")
        writer.close()
    check_episode(Dataset(root), 0, 0, 5, 0)
    DatasetWriter.open(root).close()
    check_episode(Dataset(root), 1, 1, 6, 1)


def test_a_label_that_cannot_be_written_ends_committing_and_the_next_opening_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "d"
    writer = create_labelled(root)
    fill(writer, 0, 5).end()
    writer.wait()
    published = []

    def no_space(path: Path, content: object, scratch: Path) -> None:
        published.append(path.name)
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "publish_json", no_space)
        writer.label_last("success")
        with pytest.raises(DatasetError, match=r"No space left.*No frame is lost.*so101 dataset repair"):
            writer.wait()
    assert published == ["stats.json"]
    with pytest.raises(DatasetError, match="No space left"):
        writer.begin_take("pick")
    writer.close()
    with DatasetWriter.open(root) as writer:
        fill(writer, 1, 5).end()
    check_episode(Dataset(root), 0, 0, 5, 1)
    assert Dataset(root).stats()["success"]["mean"].tolist() == [0.0]


def test_a_take_that_turns_out_broken_does_not_leave_its_label_to_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "d"
    with create_labelled(root) as writer:
        fill(writer, 0, 5).end("failure")
        take = fill(writer, 1, 5)
        take._log.append = lambda _: None
        add(writer, take, 1, 5)
        take.end()
        writer.label_last("success")
        with pytest.raises(DatasetError, match="set aside"):
            writer.wait()
    check_episode(Dataset(root), 0, 0, 5, 0)


def test_a_dataset_without_labels_takes_none(tmp_path: Path) -> None:
    with create(tmp_path / "d") as writer, pytest.raises(DatasetError, match="no column success"):
        writer.label_last("success")
    with create_labelled(tmp_path / "empty") as writer:
        writer.label_last("success")
        with pytest.raises(DatasetError, match="no newest episode"):
            writer.wait()


def test_a_label_fits_on_a_full_disk(tmp_path: Path) -> None:
    root = tmp_path / "d"
    writer = create_labelled(root)
    take = fill(writer, 0, 5)
    take._on_end = lambda *_: None  # the process is killed before it is an episode
    with full(root):
        take.end("failure")
    take.finish()
    writer.close()
    DatasetWriter.open(root).close()
    check_episode(Dataset(root), 0, 0, 5, 0)


def test_a_recovery_that_the_disk_has_no_room_for_says_what_to_do(tmp_path: Path) -> None:
    root = tmp_path / "d"
    writer = create_labelled(root)
    fill(writer, 0, 31)
    writer.close()
    said = r"No space left.*is kept in .*take-000000: make room"
    with full(root, below=".recording/take"), pytest.raises(DatasetError, match=said):
        DatasetWriter.open(root)
    DatasetWriter.open(root).close()
    check_episode(Dataset(root), 0, 0, 31, -1)


def test_an_episode_that_shares_its_files_is_not_dropped(tmp_path: Path) -> None:
    root = tmp_path / "d"
    with create_labelled(root) as writer:
        fill(writer, 0, 5).end()
        fill(writer, 1, 5).end()
        writer.wait()
        row = root / "meta/episodes/chunk-000/file-001.parquet"
        table = pq.read_table(row)
        index = table.column_names.index("data/file_index")
        pq.write_table(table.set_column(index, "data/file_index", pa.array([0], pa.int64())), row)
        with pytest.raises(DatasetError, match="so101 dataset delete"):
            writer.drop_last()
    assert len(Dataset(root).episodes) == 2


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow beyond some kilobytes: EFBIG instead of ENOSPC."""
    script = """
import resource, signal, sys
from pathlib import Path
from take_samples import add, create_labelled, fill
from robot.errors import DatasetError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = create_labelled(Path(sys.argv[1]))
fill(writer, 0, 5).end("success")
writer.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
take = writer.begin_take("pick")
try:
    for frame in range(2000):
        add(writer, take, 1, frame)
except DatasetError as error:
    sys.stdout.write(f"{error}\\n")
take.end("failure")
try:
    writer.close()
except DatasetError as error:
    sys.stdout.write(f"{error}\\n")
"""
    said = run(script, tmp_path / "d").stdout.splitlines()
    assert "recording failed" in said[0]
    assert "too large" in said[0]
    assert "dataset repair" in said[1]
    check_episode(Dataset(tmp_path / "d"), 0, 0, 5, 1)
    with DatasetWriter.open(tmp_path / "d") as writer:
        (recovered,) = writer.recovered
    assert recovered.frames > 30
    check_episode(Dataset(tmp_path / "d"), 1, 1, recovered.frames, 0)


def test_what_is_no_folder_or_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(DatasetError, match="file"):
            create(path)
    with pytest.raises(DatasetError, match="is a file"):
        DatasetWriter.open(tmp_path / "file")
    create(tmp_path / "d").close()

    def read_only(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(DatasetError, match=r"d cannot be written.*Read-only.*permissions"):
        DatasetWriter.open(tmp_path / "d")
    monkeypatch.undo()
    # The lock was let go of.
    DatasetWriter.open(tmp_path / "d").close()
    shutil.rmtree(tmp_path / "d")
