"""The recorder's session: every command in every state, and what is on the disk afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.errors import DatasetError
from robot.recording.reader import Dataset
from services.recording.status import status
from tests.services.recorder_samples import CAMERAS, Recording, episodes, number_of

# -- what is recorded --------------------------------------------------------------------------------------


def test_rows_are_what_the_robot_did(recording: Recording, out: Path) -> None:
    recording.do("next")
    recording.pass_time(2.0)
    begun_s = recording.session.episode.start_s
    recording.do("finish", label="success")
    recording.end()
    dataset = Dataset(out)
    columns = dataset.load(0)
    assert dataset.episodes[0].length in (60, 61)
    times_s = begun_s + columns["timing.time_s"]
    np.testing.assert_allclose(np.diff(times_s), 1 / 30, atol=1e-9)
    for joint in range(6):
        true = 30 * np.sin(times_s + joint)
        np.testing.assert_allclose(columns["observation.state"][:, joint], true, atol=0.02)
        np.testing.assert_allclose(columns["action"][:, joint], true + 1, atol=0.02)
    for place, camera in enumerate(CAMERAS):
        offset_s = 0.004 * place
        shown = [number_of(image) for image in dataset.frames(0, camera)]
        newest = np.floor((times_s - offset_s) * 30).astype(int)
        assert shown == (newest % 21).tolist()
        ages_s = columns[f"timing.{camera}_age_s"]
        np.testing.assert_allclose(ages_s, times_s - offset_s - newest / 30, atol=1e-6)
    assert (columns["success"] == 1).all()
    assert (columns["loss_mask"] == 1).all() and (columns["intervention"] == 0).all()
    assert (columns["timing.state_age_s"] >= 0).all() and (columns["timing.state_age_s"] < 0.02).all()


def test_in_corrections_only_what_the_person_drives_is_learned(out: Path) -> None:
    recording = Recording(out, corrections=True).ready()
    recording.robot.source = "policy"
    recording.do("next")
    recording.pass_time(0.6)
    recording.robot.source = "teleop"
    recording.pass_time(0.4)
    recording.robot.source = "policy"
    recording.pass_time(0.5)
    recording.end()
    columns = Dataset(out).load(0)
    assert columns["intervention"].sum() in (11, 12, 13)
    assert (columns["loss_mask"] == columns["intervention"]).all()
    assert columns["intervention"][0] == columns["intervention"][-1] == 0
    assert (columns["success"] == -1).all()


def test_next_leaves_no_pause(recording: Recording, out: Path) -> None:
    recording.do("next")
    recording.pass_time(1.0)
    recording.do("next", label="failure")
    recording.pass_time(1.0)
    recording.do("next", label="success", task="put it back")
    recording.pass_time(1.0)
    told = status(recording.session, CAMERAS, recording.robot.now_s)
    assert told["end_to_start_ms"] == pytest.approx(33.3, abs=1.0)
    assert told["task"] == "put it back"
    recording.do("finish", label="success")
    recording.pass_time(3.0)
    recording.do("next")
    recording.pass_time(0.5)
    assert status(recording.session, CAMERAS, recording.robot.now_s)["end_to_start_ms"] < 70, "no reset"
    recording.do("discard")
    recording.end()
    dataset = Dataset(out)
    assert [dataset.load(k)["success"][0] for k in range(3)] == [0, 1, 1]
    assert sum(episodes(out)) >= 3 * 29
    assert [dataset.episode(k).tasks[0] for k in (1, 2)] == ["pick up the cube", "put it back"]
    for camera in CAMERAS:  # not a picture between two episodes is left out
        last, first = dataset.frames(0, camera)[-1], dataset.frames(1, camera)[0]
        assert (number_of(first) - number_of(last)) % 21 in (0, 1, 2)


def test_a_person_says_how_it_went_while_it_goes_on_or_just_after(recording: Recording, out: Path) -> None:
    recording.do("next")
    recording.pass_time(0.5)
    recording.do("label", label="failure")
    recording.do("label", label=None)
    recording.do("label", label="success")
    recording.do("finish")
    recording.pass_time(0.2)
    assert recording.state == "idle" and recording.session.last["label"] == "success"
    recording.do("next")
    recording.pass_time(0.5)
    recording.do("finish")
    recording.pass_time(0.2)
    assert recording.session.kept == 2
    recording.writer.wait()
    assert Dataset(out).load(1)["success"][0] == -1, "it opens at once"
    recording.pass_time(60.0)
    recording.do("finish", label="success")
    recording.do("label", label="failure")
    assert recording.session.last["label"] == "failure"
    recording.do("next")
    recording.pass_time(0.5)
    recording.do("finish")
    recording.pass_time(0.2)
    recording.do("next", label="success")
    recording.pass_time(0.5)
    recording.do("finish")
    recording.pass_time(0.2)
    assert recording.session.kept == 4, "and when nobody says anything, it is kept as well"
    recording.end()
    assert [Dataset(out).load(k)["success"][0] for k in range(4)] == [1, 0, 1, -1]


def test_an_episode_may_be_as_long_as_it_should_be_and_the_next_begins_by_itself(out: Path) -> None:
    recording = Recording(out, episode_s=1.0, reset_s=0.5, episodes=2).ready()
    recording.do("next")
    recording.pass_time(1.2)
    assert recording.state == "idle"
    assert 0.0 < status(recording.session, CAMERAS, recording.robot.now_s)["next_in_s"] < 0.5
    recording.pass_time(0.6)
    assert recording.state == "recording"
    recording.pass_time(1.0)
    assert recording.state == "idle" and recording.session.again_s is None
    answer = recording.refuse("next", label="success")
    assert answer["code"] == "all_recorded" and "redo" in answer["remedy"]
    recording.writer.wait()
    assert Dataset(out).load(1)["success"][0] == 1, "a refusal costs no label"
    recording.do("redo")
    recording.pass_time(3.0)
    recording.end()
    assert episodes(out) == [30, 30]


def test_where_the_object_lies(out: Path) -> None:
    recording = Recording(out, pickup="required").ready()
    answer = recording.refuse("next")
    assert answer["code"] == "no_pickup" and "x_m" in answer["remedy"] and answer["state"] == "idle"
    recording.do("next", pickup={"x_m": 0.2, "y_m": -0.1})
    recording.pass_time(0.3)
    assert recording.refuse("next")["state"] == "recording", "what is open goes on"
    recording.do("redo")
    recording.pass_time(0.3)
    recording.do("next", pickup={"x_m": 0.25, "y_m": 0.1})
    recording.pass_time(0.3)
    recording.end()
    found = [Dataset(out).load(k)["observation.environment_state"][0].tolist() for k in range(2)]
    np.testing.assert_allclose(found, [[0.2, -0.1], [0.25, 0.1]], atol=1e-6)


def test_the_pickup_of_a_session_may_be_fixed_and_a_dataset_without_one_takes_none(
    out: Path, tmp_path: Path
) -> None:
    recording = Recording(out, pickup={"x_m": 0.3, "y_m": 0.0}).ready()
    recording.do("next")
    recording.pass_time(0.3)
    recording.do("next", pickup={"x_m": 0.25, "y_m": 0.1})
    recording.pass_time(0.3)
    recording.do("redo")
    recording.pass_time(0.3)
    recording.end()
    again = Dataset(out).load(1)["observation.environment_state"][0].tolist()
    assert again == pytest.approx([0.25, 0.1]), "redone with what it was about"
    assert Dataset(out).load(0)["observation.environment_state"][0].tolist() == pytest.approx([0.3, 0.0])
    plain = Recording(tmp_path / "plain").ready()
    assert plain.refuse("next", pickup={"x_m": 0.3, "y_m": 0.0})["code"] == "no_pickup_column"
    plain.end()


def test_finish_takes_back_what_has_not_begun(out: Path) -> None:
    recording = Recording(out, episode_s=1.0, reset_s=0.5).ready()
    recording.do("next")
    recording.pass_time(1.3)
    recording.do("finish")  # in the pause
    recording.pass_time(1.0)
    assert recording.state == "idle" and recording.session.again_s is None
    recording.do("next")
    recording.pass_time(0.5)
    recording.do("next")
    recording.do("finish", label="success")  # before the last rows have come
    recording.pass_time(0.5)
    assert recording.state == "idle" and recording.session.kept == 2
    recording.end()


# -- commands ----------------------------------------------------------------------------------------------

OPS: tuple[dict[str, Any], ...] = (
    {"op": "next"},
    {"op": "finish"},
    {"op": "redo"},
    {"op": "discard"},
    {"op": "label", "label": "success"},
    {"op": "stop"},
)


def in_state(out: Path, state: str) -> Recording:
    """A session that has been brought into a state."""
    recording = Recording(out)
    if state == "opening":
        return recording
    recording.ready()
    if state == "failed":
        recording.keeper.fail(DatasetError("the disk is gone"))
    elif state == "ended":
        recording.end()
    elif state != "idle":
        recording.do("next")
        recording.pass_time(0.5)
        if state in ("finishing", "kept"):
            recording.do("finish")
        if state == "kept":
            recording.pass_time(0.2)
    expected = {"kept": "idle"}.get(state, state)
    assert recording.state == expected
    return recording


AFTER = {
    # state: next, finish, redo, discard, label, stop; a code where it is refused
    "opening": ("opening", "opening", "nothing_to_redo", "nothing_to_discard", "no_episode", "ended"),
    "idle": ("recording", "idle", "nothing_to_redo", "nothing_to_discard", "no_episode", "ended"),
    "recording": ("recording", "idle", "recording", "idle", "recording", "ended"),
    "finishing": ("recording", "idle", "recording", "idle", "idle", "ended"),
    "kept": ("recording", "idle", "recording", "idle", "idle", "ended"),
    "failed": ("failed", "failed", "nothing_to_redo", "nothing_to_discard", "no_episode", "ended"),
    "ended": ("ended", "ended", "ended", "ended", "ended", "ended"),
}
KEPT = {
    "recording": (1, 1, 0, 0, 0, 1),
    "finishing": (1, 0, 0, 0, 1, 1),
    "kept": (1, 1, 0, 0, 1, 1),
}
REFUSED = {
    "opening": {"next", "redo", "discard", "label"},
    "idle": {"redo", "discard", "label"},
    "failed": {"next", "redo", "discard", "label"},
    "ended": {"next", "finish", "redo", "discard", "label"},
}


@pytest.mark.parametrize("state", AFTER)
def test_every_command_in_every_state(state: str, tmp_path: Path) -> None:
    for place, command in enumerate(OPS):
        recording = in_state(tmp_path / command["op"], state)
        answer = recording.session.command(command)
        refused = command["op"] in REFUSED.get(state, set())
        assert answer["ok"] is not refused, (command, answer)
        if refused:
            assert answer["code"] == AFTER[state][place] and answer["message"], answer
        assert answer["state"] == recording.state
        if state == "opening":
            recording.pass_time(0.5)
        else:
            recording.pass_time(0.3)
            if not refused:
                assert recording.state == AFTER[state][place], command
            if state in KEPT and command["op"] != "finish":
                assert recording.session.kept == KEPT[state][place], command
        recording.end(8.0)


@pytest.mark.parametrize(
    "command",
    [
        {},
        {"op": "explode"},
        {"op": ["next"]},
        {"op": "next", "speed": 1},
        {"op": "next", "label": "fine"},
        {"op": "next", "pickup": {"x_m": "0.2", "y_m": 0.0}},
        {"op": "next", "pickup": {"x_m": 0.2}},
        {"op": "next", "pickup": {"x_m": float("nan"), "y_m": 0.0}},
        {"op": "next", "task": "  "},
        {"op": "label"},
        {"op": "discard", "label": "success"},
        {"op": "redo", "label": "success"},
    ],
)
def test_commands_are_taken_strictly(recording: Recording, command: dict[str, Any]) -> None:
    answer = recording.session.command(command)
    assert (answer["ok"], answer["code"], answer["state"]) == (False, "malformed", "idle")
    unknown = (set(command) & {"speed"}) or ({"label"} if command.get("op") in ("discard", "redo") else set())
    assert all(name in answer["message"] for name in unknown)


def test_only_the_last_episode_of_this_session_can_be_dropped_and_only_once(out: Path) -> None:
    first = Recording(out).ready()
    for _ in range(2):
        first.do("next")
        first.pass_time(0.5)
    first.end()
    before = episodes(out)
    second = Recording(out).ready()
    assert second.refuse("discard")["code"] == "nothing_to_discard"
    second.do("next")
    second.pass_time(0.5)
    second.do("finish", label="success")
    second.pass_time(0.2)
    assert second.session.last["episode"] == 2
    second.do("next")
    second.pass_time(0.3)
    second.do("discard")  # the open one
    assert second.refuse("discard")["code"] == "nothing_to_discard", "a key pressed twice costs no other"
    second.do("next")
    second.pass_time(0.3)
    second.do("finish", label="success")
    second.pass_time(0.2)
    assert second.session.kept == 2
    second.do("discard")
    second.pass_time(0.2)
    assert second.refuse("discard")["code"] == "nothing_to_discard"
    assert second.refuse("redo")["code"] == "nothing_to_redo"
    second.end()
    assert episodes(out)[:-1] == before


@pytest.mark.parametrize(("ticks_s", "words"), [(0.0, "did not begin"), (0.01, "no rows")])
def test_who_throws_an_episode_without_rows_away_keeps_the_one_before(
    recording: Recording, out: Path, ticks_s: float, words: str
) -> None:
    recording.do("next")
    recording.pass_time(0.5)
    recording.do("finish", label="success")
    recording.pass_time(0.5)
    recording.do("next")
    recording.pass_time(ticks_s)
    recording.robot.mode = "hold"
    recording.pass_time(0.5)
    assert words in recording.session.message
    assert recording.refuse("discard")["code"] == "nothing_to_discard"
    recording.end()
    assert len(episodes(out)) == 1


def test_redo_begins_again_with_what_it_was_about(out: Path) -> None:
    recording = Recording(out, pickup="required").ready()
    recording.do("next", pickup={"x_m": 0.2, "y_m": 0.1}, task="stack")
    recording.pass_time(0.5)
    recording.do("finish", label="failure")
    recording.pass_time(0.5)
    recording.do("redo")
    recording.pass_time(1.0)
    recording.do("redo", pickup={"x_m": 0.3, "y_m": 0.1})
    recording.pass_time(0.7)
    recording.end()
    dataset = Dataset(out)
    assert episodes(out) == [pytest.approx(21, abs=2)]
    assert dataset.episode(0).tasks[0] == "stack"
    assert dataset.load(0)["observation.environment_state"][0, 0] == pytest.approx(0.3)
