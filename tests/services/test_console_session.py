from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from robot.errors import CommandError
from services.console.actions import KEYS
from services.console.client import ServiceClient
from services.console.run import _attached
from services.console.screen import PlainView
from services.console.session import SessionOptions
from services.console.status import Status, Watch
from services.recording.options import PickupPoint
from tests.services.console_rig import CUBE, FakeService, Sitting, faked


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FakeService, ServiceClient]]:
    with faked() as found:
        yield found


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks come so often that no test waits for one."""
    monkeypatch.setattr("services.console.session.LOOK_S", 0.02)
    monkeypatch.setattr("services.console.status.PERIOD_S", 0.02)


@contextlib.contextmanager
def sitting(running: tuple[FakeService, ServiceClient], **options: Any) -> Iterator[Sitting]:
    service, client = running
    service.reset()
    made = Sitting(service, client, SessionOptions(**options))
    with made.session:
        made.session.begin()
        yield made


def test_enter_begins_and_a_key_becomes_a_jog_and_then_a_halt(running: Any) -> None:
    with sitting(running, driver="keyboard") as made:
        made.press("w")
        assert "Enter begins" in made.view.lines[0]
        made.press("enter")
        made.done("start", "teleop/start")
        made.until(lambda: made.view.status.driving)
        assert made.view.status.mode == "running"
        made.press("w")
        made.until(lambda: {"kind": "halt"} in made.service.intents)
        jogs = made.service.intents[:-1]
        assert made.service.intents[-1] == {"kind": "halt"}
        assert all(set(jog) == {"kind", "vx_mps"} and jog["vx_mps"] > 0 for jog in jogs)
        assert sum(jog["vx_mps"] for jog in jogs) / 50 == pytest.approx(0.010)
        made.press("q")
        made.done("teleop/stop")
        assert made.over.wait(2.0)


def test_a_stop_waits_for_nothing_and_nothing_moves_after_it(running: Any) -> None:
    with sitting(running, driver="leader", recording=True) as made:
        made.service.slow_s["/v1/start"] = 0.3
        made.press("enter", "enter")
        made.until(made.service.posted)
        made.press("space")
        made.until(lambda: "stop" in made.service.posted())
        assert made.service.posted() == ["start", "stop"], "it came before the start was through"
        made.until(lambda: made.service.mode == "hold" and len(made.service.calls) > 2)
        made.until(lambda: made.view.lines.count("the arm was stopped: Enter begins anew") == 2)
        made.done("start", "stop", "stop")
        made.press("enter")
        made.done("start", "teleop/start", "recording/next")


def test_a_stop_that_is_not_confirmed_is_tried_again_and_said(running: Any) -> None:
    with sitting(running, driver="leader") as made:
        made.service.refuse["/v1/stop"] = ["controller_unavailable"] * 3
        made.press("space")
        made.until(lambda: any("NOT CONFIRMED" in line for line in made.view.lines))
        assert made.service.posted() == ["stop"] * 3


def test_episodes_by_keys(running: Any) -> None:
    with sitting(running, driver="leader", recording=True) as made:
        made.press("right")
        made.done("start", "teleop/start", "recording/next")
        made.press("right")
        made.done("recording/next")
        made.press("1")
        made.until(made.service.posted)
        assert made.service.calls == [("/v1/recording/finish", {"label": "success"})]
        made.done("recording/finish")
        made.press("0")
        made.until(lambda: any("no episode is open" in line for line in made.view.lines))
        made.press("enter", "backspace", "delete", "p")
        made.done("recording/next", "recording/redo", "recording/discard", "recording/finish")
        made.press("escape")
        made.done("recording/stop", "teleop/stop")
        assert made.over.wait(2.0) and made.session.status.recording is not None
        assert made.session.status.recording["kept"] == 1, "as it was after the last episode"


def test_recording_begins_once_the_recorder_sees_who_drives(running: Any) -> None:
    with sitting(running, driver="leader", recording=True) as made:
        made.service.refuse["/v1/recording/next"] = ["not_running", "not_running"]
        made.press("enter")
        made.done("start", "teleop/start", *["recording/next"] * 3)
        made.service.refuse["/v1/recording/next"] = ["disk_full"]
        made.press("enter")
        made.until(lambda: "disk_full!: do so" in made.view.lines)


def test_a_correction_from_pickup_to_label(running: Any) -> None:
    with sitting(running, driver="leader", recording=True, corrections=True) as made:
        made.press("enter")
        made.until(lambda: len(made.service.calls) == 4)
        assert ("/v1/pickups", CUBE) in made.service.calls
        made.done("recording/finish", "start", "pickups", "recording/next")
        made.press("i", "b", "i", "1")
        expected = ["teleop/take_over", "teleop/hand_back", "teleop/take_over", "recording/finish"]
        made.done(*expected, "pickups/7/cancel")


@pytest.mark.parametrize(("status", "label"), [("succeeded", "success"), ("failed", "failure")])
def test_a_pickup_that_ends_by_itself_labels_its_episode(running: Any, status: str, label: str) -> None:
    point = PickupPoint(x_m=0.25, y_m=0.0)
    with sitting(running, driver="leader", recording=True, corrections=True, pickup=point) as made:
        made.press("enter")
        made.done("recording/finish", "start", "pickups", "recording/next")
        made.service.end_pickup(status)
        made.until(made.service.posted)
        assert made.service.calls == [("/v1/recording/finish", {"label": label})]
        assert any(status in line for line in made.view.lines)


def test_a_policy_that_is_not_recorded_is_not_left_to_itself(running: Any) -> None:
    with sitting(running, driver="leader", recording=True, corrections=True) as made:
        made.service.refuse["/v1/recording/next"] = ["disk_full"]
        made.press("enter")
        made.done("recording/finish", "start", "pickups", "recording/next", "pickups/7/cancel")


def test_a_session_ends_when_all_is_recorded_or_its_time_is_over(running: Any) -> None:
    with sitting(running, driver="leader", recording=True) as made:
        assert made.service.recording is not None
        made.service.recording |= {"kept": 3, "episodes": 3}
        assert made.over.wait(3.0)
        made.done("recording/stop")
    with sitting(running, driver="leader", begins=True, seconds=0.3) as made:
        assert made.over.wait(3.0)
        made.done("start", "teleop/start", "teleop/stop")


def test_keys_of_recording_and_correcting_say_where_they_belong(running: Any) -> None:
    with sitting(running, driver="leader") as made:
        made.press("1", "i")
        made.until(lambda: len(made.view.lines) == 2)
        assert "so101 record" in made.view.lines[0] and "--policy" in made.view.lines[1]
        assert made.service.calls == []


def test_a_fault_is_told_once_and_cleared_by_a_key(running: Any) -> None:
    with sitting(running, driver="leader") as made:
        warm = {"code": "warm", "severity": "warn", "message": "it is warm", "remedy": "wait"}
        lost = {"code": "servo_lost", "severity": "hold", "message": "it is silent", "remedy": "plug it in"}
        made.service.faults = [warm, lost]
        made.until(lambda: made.view.status.faults)
        made.press("k")
        made.done("faults/clear")
        made.until(lambda: not made.view.status.faults)
        assert [line for line in made.view.lines if "fault " in line] == [
            "fault servo_lost: it is silent: plug it in"
        ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_session_in_order(running: Any, number: signal.Signals) -> None:
    service, client = running
    service.reset()
    made = Sitting(service, client, SessionOptions(driver="leader", recording=True, begins=True))

    def kill() -> None:
        made.until(lambda: made.view.status.driving)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    killer = threading.Thread(target=kill)
    killer.start()
    with made.session:
        _attached(made.session, made.over, made.session.begin)
    killer.join()
    assert service.posted()[-2:] == ["recording/stop", "teleop/stop"]
    assert signal.getsignal(number) is before


def test_an_arm_is_let_go_of_though_the_recorder_does_not_answer(running: Any) -> None:
    with sitting(running, driver="leader", recording=True, begins=True) as made:
        made.until(lambda: made.view.status.driving)
        made.service.refuse["/v1/recording/stop"] = ["recorder_unavailable"]
        made.press("q")
        assert made.over.wait(3.0)
        assert made.service.posted()[-2:] == ["recording/stop", "teleop/stop"]
        assert any("is not known: recorder_unavailable!" in line for line in made.view.lines)


def test_keys_before_the_service_is_up_move_nothing_later(running: Any) -> None:
    service, client = running
    service.reset()
    service.mode, service.source = "running", "teleop"
    made = Sitting(service, client, SessionOptions(driver="keyboard"))
    with made.session:
        made.press("w", "w", "w")
        made.session.begin()
        made.until(lambda: made.view.status.driving)
        made.press("a")
        made.until(lambda: {"kind": "halt"} in service.intents)
        assert all("vx_mps" not in intent for intent in service.intents)


def test_keys_of_a_person_do_nothing_while_the_expert_plays_one() -> None:
    service = ServiceClient("http://127.0.0.1:9")
    options = SessionOptions(driver="expert", recording=True, corrections=True)
    made = Sitting(FakeService(), service, options)
    for key in ("i", "b", "1", "left", "delete"):
        made.session._do(KEYS[key])
    assert made.view.lines == ["the expert decides: space stops the arm, q ends"] * 5
    assert all(word not in str(options.hints) for word in ("take over", "redo"))


@pytest.mark.parametrize(
    ("modes", "words"),
    [(["ready", "parking", "off"], "has ended"), (["ready", "off"], "not answer"), ([], "not answer")],
)
def test_a_service_that_has_parked_has_ended_and_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, modes: list[str], words: str
) -> None:
    lines: list[str] = []
    said, view = threading.Event(), PlainView(lines.append)
    left = iter(modes)

    def look(client: ServiceClient, *, recording: bool) -> Status:
        for mode in left:
            return Status(mode)
        raise CommandError("it does not answer", code="unreachable")

    def on_status(status: Status) -> None:
        view.show(status)
        if status.error is not None:
            said.set()

    monkeypatch.setattr("services.console.status.look", look)
    monkeypatch.setattr("services.console.status.PERIOD_S", 0.01)
    with Watch(ServiceClient("localhost:9"), recording=False, on_status=on_status):
        assert said.wait(5.0)
    assert words in lines[-1]


def test_a_service_that_goes_away_is_said_and_looked_for_again() -> None:
    with faked() as (service, client), contextlib.ExitStack() as stack:
        made = Sitting(service, client, SessionOptions(driver="dashboard"))
        stack.enter_context(made.session)
        made.session.begin()
        made.until(lambda: made.view.status.error is None and made.view.status.mode == "off")
        stack.pop_all().close()
        gone = Sitting(service, ServiceClient("http://127.0.0.1:9"), SessionOptions(driver="dashboard"))
        with gone.session:
            gone.session.begin()
            gone.until(lambda: "does not answer" in str(gone.view.status.error))
            gone.press("enter")
            gone.until(lambda: any("does not answer" in line for line in gone.view.lines))
