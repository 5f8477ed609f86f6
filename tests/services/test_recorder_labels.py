"""Labels that come after the episode, and the room that an episode needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot.recording.reader import Dataset
from robot.recording.take import Take
from services.recording.status import status
from tests.services.recorder_samples import CAMERAS, GB, Recording, episodes


def test_a_label_is_never_that_of_another_episode(recording: Recording, out: Path) -> None:
    recording.do("next")
    recording.pass_time(0.5)
    recording.do("finish", label="success")
    recording.pass_time(0.2)
    recording.do("next")
    recording.pass_time(0.02)
    assert recording.state == "recording"
    recording.robot.silent = {"servos"}  # no row comes of this one
    recording.pass_time(1.0)
    told = status(recording.session, CAMERAS, recording.robot.now_s)
    assert told["state"] == "idle" and told["kept"] == 1 and not told["can_label"]
    assert recording.refuse("label", label="failure")["code"] == "no_episode"
    recording.do("finish", label="failure")
    recording.robot.silent = set()
    recording.pass_time(0.2)
    recording.do("next")
    recording.pass_time(0.5)
    recording.do("finish", label="success")
    recording.pass_time(0.2)
    recording.do("next")
    recording.free = 0  # this one does not even begin
    recording.pass_time(0.2)
    assert "did not begin" in recording.session.message
    assert recording.refuse("label", label="failure")["code"] == "no_episode"
    recording.free = 50 * GB
    recording.do("next")
    recording.pass_time(0.5)
    recording.do("finish")
    recording.pass_time(0.2)
    assert status(recording.session, CAMERAS, recording.robot.now_s)["can_label"]
    recording.do("discard")
    assert recording.refuse("label", label="failure")["code"] == "no_episode"
    recording.pass_time(0.2)
    recording.end()
    assert [Dataset(out).load(k)["success"][0] for k in range(len(episodes(out)))] == [1, 1]


def test_the_disk_has_room_for_the_open_episode_once_more(
    recording: Recording, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording.do("next")
    recording.pass_time(1.2)
    assert recording.session.episode.take.size_bytes > 1000
    recording.free = int(2.9 * GB)
    monkeypatch.setattr(Take, "size_bytes", 2 * GB)
    recording.pass_time(1.2)
    assert recording.state == "idle"
    assert "2.9 GB left, and 1 GB are kept free beside the 2.0 GB" in recording.session.last["reason"]
    recording.pass_time(1.2)
    recording.do("next")
    recording.pass_time(0.2)
    recording.end()
    assert len(episodes(out)) == 2, "that room is not needed any more"
