"""The recorder's real process: real rings, real signals, real files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robot.recording.reader import Dataset
from services.recording.dataset import free_bytes
from tests.services.recorder_rig import TASK, RecorderRig
from tests.services.recorder_samples import CAMERAS, number_of

pytestmark = pytest.mark.live

KILLS = int(os.environ.get("SO101_KILLS", "2"))
FPS = 30


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecorderRig]:
    """One process for the tests that leave it alive."""
    made = RecorderRig(tmp_path_factory.mktemp("rig"))
    made.launch()
    yield made
    made.close()


def recorded(rig: RecorderRig) -> dict[str, object]:
    """What is said of the last episode, once that is on the disk."""
    rig.until(lambda told: told["state"] == "idle")
    rig.ask("finish", label="success")
    return dict(rig.until(lambda told: told["committed"] == told["kept"])["last"])


def test_rows_have_the_newest_pictures_of_their_time(rig: RecorderRig) -> None:
    rig.do("next")
    rig.until(lambda told: told["frames"] >= 20)
    rig.do("next", label="success")
    told = rig.until(lambda told: told["frames"] >= 20 and told["kept"] == 1)
    assert told["state"] == "recording" and told["episode"] == 1
    assert 0 < told["end_to_start_ms"] < 300
    rig.do("finish")
    last = recorded(rig)
    dataset = Dataset(rig.out)
    assert [episode.length for episode in dataset.episodes][1] == last["frames"]
    for number in range(2):
        columns = dataset.load(number)
        times_s = columns["timing.time_s"]
        np.testing.assert_allclose(np.diff(times_s), 1 / FPS, atol=1e-9)
        for camera in CAMERAS:
            captured_s = np.array(rig.feeder.captured[camera])
            ages_s = columns[f"timing.{camera}_age_s"]
            # The one start at which all ages are those of captures is the one that was.
            begun_s = _start(captured_s, times_s, ages_s)
            newest = np.searchsorted(captured_s, begun_s + times_s + 1e-6)  # counted from one
            shown = [number_of(image) for image in dataset.frames(number, camera)]
            assert shown == (newest % 21).tolist()


def _start(captured_s: np.ndarray, times_s: np.ndarray, ages_s: np.ndarray) -> float:
    def error(begun_s: float) -> float:
        wanted_s = begun_s + times_s - ages_s
        nearest = captured_s[np.abs(captured_s[None, :] - wanted_s[:, None]).argmin(1)]
        return float(np.abs(nearest - wanted_s).max())

    starts_s = captured_s + ages_s[0]
    return float(min(starts_s, key=error))


@pytest.mark.parametrize(("silent", "words"), [("overhead", "camera overhead"), ("servos", "says nothing")])
def test_who_falls_silent_ends_the_episode(rig: RecorderRig, silent: str, words: str) -> None:
    rig.do("next")
    rig.until(lambda told: told["frames"] >= 5)
    rig.feeder.silent = {silent}
    rig.until(lambda told: told["state"] == "idle")
    assert words in rig.ask("next")["message"]
    rig.feeder.silent = set()
    time.sleep(0.1)
    last = recorded(rig)
    assert words in str(last["reason"]) and last["frames"] >= 5


def test_a_recorder_that_stands_still_loses_nothing_for_a_third_of_a_second_and_then_says_so(
    rig: RecorderRig,
) -> None:
    rig.do("next")
    rig.until(lambda told: told["frames"] >= 5)
    for pause_s in (0.3, 1.0):
        before = rig.told()["frames"]
        rig.send(signal.SIGSTOP)
        time.sleep(pause_s)
        rig.send(signal.SIGCONT)
        if pause_s < 0.5:
            told = rig.until(lambda told, n=before: told["frames"] > n + 20)
            assert told["state"] == "recording"
            assert sum(camera["repeated"] for camera in told["cameras"].values()) <= 2
    last = recorded(rig)
    assert "were lost: this machine does not keep up" in str(last["reason"])
    dataset = Dataset(rig.out)
    ages_s = dataset.load(len(dataset.episodes) - 1)["timing.wrist_age_s"]
    assert ages_s.max() < 0.1, "what was recorded has no gap"


def test_sigterm_keeps_the_open_episode(rig: RecorderRig) -> None:
    """The last one: afterwards there is no process."""
    rig.do("next", task="put it back")
    told = rig.until(lambda told: told["frames"] >= 10)
    for number in (signal.SIGTERM, signal.SIGTERM):  # the second says nothing new
        rig.send(number)
    assert rig.end() == 0
    dataset = Dataset(rig.out)
    assert len(dataset.episodes) == told["episode"] + 1
    assert dataset.episodes[-1].length >= told["frames"] and dataset.tasks == [TASK, "put it back"]
    assert dataset.load(told["episode"])["success"][0] == -1
    assert not (rig.out / ".recording").exists()


@pytest.mark.timeout(60 + 10 * KILLS)
def test_kills_at_random_moments_cost_no_finished_episode_and_a_second_at_most(tmp_path: Path) -> None:
    rng = np.random.default_rng(KILLS)
    rig = RecorderRig(tmp_path)
    finished: dict[int, int] = {}
    open_frames = open_episode = 0
    try:
        for _ in range(KILLS):
            quick = rng.random() < 0.2  # in the midst of opening, or even before
            rig.launch(until_idle=not quick)
            if quick:
                time.sleep(rng.uniform(0.3, 1.2))
            else:
                told = rig.told()
                _check(rig, told, finished, open_episode, open_frames)
                assert told["kept"] == told["committed"], "all are of one session"
                open_frames = 0
                finished = {e.index: e.length for e in Dataset(rig.out).episodes}
                rig.do("next")
                time.sleep(rng.uniform(0.0, 1.6))
                op = rng.choice(["none", "next", "finish", "label", "discard", "redo"])
                if op == "label":
                    rig.ask("finish", label="success")
                elif op != "none":
                    rig.ask(str(op))
                time.sleep(rng.uniform(0.0, 0.12) if rng.random() < 0.8 else rng.uniform(0.2, 1.5))
                told = rig.told()
                if told["last"] is not None and told["committed"] > told["last"]["episode"]:
                    finished[told["last"]["episode"]] = told["last"]["frames"]
                gone = op in ("discard", "redo") and told["frames"] == 0
                open_frames, open_episode = (0 if gone else told["frames"]), told["episode"]
                if op in ("finish", "label") and told["last"] is not None:  # ended
                    open_frames, open_episode = told["last"]["frames"], told["last"]["episode"]
            rig.end(signal.SIGKILL)
        rig.launch()
        _check(rig, rig.told(), finished, open_episode, open_frames)
        rig.do("next")
        rig.until(lambda told: told["frames"] > 5)
        assert rig.end() == 0
        dataset = Dataset(rig.out)
        for episode in dataset.episodes:
            dataset.load(episode.index)
            for camera in CAMERAS:
                assert len(dataset.frames(episode.index, camera)) == episode.length
    finally:
        rig.close()


def _check(
    rig: RecorderRig, told: dict[str, object], finished: dict[int, int], episode: int, frames: int
) -> None:
    """After a kill: what was finished is there, and of what was open at most a second is missing."""
    lengths = {e.index: e.length for e in Dataset(rig.out).episodes}
    assert {number: lengths.get(number) for number in finished} == finished
    if frames > FPS:
        aside = [_aside(folder) for folder in (rig.out / "set_aside").glob("take-*")]
        assert max([lengths.get(episode, 0), *aside]) >= frames - FPS, (frames, lengths, told["recovered"])


def _aside(folder: Path) -> int:
    return int(json.loads((folder / "reason.json").read_text()).get("frames", 0))


def test_room_is_that_of_the_disk_that_the_dataset_will_be_on(tmp_path: Path) -> None:
    free = free_bytes(tmp_path / "not" / "yet" / "there")
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
