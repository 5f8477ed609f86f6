"""Each of these defects is found in a copy of a good dataset, and nothing else is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from check_samples import (
    CAMERAS,
    LENGTHS,
    SIZE_PX,
    data_file,
    edit_column,
    edit_info,
    encode,
    footerless,
    pack,
    pictures,
    row_file,
    video_file,
    write,
)
from recording_samples import REAL

from robot.calibration_file import load_calibration
from robot.config import load_robot
from robot.recording.check import Report, examine
from robot.recording.check.sync import check_sync
from robot.recording.check.videos import View
from robot.recording.meta import EpisodeMeta, FileSlot
from robot.recording.replay import UnitMap
from robot.recording.writer import DatasetWriter

Change = Callable[[np.ndarray], np.ndarray]
Seed = Callable[[Path], None]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("check") / "good")


@pytest.fixture(scope="module")
def packed(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(copy(good, tmp_path_factory.mktemp("check") / "packed"))


def copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def found(report: Report) -> set[tuple[str, int | None]]:
    return {(finding.code, finding.episode) for finding in report.findings}


# -- how each defect is made ------------------------------------------------------------------------------


def column(name: str, change: Change, episode: int = 1, *, in_stats: bool = True) -> Seed:
    """Change a column of an episode, and what the statistics say of it, as a recorder would have."""

    def seed(root: Path) -> None:
        edit_column(data_file(root, episode), name, change)
        if in_stats:
            restate(root)

    return seed


def restate(root: Path) -> None:
    """Make stats.json right for numeric columns as they are now."""
    path = root / "meta/stats.json"
    stats = json.loads(path.read_text())
    tables = [pq.read_table(file) for file in sorted((root / "data/chunk-000").glob("*.parquet"))]
    for name, part in stats.items():
        if name not in tables[0].column_names:
            continue
        values = np.concatenate([np.array(table[name].to_pylist(), dtype=float) for table in tables])
        values = values.reshape(len(values), -1)
        if not np.isfinite(values).all():
            continue
        for key, function in (("min", np.min), ("max", np.max), ("mean", np.mean), ("std", np.std)):
            part[key] = function(values, axis=0).tolist()
    path.write_text(json.dumps(stats))


def at(frame: int | slice, joint: int, value: float) -> Change:
    def change(values: np.ndarray) -> np.ndarray:
        values[frame, joint] = value
        return values

    return change


def info(**keys: object) -> Seed:
    return lambda root: edit_info(root, lambda content: content.update(keys))


def video(change: Callable[[list[np.ndarray]], list[np.ndarray]], camera: str = "overhead") -> Seed:
    """Encode the pictures of episode 1 anew."""

    def seed(root: Path) -> None:
        encode(video_file(root, 1, camera), change(pictures(1, LENGTHS[1], camera)))

    return seed


def shifted(by: int) -> Seed:
    def seed(root: Path) -> None:
        encode(video_file(root, 1, "overhead"), pictures(1, LENGTHS[1], "overhead", late=2 + by))

    return seed


def all_shifted(root: Path) -> None:
    for episode, length in enumerate(LENGTHS):
        encode(video_file(root, episode, "overhead"), pictures(episode, length, "overhead", late=14))


def frozen(images: list[np.ndarray]) -> list[np.ndarray]:
    return [*images[:10], *[images[10]] * 15, *images[25:]]


def halved(images: list[np.ndarray]) -> list[np.ndarray]:
    return [images[k - k % 2] for k in range(len(images))]


def black(images: list[np.ndarray]) -> list[np.ndarray]:
    return [*images[:20], *[np.zeros((*SIZE_PX, 3), np.uint8)] * 3, *images[23:]]


def cut_off(path: Callable[[Path], Path], keep: float) -> Seed:
    def seed(root: Path) -> None:
        content = path(root).read_bytes()
        path(root).write_bytes(content[: int(len(content) * keep)])

    return seed


def corrupt_pictures(root: Path) -> None:
    """Overwrite the middle of the encoded pictures; the file's index is whole."""
    path = video_file(root, 1)
    content = bytearray(path.read_bytes())
    first = content.index(b"mdat") + 200
    content[first : first + len(content) // 2] = b"\xff" * (len(content) // 2)
    path.write_bytes(bytes(content[: len(path.read_bytes())]))


def unit_map() -> UnitMap:
    config, folder = load_robot("twin")
    return UnitMap("m100_100", load_calibration(folder / config.calibration))


def as_m100(values: np.ndarray) -> np.ndarray:
    return unit_map().from_user(values).astype(np.float32)


def everywhere(name: str, change: Change) -> Seed:
    def seed(root: Path) -> None:
        for episode in range(len(LENGTHS)):
            edit_column(data_file(root, episode), name, change)
        restate(root)

    return seed


def m100_everywhere(root: Path) -> None:
    everywhere("observation.state", as_m100)(root)
    everywhere("action", as_m100)(root)


def m100_in_one(root: Path) -> None:
    for name in ("observation.state", "action"):
        column(name, as_m100)(root)


def radians_in_one(root: Path) -> None:
    for name in ("observation.state", "action"):
        column(name, np.deg2rad)(root)


def say_nothing(root: Path) -> None:
    edit_info(root, lambda content: content["so101"].pop("units"))


def m100_unsaid(root: Path) -> None:
    m100_everywhere(root)
    say_nothing(root)


def killed_recording(root: Path) -> None:
    with DatasetWriter.open(root) as writer:
        writer.begin_take("pick up the cube")  # closing leaves an open take for the next opening


def span(name: str, seconds: float, episode: int = 1) -> Seed:
    def seed(root: Path) -> None:
        shared = len(list((root / "meta/episodes/chunk-000").iterdir())) == 1
        path, row = row_file(root, 0 if shared else episode), episode if shared else 0
        key = f"videos/observation.images.wrist/{name}_timestamp"

        def change(values: np.ndarray) -> np.ndarray:
            values[row] += seconds
            return values

        edit_column(path, key, change)

    return seed


def drifting(values: np.ndarray) -> np.ndarray:
    return values * 30 / 27.3


def uneven(values: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([[0], np.cumsum(np.where(rng.random(len(values) - 1) < 0.5, 0.022, 0.048))])


def gap(values: np.ndarray) -> np.ndarray:
    return values + np.where(np.arange(len(values)) > 30, 0.15, 0.0)


def delayed(frames: int) -> Change:
    """Rows as they were so many frames before; later, where negative."""
    return lambda values: np.roll(values, frames, axis=0)[
        np.clip(np.arange(len(values)), *_ends(values, frames))
    ]


def _ends(values: np.ndarray, frames: int) -> tuple[int, int]:
    return (max(0, frames), len(values) - 1 + min(0, frames))


def copied_goals(root: Path) -> None:
    states = np.array(pq.read_table(data_file(root, 1))["observation.state"].to_pylist(), dtype=np.float32)
    column("action", lambda _: states)(root)


STATE, ACTION = "observation.state", "action"
DEFECTS: dict[str, tuple[Seed, set[tuple[str, int | None]]]] = {
    "fps is not the rate of the rows": (info(fps=25), {("fps_wrong", None)}),
    "real times are those of another rate": (
        column("timing.time_s", drifting),
        {("fps_wrong", 1)},
    ),
    "the rate was not held": (column("timing.time_s", uneven), {("rate_not_held", 1)}),
    "a gap in real times": (column("timing.time_s", gap), {("gaps", 1)}),
    "time stamps off their frames": (
        column("timestamp", lambda v: v + np.where(np.arange(len(v)) == 40, 0.01, 0)),
        {("timestamps_off", 1)},
    ),
    "one picture for half a second": (video(frozen), {("frozen", 1)}),
    "every second picture repeated": (video(halved), {("frozen", 1)}),
    "pictures late by 12 frames": (shifted(12), {("video_shifted", 1)}),
    "pictures early by 10 frames": (shifted(-10), {("video_shifted", 1)}),
    "all pictures of a camera late": (all_shifted, {("video_shifted", None)}),
    "mp4 cut off": (cut_off(lambda root: video_file(root, 1), 0.6), {("video_broken", 1)}),
    "mp4 broken in the middle": (corrupt_pictures, {("video_broken", 1)}),
    "data without footer": (lambda root: footerless(data_file(root, 1)), {("parquet_broken", 1)}),
    "episode table without footer": (
        lambda root: footerless(row_file(root, 1)),
        {("parquet_broken", None)},
    ),
    "one episode in -100..100": (m100_in_one, {("units_mixed", 1)}),
    "one episode in radians": (radians_in_one, {("units_mixed", 1)}),
    "-100..100 said to be degrees": (m100_everywhere, {("units_wrong", None)}),
    "-100..100 and nothing said": (m100_unsaid, {("units_look_like", None)}),
    "degrees said to be -100..100": (info(so101={"units": "m100_100"}), {("units_wrong", None)}),
    "no object where units are said": (info(so101="degrees"), {("info_broken", None)}),
    "a version before those that can be converted": (info(codebase_version="v1.4"), {("version", None)}),
    "not a number": (column(STATE, at(33, 2, np.nan)), {("not_finite", 1)}),
    "infinite": (column(ACTION, at(33, 2, np.inf)), {("not_finite", 1)}),
    "a joint out of its range": (column(STATE, at(slice(20, 60), 1, 140.0)), {("out_of_range", 1)}),
    "a gripper beyond 100": (column(STATE, at(slice(20, 22), 5, 112.0)), {("out_of_range", 1)}),
    "fewer pictures than rows": (video(lambda images: images[:-3]), {("video_length", 1)}),
    "more pictures than rows": (video(lambda images: [*images, images[-1]]), {("video_length", 1)}),
    "too many episodes counted": (info(total_episodes=4), {("info_counts", None)}),
    "too few frames counted": (info(total_frames=12), {("info_counts", None)}),
    "index with a hole": (
        column("index", lambda v: v + (np.arange(len(v)) > 9), in_stats=False),
        {("index_broken", 1)},
    ),
    "frame_index from 1": (column("frame_index", lambda v: v + 1, in_stats=False), {("index_broken", 1)}),
    "episode_index of another": (
        column("episode_index", lambda v: v * 0 + 2, in_stats=False),
        {("index_broken", 1)},
    ),
    "statistics of other data": (
        column(STATE, lambda v: v + 3, in_stats=False),
        {("stats_wrong", None)},
    ),
    "statistics of other pictures": (
        lambda root: [
            encode(video_file(root, k), [255 - i for i in pictures(k, n, "wrist")])
            for k, n in enumerate(LENGTHS)
        ],
        {("stats_wrong", None)},
    ),
    "no statistics": (lambda root: (root / "meta/stats.json").unlink(), {("stats_wrong", None)}),
    "a task without a sentence": (
        column("task_index", lambda v: v + 4, in_stats=False),
        {("task_unknown", 1)},
    ),
    "goals that are the state": (copied_goals, {("action_dead", 1)}),
    "goals that never change": (column(ACTION, lambda v: v * 0 + v[:1]), {("action_dead", 1)}),
    "joints before their goals": (column(ACTION, delayed(12)), {("lag_impossible", 1)}),
    "joints a second after their goals": (
        column(ACTION, delayed(-18), 2),
        {("lag_impossible", 2)},
    ),
    "a joint that leaps": (column(STATE, at(slice(40, 75), 0, -80.0)), {("jump", 1)}),
    "a goal that leaps for a frame": (column(ACTION, at(40, 0, -95.0)), {("jump", 1)}),
    "a video that is gone": (lambda root: video_file(root, 1).unlink(), {("video_missing", 1)}),
    "rows that are gone": (lambda root: data_file(root, 1).unlink(), {("data_missing", 1)}),
    "a video's end that is not its episode's": (span("to", 0.5), {("video_span", 1)}),
    "a column of another kind": (
        lambda root: edit_info(root, lambda i: i["features"]["success"].update(shape=[3])),
        {("column_wrong", None)},
    ),
    "an impossible rate": (info(fps=1e300), {("info_broken", None)}),
    "a recording that was killed": (killed_recording, {("leftovers", None)}),
    "black pictures": (video(black), {("black", 1)}),
    "a picture too old": (
        column("timing.wrist_age_s", lambda v: v + np.where(np.arange(len(v)) == 50, 0.4, 0)),
        {("too_old", 1)},
    ),
    "joints too old": (column("timing.state_age_s", lambda v: v + 0.2), {("too_old", 1)}),
    "a picture of the future": (column("timing.wrist_age_s", lambda v: v - 0.1), {("from_future", 1)}),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found_and_nothing_else(good: Path, tmp_path: Path, defect: str) -> None:
    seed, expected = DEFECTS[defect]
    root = copy(good, tmp_path / "d")
    seed(root)
    report = examine(root)
    assert found(report) == expected, [finding.message for finding in report.findings]
    assert not report.ok
    assert all(finding.remedy for finding in report.findings)


def test_nothing_is_wrong_with_a_good_dataset(good: Path, packed: Path) -> None:
    for root in (good, packed):
        report = examine(root)
        assert report.findings == []
        assert (report.episodes, report.frames) == (len(LENGTHS), sum(LENGTHS))
        assert [(note.code, note.message) for note in report.notes] == [("labels", "3 success")]


SHARED: dict[str, tuple[Seed, set[tuple[str, int | None]]]] = {
    "spans that overlap": (span("from", -0.5), {("video_span", 1)}),
    "a start that LeRobot refuses": (span("from", 0.004), {("video_span", 1)}),
    "a video cut off": (
        cut_off(lambda root: video_file(root, 0), 0.6),
        {("video_broken", None)},
    ),
    "too few pictures": (
        lambda root: encode(
            video_file(root, 0),
            [image for k, n in enumerate(LENGTHS) for image in pictures(k, n, "wrist")][:-5],
        ),
        {("video_length", 2)},
    ),
    "rows of all without footer": (
        lambda root: footerless(data_file(root, 0)),
        {("parquet_broken", None)},
    ),
}


@pytest.mark.parametrize("defect", SHARED)
def test_defects_of_files_that_episodes_share(packed: Path, tmp_path: Path, defect: str) -> None:
    seed, expected = SHARED[defect]
    root = copy(packed, tmp_path / "d")
    seed(root)
    assert found(examine(root)) == expected


def test_without_decoding_what_files_say_is_still_found(good: Path, tmp_path: Path) -> None:
    root = copy(good, tmp_path / "d")
    video(frozen)(root)
    cut_off(lambda root: video_file(root, 2), 0.6)(root)
    assert found(examine(root, decode=False)) == {("video_broken", 2)}


def test_all_that_can_be_checked_is_checked(good: Path, tmp_path: Path) -> None:
    root = copy(good, tmp_path / "d")
    footerless(data_file(root, 0))
    video_file(root, 1).unlink()
    video(black)(root)
    edit_column(data_file(root, 2), STATE, at(33, 2, np.nan))
    assert found(examine(root)) == {
        ("parquet_broken", 0),
        ("video_missing", 1),
        ("black", 1),
        ("not_finite", 2),
    }


@pytest.mark.parametrize(
    ("name", "code"),
    [("meta/info.json", "info_broken"), ("meta/tasks.parquet", "parquet_broken"), (None, "info_broken")],
)
def test_files_of_garbage_are_findings(good: Path, tmp_path: Path, name: str | None, code: str) -> None:
    root = tmp_path / "d"
    if name is not None:
        copy(good, root)
        (root / name).write_bytes(b"\x00garbage")
    assert found(examine(root)) == {(code, None)}


def test_a_dataset_that_is_being_written_is_not_left_over(good: Path, tmp_path: Path) -> None:
    root = copy(good, tmp_path / "d")
    with DatasetWriter.open(root) as writer:
        take = writer.begin_take("pick up the cube")
        report = examine(root)
        take.discard()
    assert report.ok
    assert "being_written" in {note.code for note in report.notes}


def test_progress_counts_all_pictures(good: Path) -> None:
    told: list[tuple[int, int]] = []
    examine(good, progress=lambda done, total: told.append((done, total)))
    total = len(CAMERAS) * sum(LENGTHS)
    assert told == [(k + 1, total) for k in range(total)]


@pytest.mark.parametrize(("period", "late", "found"), [(24, 2, []), (0, 16, ["video_shifted"])])
def test_motion_that_repeats_itself_tells_nothing(period: int, late: int, found: list[str]) -> None:
    """Its pictures are as like a period later, and by chance more so in three episodes of four."""
    rng = np.random.default_rng(2)
    views, states = [], {}
    for number in range(4):
        noise = 0.02 * rng.random(120)
        speed = noise + (np.abs(np.sin(np.pi * np.arange(120) / period)) if period else rng.random(120))
        states[number] = np.repeat(np.cumsum(speed)[:, None], 6, axis=1)
        seen = np.roll(np.diff(states[number][:, 0]), late) + rng.normal(0, 0.05, 119)
        episode = EpisodeMeta(number, ("swing",), 120, FileSlot(0, number), 120 * number, {})
        views.append(View("side", episode, seen, seen))
    report = Report("d")
    check_sync(views, states, 30.0, report)
    assert [finding.code for finding in report.findings] == found


def test_remedies_are_commands_that_do_it(good: Path, tmp_path: Path) -> None:
    root = copy(good, tmp_path / "d")
    m100_unsaid(root)
    (finding,) = examine(root, decode=False).findings
    assert f"so101 dataset convert {root} NEW --units m100_100`" in finding.remedy
    for version, says in (("v2.1", f"so101 dataset convert {root} NEW`"), ("v1.4", "LeRobot's own tools")):
        info(codebase_version=version)(root)
        (finding,) = examine(root).findings
        assert says in finding.remedy


@pytest.mark.skipif(not REAL.exists(), reason="the real episodes are not on this machine")
def test_real_episodes_look_like_swept_ranges() -> None:
    report = examine(REAL)
    assert found(report) == {("units_look_like", None)}
    assert (report.episodes, report.frames) == (3, 1119)
    message = report.findings[0].message
    assert "--units m100_100` to `so101 replay`" in report.findings[0].remedy
    assert "look like -100..100" in message
    assert "200 / 2549 servo steps" in message  # the grid of its shoulder_pan
    assert "elbow_flex" in message.split("exactly at the end of 100")[1]
