"""Rows from inputs that come when they come: each is checked against all that was ever captured."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest

from robot.recording.align import PICTURE_GAP_S, TICK_GAP_S, Aligner, Row
from robot.seams import Frame
from robot.telemetry import MODES, Record, empty_record

CAMERAS = ("wrist", "overhead")
RUNNING = MODES.index("running")
EPOCH_S = 123_456.789


def frame(index: int, time_s: float) -> Frame:
    return Frame(np.full((2, 2, 3), index % 256, np.uint8), time_s, index)


def pose(time_s: float) -> np.ndarray:
    """Where the arm was; quick enough that a wrong interpolation shows."""
    return 50.0 * np.sin(7.0 * (time_s - EPOCH_S) + np.arange(6))


def tick(index: int, time_s: float, *, age: int = 0, source: int = 2, run_id: int = 1) -> Record:
    record = empty_record()
    record["tick"], record["time_s"], record["mode"] = index, time_s, RUNNING
    record["state_age_ticks"], record["run_id"], record["source"] = age, run_id, source
    record["position"], record["goal"] = pose(time_s), -pose(time_s)
    return record


@dataclass
class Scene:
    """Everything that was captured, and when it was handed over."""

    frames: dict[str, list[Frame]]
    ticks: list[Record]
    events: list[tuple[float, str, object]] = field(default_factory=list)

    def deliver(self, aligner: Aligner, until_s: float, rows: list[Row]) -> None:
        """Hand over what has come by a time, one thing at a time, asking for rows after each."""
        while self.events and self.events[0][0] <= until_s:
            at_s, who, what = self.events.pop(0)
            if who == "tick":
                aligner.add_ticks([what], at_s)
            else:
                aligner.add_frames(who, [what], at_s)
            rows.extend(aligner.rows())


def scene(seed: int, seconds: float = 3.0, *, tidy: bool = False) -> Scene:
    """Cameras with random phase, drift, jitter, losses and delays; ticks likewise."""
    rng = np.random.default_rng(seed)
    scene = Scene({}, [])
    for camera in CAMERAS:
        rate = 30.0 * (1.0 if tidy else 1.0 + rng.uniform(-0.01, 0.01))
        jitter_s = 0.004 if tidy else rng.uniform(0.0, 0.02)
        phase_s = rng.uniform(0.0, 1.0 / rate)
        times_s = np.sort(
            EPOCH_S + phase_s + np.arange(int(seconds * rate)) / rate + rng.uniform(0, jitter_s)
        )
        times_s += rng.uniform(0.0, jitter_s, times_s.size)
        times_s = np.sort(times_s)
        kept = np.ones(times_s.size, bool) if tidy else rng.random(times_s.size) > 0.05
        scene.frames[camera] = [frame(i, float(t)) for i, t in enumerate(times_s[kept], 1)]
        handed_s = 0.0
        for each in scene.frames[camera]:
            handed_s = max(handed_s, each.time_s + rng.uniform(0.001, 0.08))
            scene.events.append((handed_s, camera, each))
    index = 0
    while index < seconds * 60:
        time_s = EPOCH_S + index / 60 + rng.exponential(0.0005)
        age = int(rng.random() < 0.05) if scene.ticks else 0
        scene.ticks.append(tick(index, time_s, age=age))
        scene.events.append((time_s + 0.005, "tick", scene.ticks[-1]))
        index += 1 + int(rng.random() < 0.03) * int(rng.integers(1, 6))
    scene.events.sort(key=lambda event: event[0])
    return scene


def check(row: Row, scene: Scene) -> None:
    """A row against everything there was, also what came after it was made."""
    for camera in CAMERAS:
        best = max((f for f in scene.frames[camera] if f.time_s <= row.time_s), key=lambda f: f.time_s)
        assert (row.images[camera] == best.image).all()
        assert row.ages_s[camera] == pytest.approx(row.time_s - best.time_s, abs=1e-9)
        assert 0.0 <= row.ages_s[camera] <= PICTURE_GAP_S
    reads = [r for r in scene.ticks if int(r["state_age_ticks"]) == 0]
    times_s = np.array([float(r["time_s"]) for r in reads])
    every_s = np.array([float(r["time_s"]) for r in scene.ticks])
    for joint in range(6):
        states = [float(r["position"][joint]) for r in reads]
        goals = [float(r["goal"][joint]) for r in scene.ticks]
        assert row.state[joint] == pytest.approx(np.interp(row.time_s, times_s, states), abs=1e-6)
        assert row.goal[joint] == pytest.approx(np.interp(row.time_s, every_s, goals), abs=1e-6)
    assert row.state_age_s == pytest.approx(row.time_s - times_s[times_s <= row.time_s].max(), abs=1e-9)
    newest = scene.ticks[np.searchsorted(every_s, row.time_s, side="right") - 1]
    assert int(row.tick["tick"]) == int(newest["tick"])


@pytest.mark.parametrize("seed", range(40))
def test_every_row_is_what_a_policy_would_have_seen_then(seed: int) -> None:
    world, aligner, rows = scene(seed), Aligner(CAMERAS, 30), []
    world.deliver(aligner, EPOCH_S + 0.7, rows)
    assert rows == [] and aligner.missing() is None
    start_s = aligner.begin(EPOCH_S + 0.7)
    assert EPOCH_S + 0.7 <= start_s < EPOCH_S + 0.7 + 1 / 30
    world.deliver(aligner, EPOCH_S + 2.0, rows)
    aligner.end(EPOCH_S + 2.0)
    world.deliver(aligner, EPOCH_S + 3.0, rows)
    assert aligner.gap is None and aligner.done
    assert [row.time_s for row in rows] == [start_s + k / 30 for k in range(len(rows))]
    assert rows[-1].time_s <= EPOCH_S + 2.0 < rows[-1].time_s + 1 / 30
    for row in rows:
        check(row, world)
    for camera in CAMERAS:
        shown = [int(row.images[camera][0, 0, 0]) for row in rows]
        again = [camera in row.repeated for row in rows]
        assert again == [False, *(a == b for a, b in itertools.pairwise(shown))]


@pytest.mark.parametrize("seed", range(10))
def test_episodes_follow_each_other_without_losing_a_picture(seed: int) -> None:
    """The next one begins where the last one ended, although that is known only a moment later."""
    world, aligner = scene(seed), Aligner(CAMERAS, 30)
    first: list[Row] = []
    second: list[Row] = []
    world.deliver(aligner, EPOCH_S + 0.7, first)
    aligner.begin(EPOCH_S + 0.7)
    world.deliver(aligner, EPOCH_S + 1.5, first)
    aligner.end(EPOCH_S + 1.5)
    late_s = EPOCH_S + 1.5
    while not aligner.done:
        late_s += 0.01
        world.deliver(aligner, late_s, first)
    aligner.begin(EPOCH_S + 1.5)
    second += aligner.rows()
    world.deliver(aligner, EPOCH_S + 2.5, second)
    assert first[-1].time_s <= EPOCH_S + 1.5 <= second[0].time_s < EPOCH_S + 1.5 + 1 / 30
    assert second[0].repeated == ()
    for row in first + second:
        check(row, world)


@pytest.mark.parametrize("seed", range(20))
def test_cameras_that_keep_their_rhythm_never_repeat_a_picture(seed: int) -> None:
    """Jitter of 8 ms, any phases: the first row is put where no camera captures."""
    world, aligner, rows = scene(seed, 4.0, tidy=True), Aligner(CAMERAS, 30), []
    world.deliver(aligner, EPOCH_S + 1.2, rows)
    aligner.begin(EPOCH_S + 1.2)
    world.deliver(aligner, EPOCH_S + 4.0, rows)
    assert len(rows) > 70
    assert all(row.repeated == () for row in rows)
    for camera in CAMERAS:  # nor is one left out
        used = [int(row.images[camera][0, 0, 0]) for row in rows]
        assert np.diff(used).tolist() == [1] * (len(used) - 1)


def test_a_slow_camera_repeats_and_a_quick_one_leaves_out() -> None:
    aligner = Aligner(("slow", "quick"), 30)
    rows: list[Row] = []
    for k in range(240):
        at_s = EPOCH_S + k / 120
        aligner.add_ticks([tick(k, at_s)], at_s)
        if k % 8 == 0:
            aligner.add_frames("slow", [frame(k // 8, at_s)], at_s)
        if k % 2 == 0:
            aligner.add_frames("quick", [frame(k // 2, at_s)], at_s)
        if k == 120:
            aligner.begin(at_s)
        rows += aligner.rows()
    assert aligner.fps_of("slow") == pytest.approx(15.0) and aligner.fps_of("quick") == pytest.approx(60.0)
    assert sum("slow" in row.repeated for row in rows) == pytest.approx(len(rows) / 2, abs=1)
    assert not any("quick" in row.repeated for row in rows)
    ages_s = [row.ages_s["quick"] for row in rows]
    assert min(ages_s) > 0.003 and max(ages_s) < 0.014


def feed(aligner: Aligner, start: int, end: int, *, leave_out: str = "") -> list[Row]:
    """Ticks at 60 a second and pictures at 30, from one tick to another; ``leave_out`` says nothing."""
    rows: list[Row] = []
    for k in range(start, end):
        at_s = EPOCH_S + k / 60
        if leave_out != "tick":
            aligner.add_ticks([tick(k, at_s, age=int(leave_out == "read"))], at_s)
        aligner.add_ticks([], at_s)
        for camera in CAMERAS:
            new = k % 2 == 0 and camera != leave_out
            kept = aligner._frames[camera]
            index = kept[-1].index + 1 if kept else 1
            aligner.add_frames(camera, [frame(index, at_s)] if new else [], at_s)
        rows += aligner.rows()
    return rows


@pytest.mark.parametrize(
    ("silent", "gap_s", "words"),
    [
        ("wrist", PICTURE_GAP_S, "camera wrist"),
        ("tick", TICK_GAP_S, "controller"),
        ("read", TICK_GAP_S, "servos"),
    ],
)
def test_an_input_that_pauses_is_waited_for_and_then_named(silent: str, gap_s: float, words: str) -> None:
    aligner = Aligner(CAMERAS, 30)
    feed(aligner, 0, 60)
    aligner.begin(EPOCH_S + 1.0)
    feed(aligner, 60, 90)
    short = int(60 * (gap_s - 0.1))
    assert len(feed(aligner, 90, 90 + short, leave_out=silent)) <= 1, "rows before their inputs were there"
    assert aligner.missing() is None
    caught_up = feed(aligner, 90 + short, 100 + short)
    assert len(caught_up) >= short // 2 and aligner.gap is None
    long = 100 + short + int(60 * (gap_s + 0.1))
    feed(aligner, 100 + short, long, leave_out=silent)
    assert words in str(aligner.missing())
    assert aligner.gap is None and not aligner.done
    feed(aligner, long, long + 10)  # it comes back: what lies between was never seen
    assert aligner.done and aligner.gap is not None


@pytest.mark.parametrize("seed", range(20))
def test_no_row_is_made_where_a_picture_was_lost_on_the_way(seed: int) -> None:
    """Every row up to there is, and each is right: what is missing is told from the indices."""
    world, aligner, rows = scene(seed), Aligner(CAMERAS, 30), []
    lost = world.frames["wrist"][55 + seed]
    world.events = [event for event in world.events if event[2] is not lost]
    world.deliver(aligner, EPOCH_S + 0.7, rows)
    aligner.begin(EPOCH_S + 0.7)
    world.deliver(aligner, EPOCH_S + 3.0, rows)
    before, after = world.frames["wrist"][54 + seed], world.frames["wrist"][56 + seed]
    hidden = [row.time_s for row in rows if lost.time_s <= row.time_s < after.time_s]
    assert hidden == []
    for row in rows:
        check(row, world)
    if aligner.gap is None:  # no row would have shown it
        assert rows[-1].time_s > after.time_s
    else:
        assert "camera wrist were lost" in aligner.gap
        assert before.time_s - 1 / 30 < rows[-1].time_s < before.time_s


def test_a_picture_of_the_very_time_is_the_row_s_and_a_second_episode_repeats_none() -> None:
    aligner = Aligner(("wrist",), 30)
    aligner.add_frames("wrist", [frame(1, EPOCH_S)], EPOCH_S)
    aligner.add_ticks([tick(k, EPOCH_S + k / 60) for k in range(20)], EPOCH_S)
    start_s = aligner.begin(EPOCH_S + 0.01)
    aligner.add_frames("wrist", [frame(2, start_s)], start_s)
    assert aligner.rows() == [], "another of the same time may come"
    aligner.end(start_s + 0.09)
    aligner.add_frames("wrist", [frame(3, start_s + 0.3)], start_s + 0.3)
    rows = aligner.rows()
    assert rows[0].ages_s["wrist"] == 0.0 and rows[0].repeated == () and rows[1].repeated == ("wrist",)
    aligner.begin(start_s + 0.09)
    again = aligner.rows()[0]
    assert (again.images["wrist"] == rows[0].images["wrist"]).all()
    assert again.repeated == (), "it is the first of its episode"


def test_what_an_episode_that_follows_needs_is_kept_although_the_last_has_no_more_rows() -> None:
    """A picture between the end and what would have been the next row: it does not drop the one before."""
    aligner, index = Aligner(("wrist",), 30), itertools.count(1)

    def capture(at_s: float) -> list[Row]:
        aligner.add_ticks([tick(round(at_s * 60), at_s)], at_s)
        aligner.add_frames("wrist", [frame(next(index), at_s)], at_s)
        return aligner.rows()

    for k in range(60):
        capture(EPOCH_S + k / 30)
    start_s = aligner.begin(EPOCH_S + 2.0)
    assert start_s - EPOCH_S - 2.0 == pytest.approx(1 / 60, abs=0.001)
    for k in range(70):  # the camera's rhythm has moved by half a period: just before each row
        rows = capture(start_s + k / 30 - 0.002)
    ended_s = rows[-1].time_s + 1 / 30 + 0.001
    capture(ended_s - 0.003)
    aligner.end(ended_s)
    late = capture(ended_s + 1 / 30 - 0.004)
    assert len(late) == 1 and aligner.done
    aligner.add_ticks([tick(0, ended_s + 0.2)], ended_s + 0.2)
    assert aligner.begin(ended_s) < ended_s + 1 / 30 - 0.004
    assert len(aligner.rows()) == 1 and aligner.gap is None


def test_nothing_begins_before_everything_was_seen() -> None:
    aligner = Aligner(CAMERAS, 30)
    assert "camera wrist" in str(aligner.missing())
    feed(aligner, 0, 10, leave_out="overhead")
    assert "camera overhead" in str(aligner.missing())
    aligner = Aligner(CAMERAS, 30)
    feed(aligner, 0, 10, leave_out="read")
    assert "servos" in str(aligner.missing())
    feed(aligner, 10, 20)
    assert aligner.missing() is None


def test_without_cameras_rows_follow_the_ticks() -> None:
    aligner = Aligner((), 30)
    feed_s = [EPOCH_S + k / 60 for k in range(120)]
    aligner.add_ticks([tick(k, at_s) for k, at_s in enumerate(feed_s[:30])], feed_s[29])
    start_s = aligner.begin(feed_s[29])
    aligner.add_ticks([tick(k, at_s) for k, at_s in enumerate(feed_s[30:], 30)], feed_s[-1])
    rows = aligner.rows()
    assert rows[0].time_s == start_s and rows[-1].time_s <= feed_s[-1] < rows[-1].time_s + 1 / 30


def test_what_no_row_can_need_is_let_go() -> None:
    """An hour between two episodes, or in one, costs no memory."""
    aligner = Aligner(CAMERAS, 30)
    feed(aligner, 0, 600)
    kept = [*aligner._frames.values(), aligner._ticks, aligner._reads]
    assert all(len(each) == 1 for each in kept)
    aligner.begin(EPOCH_S + 10.0)
    feed(aligner, 600, 1200)
    assert all(len(each) <= 4 for each in kept)
    aligner.end(EPOCH_S + 20.0)
    feed(aligner, 1200, 1260)
    assert aligner.done and all(len(each) > 10 for each in kept), "kept for an episode that follows at once"
    aligner.release()
    assert aligner.rows() == [] and all(len(each) == 1 for each in kept)
