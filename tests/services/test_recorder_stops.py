"""What stops an episode, or the whole recording: each is told, and costs nothing that was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.errors import DatasetError, RecordingOverloadError
from robot.recording.reader import Dataset
from robot.recording.take import Take
from robot.recording.writer import DatasetWriter
from services.recording.keeper import OPEN_AGAIN_S
from services.recording.status import status
from tests.services.recorder_samples import GB, Recording, episodes


def camera_dies(recording: Recording) -> None:
    recording.robot.silent = {"overhead"}


def servos_fall_silent(recording: Recording) -> None:
    recording.robot.silent = {"servos"}


def arm_holds(recording: Recording) -> None:
    recording.robot.mode = "hold"


def another_run(recording: Recording) -> None:
    recording.robot.run_id += 1


def too_slow(recording: Recording) -> None:
    recording.robot.losing = {"wrist"}


def disk_fills(recording: Recording) -> None:
    recording.free = GB - 1


@pytest.mark.parametrize(
    ("trouble", "words", "again"),
    [
        (camera_dies, "camera overhead has shown nothing new", "no_input"),
        (servos_fall_silent, "says nothing", "no_input"),
        (arm_holds, "mode hold", "not_running"),
        (another_run, "another run", None),
        (too_slow, "pictures of camera wrist were lost", None),
        (disk_fills, "GB left", "disk_full"),
    ],
)
def test_what_cannot_go_on_is_stopped_and_says_why(
    recording: Recording, out: Path, trouble: Any, words: str, again: str | None
) -> None:
    recording.do("next")
    recording.pass_time(1.0)
    trouble(recording)
    recording.pass_time(1.2)
    assert recording.state == "idle"
    recording.do("finish", label="failure")  # it can still be said how it went
    recording.pass_time(0.1)
    last = recording.session.last
    assert words in last["reason"] and words in recording.session.message
    assert last["label"] == "failure" and 25 <= last["frames"] <= 66
    recording.robot.losing = set()
    if again is None:
        recording.do("next")
        recording.pass_time(0.5)
    else:
        answer = recording.refuse("next")
        assert answer["code"] == again and answer["remedy"]
    recording.end()
    assert episodes(out)[0] == last["frames"]
    gaps_s = np.diff(Dataset(out).load(0)["timing.time_s"])
    np.testing.assert_allclose(gaps_s, 1 / 30, atol=1e-9)


def test_room_is_kept_for_the_open_episode_once_more(recording: Recording, out: Path) -> None:
    """Its videos are copied when it becomes an episode."""
    recording.free = GB + 1000
    recording.do("next")
    recording.pass_time(2.5)
    assert recording.state == "idle" and "GB left" in recording.session.last["reason"]
    recording.end()
    assert episodes(out) == [recording.session.last["frames"]]


def test_a_discard_takes_back_the_next_that_would_begin_by_itself(out: Path) -> None:
    recording = Recording(out, episode_s=0.5, reset_s=0.5).ready()
    recording.do("next")
    recording.pass_time(0.8)
    assert recording.state == "idle" and recording.session.again_s is not None
    recording.do("discard")
    recording.pass_time(0.7)
    assert recording.state == "idle" and recording.session.again_s is None
    recording.end()


def test_the_last_rows_that_did_not_come_are_told(recording: Recording, out: Path) -> None:
    """The camera has gone just before a person ended the episode."""
    recording.do("next")
    recording.pass_time(1.0)
    recording.robot.silent = {"overhead"}
    recording.pass_time(0.3)
    recording.do("finish", label="success")
    recording.pass_time(0.5)
    assert recording.state == "finishing", "it may come back"
    recording.pass_time(0.3)
    last = recording.session.last
    assert "camera overhead has shown nothing new" in last["reason"] and last["label"] == "success"
    recording.end()
    assert episodes(out) == [last["frames"]] and last["frames"] < 34


@pytest.mark.parametrize("kept", [False, True])
def test_what_is_to_be_redone_is_not_thrown_away_where_nothing_can_begin(
    recording: Recording, out: Path, kept: bool
) -> None:
    recording.do("next")
    recording.pass_time(0.5)
    if kept:
        recording.do("finish", label="success")
        recording.pass_time(0.3)
    recording.free = GB - 1
    assert recording.refuse("redo")["code"] == "disk_full"
    assert (recording.session.episode is None) is kept
    recording.end()
    assert len(episodes(out)) == 1


def test_a_short_pause_of_a_camera_stops_nothing_and_is_in_the_ages(recording: Recording, out: Path) -> None:
    recording.do("next")
    recording.pass_time(0.5)
    recording.robot.silent = {"wrist"}
    recording.pass_time(0.3)
    recording.robot.silent = set()
    recording.pass_time(0.5)
    recording.do("finish", label="success")
    recording.pass_time(0.2)
    assert recording.session.last["repeated"]["wrist"] in range(7, 11)
    recording.end()
    columns = Dataset(out).load(0)
    assert 0.2 < columns["timing.wrist_age_s"].max() < 0.35
    assert columns["timing.overhead_age_s"].max() < 0.04


def test_an_encoder_that_is_too_slow_stops_the_episode(
    recording: Recording, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording.do("next")
    recording.pass_time(0.5)

    def full(*args: Any, **more: Any) -> None:
        raise RecordingOverloadError("observation.images.wrist: its encoder is 1 s behind")

    with monkeypatch.context() as patched:
        patched.setattr(Take, "add", full)
        recording.pass_time(0.2)
    assert recording.state == "idle" and "encoder" in recording.session.last["reason"]
    recording.do("next")
    recording.pass_time(0.5)
    recording.end()
    assert len(episodes(out)) == 2


def test_a_disk_that_fails_costs_nothing_that_was_written(
    recording: Recording, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dataset is closed and opened again, as after a crash."""
    recording.do("next")
    recording.pass_time(1.5)

    with monkeypatch.context() as patched:
        patched.setattr(Take, "add", _broken)
        recording.pass_time(0.2)
    assert recording.state == "failed" and "Input/output" in recording.session.message
    assert recording.refuse("next")["code"] == "failed"
    recording.pass_time(6.0)
    assert recording.state == "idle"
    assert [each["episode"] for each in recording.keeper.recovered] == [0]
    recording.do("next")
    recording.pass_time(0.5)
    recording.end()
    assert episodes(out)[0] >= 40 and len(episodes(out)) == 2


