"""Recording over HTTP: a real session behind the real socket, on a robot whose clock is moved by hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from robot.mailbox import Mailbox, from_json, to_json
from robot.recording.reader import Dataset
from robot.seqlock import SharedBlock
from services.recording.status import status
from services.status_board import ProcessInfo
from tests.services.conftest import PICKUP, Service, Thread
from tests.services.recorder_samples import CAMERAS, Recording


class ScriptedRecorder(Thread):
    """A session as its process serves it, quicker than the clock."""

    def __init__(self, service: Service, out: Path, **options: Any) -> None:
        super().__init__()
        self.recording = Recording(out, **options).ready()
        self.mailbox = Mailbox(service.runtime.recorder_socket)
        self.block = SharedBlock.create(service.runtime.recorder_status_name, 32 * 1024)

    def step(self) -> None:
        for payload, sender in self.mailbox.drain():
            self.mailbox.reply(sender, to_json(self.recording.session.command(from_json(payload))))
        self.recording.pass_time(0.05)
        told = status(self.recording.session, CAMERAS, self.recording.robot.now_s)
        self.block.write(to_json({"pid": os.getpid(), **told}))

    def close(self) -> None:
        self.join()
        self.recording.session.command({"op": "stop"})
        self.recording.pass_time(1.0)
        self.mailbox.close()
        self.block.close()


@pytest.fixture
def recorded(service: Service, tmp_path: Path) -> Iterator[ScriptedRecorder]:
    recorder = ScriptedRecorder(service, tmp_path / "out", pickup="required")
    service.description["recording"] = recorder.recording.options.model_dump(mode="json")
    recorder.start()
    service.until(lambda: service.http.get("/v1/recording").status_code == 200)
    yield recorder
    recorder.close()


def told(service: Service) -> dict[str, Any]:
    return dict(service.http.get("/v1/recording").json())


def post(service: Service, call: str, status: int, **body: Any) -> dict[str, Any]:
    answer = service.http.post(f"/v1/recording/{call}", json=body) if body else None
    answer = answer or service.http.post(f"/v1/recording/{call}")
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def test_a_session_over_http(service: Service, recorded: ScriptedRecorder, tmp_path: Path) -> None:
    point = {"x_m": 0.2, "y_m": 0.1}
    assert told(service)["state"] == "idle"
    assert service.http.get("/readyz").json()["checks"]["recorder"] == "ok"
    assert post(service, "next", 200, pickup=point)["state"] == "finishing"
    service.until(lambda: told(service)["frames"] > 20)
    post(service, "next", 200, pickup=point, label="success", task="stack")
    service.until(lambda: told(service)["frames"] > 20 and told(service)["task"] == "stack")
    post(service, "redo", 200)
    service.until(lambda: told(service)["seconds"] > 0.5)
    post(service, "label", 200, label="failure")
    assert post(service, "finish", 200)["state"] == "finishing"
    service.until(lambda: told(service)["state"] == "idle" and told(service)["kept"] == 2)
    last = told(service)["last"]
    assert (last["episode"], last["label"], last["reason"]) == (1, "failure", None)
    service.until(lambda: told(service)["committed"] == 2)
    post(service, "discard", 200)
    service.until(lambda: told(service)["committed"] == 1)
    assert post(service, "stop", 200)["state"] in ("finishing", "ended")
    service.until(lambda: told(service)["state"] == "ended")
    assert post(service, "next", 409, pickup=point)["code"] == "ended"
    dataset = Dataset(tmp_path / "out")
    assert (dataset.load(0)["success"] == 1).all() and len(dataset.episodes) == 1


def test_what_is_refused_says_why(service: Service, recorded: ScriptedRecorder) -> None:
    problem = post(service, "next", 409)
    assert problem["code"] == "no_pickup" and "x_m" in problem["remedy"] and problem["state"] == "idle"
    assert post(service, "discard", 409)["code"] == "nothing_to_discard"
    assert post(service, "label", 409, label="success")["code"] == "no_episode"
    for call, body in (
        ("next", {"label": "fine"}),
        ("next", {"pickup": {"x_m": "0.2", "y_m": 0}}),
        ("label", {"speed": 1}),
        ("finish", {"task": "stack"}),
        ("discard", {"label": "success"}),
    ):
        assert post(service, call, 422, **body)["code"] == "invalid_request"
    assert told(service)["state"] == "idle"


def test_a_running_pickup_says_where_the_object_lies(service: Service, recorded: ScriptedRecorder) -> None:
    service.start()
    assert service.pick().status_code == 202
    service.until(lambda: service.mode() == "running")
    post(service, "next", 200)
    service.until(lambda: recorded.recording.session.episode is not None)
    point = recorded.recording.session.episode.about.pickup
    assert (point.x_m, point.y_m) == PICKUP


def test_without_a_recorder_there_is_none(service: Service, tmp_path: Path) -> None:
    for call in ("", "/next", "/stop"):
        answer = service.http.request("POST" if call else "GET", f"/v1/recording{call}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_recording")
    service.description["recording"] = {"pickup": "none"}
    assert service.http.get("/readyz").json()["checks"]["recorder"] == "being started"
    assert service.http.get("/v1/recording").status_code == 503
    answer = service.http.post("/v1/recording/next")
    assert (answer.status_code, answer.json()["code"]) == (503, "recorder_unavailable")


def test_a_recorder_that_died_is_not_taken_for_one_that_lives(
    service: Service, recorded: ScriptedRecorder
) -> None:
    service.board.processes["recorder"] = ProcessInfo("running", os.getpid())
    service.board.publish()
    assert told(service)["state"] == "idle"
    service.board.processes["recorder"] = ProcessInfo("restarting", None)
    service.board.publish()
    service.until(lambda: service.http.get("/v1/recording").status_code == 503)
