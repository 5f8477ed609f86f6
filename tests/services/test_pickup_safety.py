"""Pickups when a stop, a death or a failure comes at the wrong moment."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from robot.errors import CommandError
from services.api.app import _heartbeat
from services.api.link import ask
from tests.services.conftest import APPROACH, RETREAT, Service

pytestmark = pytest.mark.slow


def sent(service: Service, op: str) -> list[dict[str, Any]]:
    return [command for command in service.controller.commands if command["op"] == op]


def test_a_stop_while_the_worker_begins_leaves_the_arm_in_hold(service: Service) -> None:
    stops: list[int] = []
    service.worker.on_begin = lambda: stops.append(service.http.post("/v1/stop").status_code)
    service.start()
    pickup = service.ended(service.pick().headers["Location"])
    assert stops == [200]
    assert (pickup["status"], pickup["reason"]) == ("cancelled", "stopped (hold)")
    assert sent(service, "run") == [] and service.mode() == "hold"
    assert service.worker.commands[-1]["op"] == "end"


def test_a_run_that_the_status_does_not_show_yet_is_ended_all_the_same(service: Service) -> None:
    service.controller.script = (APPROACH, RETREAT)
    service.start()
    service.controller.status_lag_s = 0.5
    location = service.pick().headers["Location"]
    service.until(lambda: bool(sent(service, "run")))
    service.http.post(f"{location}/cancel")
    assert service.ended(location)["status"] == "cancelled"
    assert sent(service, "end_run")
    service.controller.status_lag_s = 0.0
    service.until(lambda: service.mode() == "ready")


def test_a_controller_that_is_gone_takes_no_pickup(service: Service) -> None:
    service.start()
    service.controller.silent = True
    service.until(lambda: not service.http.get("/v1/state").json()["fresh"])
    answer = service.pick()
    assert (answer.status_code, answer.json()["code"]) == (503, "controller_lost")
    assert answer.json()["remedy"] and service.worker.commands == []


def test_nor_one_whose_death_nobody_has_acknowledged(service: Service) -> None:
    service.start()
    service.board.raise_fault("controller_lost", "the controller was killed (signal 9)", "look at the arm")
    service.board.settle("controller_lost")
    answer = service.pick()
    assert (answer.status_code, answer.json()["code"]) == (409, "fault_latched")
    assert "signal 9" in answer.json()["detail"] and service.worker.commands == []


@pytest.mark.parametrize("pid", [None, 99])
def test_nor_does_a_worker_that_is_gone_or_has_not_spoken_yet(service: Service, pid: int | None) -> None:
    service.start()
    service.board.processes["worker"].pid = pid
    service.board.publish()
    answer = service.pick()
    assert (answer.status_code, answer.json()["code"]) == (503, "policy_worker_lost")
    assert service.worker.commands == []


def test_a_controller_that_dies_while_the_worker_begins_gets_no_run(service: Service) -> None:
    def die() -> None:
        service.controller.silent = True
        time.sleep(0.6)

    service.worker.on_begin = die
    service.start()
    pickup = service.ended(service.pick().headers["Location"])
    assert (pickup["status"], pickup["reason"]) == ("failed", "controller_lost")
    assert sent(service, "run") == []


def test_a_full_disk_keeps_no_pickup_from_its_end(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    journal = service.runtime.pickup_journal
    journal.mkdir()  # what cannot be written to, also by root
    service.start()
    assert service.ended(service.pick().headers["Location"])["status"] == "succeeded"
    assert "is not kept" in caplog.text and str(journal) in caplog.text
    journal.rmdir()


def test_a_bug_during_a_run_holds_the_arm_and_is_logged(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(watch: object) -> None:
        raise KeyError("position")

    monkeypatch.setattr("services.pickups.watch.RunWatch.look", broken)
    service.start()
    pickup = service.ended(service.pick().headers["Location"])
    assert (pickup["status"], pickup["reason"]) == ("failed", "internal_error")
    assert service.controller.moving()[-1] == {"op": "stop", "level": "hold"} and service.mode() == "hold"
    assert "KeyError: 'position'" in caplog.text


def test_a_bug_after_a_run_is_logged_and_the_next_pickup_is_taken(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object) -> None:
        raise ValueError("the pictures differ in size")

    with monkeypatch.context() as patch:
        patch.setattr("services.pickups.service.judge", broken)
        service.start()
        assert service.ended(service.pick().headers["Location"])["reason"] == "internal_error"
    assert "the pictures differ in size" in caplog.text
    assert service.pick().status_code == 202


class NoSockets:
    """A link in a process that has no descriptor left, and then has."""

    def __init__(self) -> None:
        self.tries = 0

    async def controller(self, op: str, timeout_s: float = 1.0) -> dict[str, Any]:
        self.tries += 1
        raise OSError(24, "Too many open files")


def test_heartbeats_survive_a_shortage_of_sockets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("services.api.app.HEARTBEAT_S", 0.01)
    link: Any = NoSockets()

    async def beat() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_heartbeat(link), 0.2)

    asyncio.run(beat())
    assert link.tries > 2

    def full(*arguments: object) -> None:
        raise OSError(24, "Too many open files")

    async def send() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", full)
            await ask(tmp_path / "controller.sock", {"op": "heartbeat"})

    with pytest.raises(CommandError, match=r"controller.sock.*Too many open files"):
        asyncio.run(send())