def test_after_a_disk_failed_no_other_episode_is_thrown_away_than_was_told(
    recording: Recording, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was open is recovered and is the newest then; what is told of is the one before."""
    recording.do("next")
    recording.pass_time(0.5)
    recording.do("next", label="success")
    recording.pass_time(1.5)
    with monkeypatch.context() as patched:
        patched.setattr(Take, "add", _broken)
        recording.pass_time(0.2)
    recording.pass_time(6.0)
    assert recording.state == "idle" and recording.session.kept == 2
    assert recording.refuse("discard")["code"] == "nothing_to_discard"
    assert recording.refuse("redo")["code"] == "nothing_to_redo"
    recording.end()
    assert len(episodes(out)) == 2


def _broken(*args: Any, **more: Any) -> None:
    raise DatasetError("recording failed: [Errno 5] Input/output error")


def test_an_episode_that_could_not_be_committed_stops_the_next_one(recording: Recording, out: Path) -> None:
    recording.do("next")
    recording.pass_time(1.2)
    assert recording.writer is not None
    recording.writer._committer.failures.append(DatasetError("no space left on device"))
    recording.pass_time(0.2)
    assert recording.state == "failed" and recording.session.last["reason"] == "no space left on device"
    recording.pass_time(6.0)
    assert recording.state == "idle"
    assert recording.refuse("redo")["code"] == "nothing_to_redo", "it may be another that is the newest now"
    recording.end()
    assert episodes(out) == [recording.session.last["frames"]]


def test_a_dataset_that_cannot_be_opened_is_tried_again_now_and_then(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries_s: list[float] = []
    real = Recording._open

    def opened(self: Recording) -> DatasetWriter:
        tries_s.append(self.robot.now_s)
        if len(tries_s) < 3:
            raise DatasetError("the disk is not there yet")
        return real(self)

    monkeypatch.setattr(Recording, "_open", opened)
    recording = Recording(out).ready()
    assert recording.state == "failed" and "not there yet" in recording.session.message
    recording.pass_time(10.5)
    assert (
        recording.state == "idle" and np.diff(tries_s).tolist() == [pytest.approx(OPEN_AGAIN_S, abs=0.05)] * 2
    )
    recording.end()


def test_a_dataset_that_does_not_fit_is_told_and_not_touched(out: Path, tmp_path: Path) -> None:
    first = Recording(out).ready()
    first.do("next")
    first.pass_time(0.5)
    first.end()
    other = Recording(out, fps=15, pickup="required").ready()
    assert other.state == "failed"
    for words in ("30 rows a second, now 15", "observation.environment_state", "--out"):
        assert words in other.session.message
    other.session.command({"op": "stop"})
    other.pass_time(0.1)
    assert other.state == "ended"
    assert len(episodes(out)) == 1


def test_a_camera_that_does_not_keep_its_rate_is_told(out: Path) -> None:
    recording = Recording(out).ready()
    recording.pass_time(2.0)
    told = status(recording.session, {"wrist": 60.0, "overhead": 30.0}, recording.robot.now_s)
    assert "30.0 pictures a second instead of 60" in told["cameras"]["wrist"]["note"]
    assert told["cameras"]["overhead"]["note"] is None
    recording.end()
