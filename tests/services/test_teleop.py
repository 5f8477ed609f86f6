"""A person drives through the API: sessions, takeovers, intents, and how each of them ends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from robot.joints import JOINTS
from robot.mailbox import Mailbox, from_json
from tests.services import conftest
from tests.services.conftest import APPROACH, EVIDENCE, GOOD_RUN, PICKUP, RETREAT, Service

LIMIT_S = 0.9
"""Of the policy in a pickup."""
STALE_S = 0.5
"""Age of a chunk at which the policy has stalled."""
JOG = {"kind": "jog", "vx_mps": 0.05}


@pytest.fixture(scope="module")
def module_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(tmp_path_factory.mktemp("teleop"))
    made.description["twin"]["leader"] = "/dev/pts/9"
    made.config = made.config.model_copy(update={"leader_calibration": "leader.json"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conftest, "EVIDENCE", replace(EVIDENCE, limit_s=LIMIT_S))
        patch.setattr("services.pickups.watch.STALE_CHUNK_S", STALE_S)
        made.serve()
        made.until(lambda: made.http.get("/readyz").status_code == 200)
        yield made
    made.close()


@pytest.fixture
def service(module_service: Service) -> Iterator[Service]:
    """The arm ready, nobody driving, as in a new service."""
    made = module_service
    made.controller.status["faults"] = []
    made.controller.silent = False
    made.controller.script = GOOD_RUN
    made.worker.status.pop("blind", None)
    made.worker.status["pid"] = 12
    made.board.processes["worker"].pid = 12
    made.board.publish()
    made.controller.now("hold")
    made.start()
    made.until(lambda: not teleop(made)["active"])
    made.controller.commands.clear()
    made.worker.commands.clear()
    yield made
    for pickup in made.http.get("/v1/pickups").json():
        made.http.post(f"/v1/pickups/{pickup['id']}/cancel")
    made.http.post("/v1/stop")


@pytest.fixture
def intents(service: Service) -> Iterator[Mailbox]:
    """Where the controller takes intents."""
    mailbox = Mailbox(service.runtime.teleop_socket)
    yield mailbox
    mailbox.close()


def teleop(service: Service) -> dict[str, Any]:
    return dict(service.http.get("/v1/teleop").json())


def post(service: Service, command: str, **body: Any) -> dict[str, Any]:
    answer = service.http.post(f"/v1/teleop/{command}", json=body or None)
    return {"status": answer.status_code, **answer.json()}


def begin(service: Service, source: str = "teleop") -> None:
    answer = post(service, "start", source=source)
    assert answer["status"] == 200 and answer["active"] and answer["source"] == source, answer


def taken(mailbox: Mailbox) -> list[dict[str, Any]]:
    return [from_json(payload) for payload, _ in mailbox.drain()]


def corrected(service: Service, source: str = "teleop") -> str:
    """A pickup that goes nowhere by itself, in a person's hands."""
    service.controller.script = (APPROACH, RETREAT)
    location = str(service.pick().headers["Location"])
    service.until(lambda: service.http.get(location).json()["status"] == "running")
    answer = post(service, "take_over", source=source)
    assert answer["status"] == 200 and answer["intervening"], answer
    return location


# -- sessions ----------------------------------------------------------------------------------------------


def test_a_session_from_beginning_to_end(service: Service) -> None:
    assert teleop(service)["available"] == ["leader", "teleop"]
    begin(service, "leader")
    (run,) = (c for c in service.controller.commands if c["op"] == "run")
    assert run["source"] == "leader" and run["args"] == {"engage": "approach"}
    assert teleop(service)["run_id"] == run["run_id"] and not teleop(service)["intervening"]
    service.controller.status["teleop"] = {
        "engaged": False, "away": {"elbow_flex": 12.5}, "limited": None, "refused": 0
    }  # fmt: skip
    service.until(lambda: teleop(service)["away"] == {"elbow_flex": 12.5})
    assert teleop(service)["engaged"] is False
    service.controller.status["teleop"] = None
    metrics = service.http.get("/metrics").text
    assert 'arm_source{source="leader"} 1.0' in metrics and 'arm_source{source="policy"} 0.0' in metrics
    answer = post(service, "stop")
    assert answer["status"] == 200 and not answer["active"] and answer["reason"] == "ended on request"
    assert {"op": "end_run", "run_id": run["run_id"]} in service.controller.commands
    service.until(lambda: service.mode() == "ready")
    assert service.worker.commands == []


def test_ending_what_never_began_is_fine(service: Service) -> None:
    assert post(service, "stop")["status"] == 200
    assert service.controller.moving() == []


def test_it_begins_from_ready_alone_and_says_what_to_do(service: Service) -> None:
    service.http.post("/v1/stop")
    service.until(lambda: service.mode() == "hold")
    answer = post(service, "start", source="teleop")
    assert (answer["status"], answer["code"], answer["remedy"]) == (409, "not_started", "POST /v1/start")
    service.controller.fault("servo_missing")
    service.until(lambda: service.mode() == "fault")
    answer = post(service, "start", source="teleop")
    assert (answer["status"], answer["code"]) == (409, "fault_latched")
    assert not any(c["op"] == "run" for c in service.controller.commands)


def test_a_session_and_a_pickup_exclude_each_other(service: Service) -> None:
    begin(service)
    refused = service.pick()
    assert (refused.status_code, refused.json()["code"]) == (409, "busy")
    assert refused.json()["remedy"] == "POST /v1/teleop/stop first"
    assert post(service, "start", source="leader")["code"] == "busy"
    assert post(service, "take_over", source="leader")["code"] == "no_policy_run"
    post(service, "stop")
    service.until(lambda: service.mode() == "ready")
    service.controller.script = (APPROACH, RETREAT)
    assert service.pick().status_code == 202
    answer = post(service, "start", source="teleop")
    assert (answer["status"], answer["code"]) == (409, "busy") and "take_over" in answer["remedy"]


def test_run_numbers_are_never_used_twice(service: Service) -> None:
    begin(service)
    first = teleop(service)["run_id"]
    post(service, "stop")
    service.until(lambda: service.mode() == "ready")
    service.controller.status["run_id"] = 0  # as of a controller that was started again
    service.until(lambda: service.http.get("/v1/state").json()["run"]["run_id"] == 0)
    begin(service)
    assert teleop(service)["run_id"] == first + 1


def test_a_stop_ends_a_session_and_nothing_is_sent_after_it(service: Service) -> None:
    begin(service)
    service.http.post("/v1/stop", json={"level": "park"})
    service.until(lambda: not teleop(service)["active"])
    assert teleop(service)["reason"] == "stopped (park)"
    assert service.controller.moving()[-1] == {"op": "stop", "level": "park"}


def test_a_fault_ends_a_session_and_is_the_reason(service: Service) -> None:
    begin(service)
    service.controller.fault("leader_lost")
    service.until(lambda: not teleop(service)["active"])
    assert teleop(service)["reason"].startswith("leader_lost: ")
    assert not any(c["op"] == "stop" for c in service.controller.commands)  # it holds by itself


def test_what_the_controller_ends_is_over_in_its_words(service: Service) -> None:
    begin(service)
    service.controller.status["reason"] = "longest duration reached"
    service.controller.later("hold", "ready")
    service.until(lambda: not teleop(service)["active"])
    assert teleop(service)["reason"] == "longest duration reached"


def test_a_controller_that_falls_silent_ends_the_session_and_is_told_to_hold(service: Service) -> None:
    begin(service)
    service.controller.silent = True
    service.until(lambda: not teleop(service)["active"])
    assert "controller process died" in teleop(service)["reason"]
    service.until(lambda: any(c["op"] == "end_run" for c in service.controller.commands))
    assert post(service, "start", source="teleop")["status"] == 503


def test_a_start_that_the_controller_refuses_leaves_nobody_driving(service: Service) -> None:
    service.controller.status_lag_s = 0.5  # the API still sees the arm ready
    service.http.post("/v1/stop")
    answer = post(service, "start", source="teleop")
    service.controller.status_lag_s = 0.0
    assert (answer["status"], answer["code"]) == (409, "not_ready")
    assert not teleop(service)["active"]
    service.until(lambda: service.mode() == "hold")


# -- intents -----------------------------------------------------------------------------------------------


def test_intents_reach_the_controller_while_teleop_drives(service: Service, intents: Mailbox) -> None:
    assert post(service, "intent", **JOG)["code"] == "not_driving"
    begin(service, "leader")
    assert "leader" in post(service, "intent", **JOG)["detail"]
    post(service, "stop")
    service.until(lambda: service.mode() == "ready")
    begin(service)
    assert post(service, "intent", **JOG) == {"status": 200, "taken": True}
    assert post(service, "intent", kind="goto", z_m=0.2)["status"] == 200
    jog, goto = taken(intents)
    assert jog["vx_mps"] == 0.05 and goto == {"kind": "goto", "z_m": 0.2}


def test_what_is_no_intent_is_refused(service: Service, intents: Mailbox) -> None:
    begin(service)
    headers = {"content-type": "application/json"}
    for body in (
        "{}", "[]", '{"kind": "dance"}', '{"kind": "jog", "vx": 1}', '{"kind": "goto"}', "{",
        '{"kind": "jog", "vx_mps": NaN}', '{"kind": "jog", "vx_mps": 1e999}',
        '{"kind": "jog", "vx_mps": "1"}', '{"kind": "joints", "rates": [1, 2, 3]}', '{"kind": "gripper"}',
    ):  # fmt: skip
        answer = service.http.post("/v1/teleop/intent", content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), body
        assert "dance" not in answer.text
    assert taken(intents) == []


def test_a_stream_of_intents_answers_problems_alone_and_its_end_is_a_halt(
    service: Service, intents: Mailbox
) -> None:
    begin(service)
    with connect(f"ws://127.0.0.1:{service.port}/v1/teleop/intents") as ws:
        for _ in range(5):
            ws.send(json.dumps(JOG))
        ws.send('{"kind": "jog", "vx_mps": 1e999}')
        assert json.loads(ws.recv(10))["code"] == "invalid_request"
        ws.send(b"\x00\x01")
        ws.send(json.dumps(JOG))
        with pytest.raises(TimeoutError):  # the same complaint is not repeated at once
            ws.recv(0.2)
        came = taken(intents)
        service.until(lambda: came.extend(taken(intents)) or len(came) >= 6)
        assert [intent["kind"] for intent in came] == ["jog"] * 6
    service.until(lambda: taken(intents) == [{"kind": "halt"}])


def test_a_stream_after_the_session_is_told_so_and_stays_open(service: Service) -> None:
    with connect(f"ws://127.0.0.1:{service.port}/v1/teleop/intents") as ws:
        for _ in range(80):
            ws.send(json.dumps(JOG))
        problem = json.loads(ws.recv(10))
        assert (problem["code"], problem["status"]) == ("not_driving", 409) and problem["remedy"]
        ws.send("nonsense")
        assert json.loads(ws.recv(10))["code"] == "invalid_request"


def test_a_stream_of_nonsense_is_closed(service: Service) -> None:
    with connect(f"ws://127.0.0.1:{service.port}/v1/teleop/intents") as ws:
        for _ in range(50):
            ws.send("x" * 5000)
        ws.recv(10)
        with pytest.raises(ConnectionClosed, match="1008"):
            ws.recv(10)


def test_a_foreign_page_gets_no_stream(service: Service) -> None:
    with (
        pytest.raises(InvalidStatus),
        connect(f"ws://127.0.0.1:{service.port}/v1/teleop/intents", origin="http://evil.example"),  # type: ignore[arg-type]
    ):
        pass


# -- takeovers ---------------------------------------------------------------------------------------------


def test_a_takeover_and_its_end_in_the_policys_hands(service: Service) -> None:
    location = corrected(service, "leader")
    switch = service.controller.moving()[-1]
    run_id = service.http.get(location).json()["run_id"]
    assert switch == {"op": "switch", "run_id": run_id, "source": "leader", "args": {"engage": "match"}}
    assert service.http.get("/v1/state").json()["run"]["intervening"]
    assert post(service, "take_over", source="teleop")["code"] == "busy"
    assert post(service, "stop")["code"] == "busy"
    service.worker.commands.clear()
    begun: list[str] = []
    service.worker.on_begin = lambda: begun.append(service.controller.status["source"])
    answer = post(service, "hand_back")
    assert answer["status"] == 200 and not answer["intervening"] and not answer["active"], answer
    assert begun == ["leader"]  # the worker had begun before the controller turned to it
    assert service.worker.commands[0]["run_id"] == run_id
    back = service.controller.moving()[-1]
    assert (back["op"], back["source"], back["args"]["run_id"]) == ("switch", "policy", run_id)
    assert back["args"]["mode"] == "ensemble" and back["args"]["resume"]
    assert answer["reason"] == "handed back to the policy"
    assert post(service, "hand_back")["code"] == "not_driving"


def test_the_persons_time_is_not_the_policys_and_nothing_of_the_policy_ends_it(service: Service) -> None:
    location = corrected(service)
    service.worker.status.update(blind={"code": "camera_black", "message": "dark"}, run_id=1, state="error")
    service.board.processes["worker"].pid = None
    service.board.publish()
    time.sleep(LIMIT_S + STALE_S / 2)
    assert service.http.get(location).json()["status"] == "running"
    service.worker.status.pop("blind")
    service.worker.status["state"] = "running"
    answer = post(service, "hand_back")
    assert (answer["status"], answer["code"]) == (503, "policy_worker_lost")
    assert teleop(service)["intervening"]  # the person drives on
    service.board.processes["worker"].pid = 12
    service.board.publish()
    service.until(lambda: post(service, "hand_back")["status"] == 200)
    pickup = service.ended(location)
    assert pickup["reason"] == "timeout", pickup
    assert pickup["intervened"] and pickup["intervened_s"] > LIMIT_S
    assert pickup["evidence"]["elapsed_s"] - pickup["intervened_s"] > LIMIT_S - 0.02


def test_what_a_person_puts_into_the_bowl_is_judged_as_usual(service: Service) -> None:
    service.cameras.cube = PICKUP
    service.controller.script = ((0.5, *APPROACH[1:]), *GOOD_RUN[1:])
    location = str(service.pick().headers["Location"])
    service.until(lambda: service.http.get(location).json()["status"] == "running")
    assert post(service, "take_over", source="teleop")["intervening"]
    pickup = service.ended(location)
    assert (pickup["status"], pickup["intervened"]) == ("succeeded", True), pickup
    service.cameras.cube = PICKUP
    service.until(lambda: not teleop(service)["active"])


def test_handed_back_the_arm_may_take_its_time_to_where_chunks_count(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(service.worker.status, "start_pose", dict.fromkeys(JOINTS, 10.0))
    location = corrected(service)
    time.sleep(STALE_S)
    monkeypatch.setattr(service.controller, "chunk_age", -1)
    assert post(service, "hand_back")["status"] == 200
    pickup = service.ended(location)
    assert pickup["reason"] == "timeout", pickup


def test_a_stop_and_a_cancel_end_a_correction(service: Service) -> None:
    location = corrected(service)
    service.http.post(f"{location}/cancel")
    assert service.ended(location)["status"] == "cancelled"
    service.until(lambda: service.mode() == "ready" and not teleop(service)["active"])
    location = corrected(service)
    service.http.post("/v1/stop")
    assert service.ended(location)["reason"] == "stopped (hold)"
    assert service.controller.moving()[-1] == {"op": "stop", "level": "hold"}
    assert post(service, "hand_back")["code"] == "not_driving"


def test_a_takeover_that_is_refused_leaves_the_policy_driving(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.controller.script = (APPROACH, RETREAT)
    location = str(service.pick().headers["Location"])
    service.until(lambda: service.http.get(location).json()["status"] == "running")
    answer_as_usual = service.controller.answer

    def refuse(command: dict[str, Any]) -> dict[str, Any]:
        if command["op"] == "switch":
            return {"ok": False, "code": "source_failed", "message": "the leader cannot be had"}
        return answer_as_usual(command)

    monkeypatch.setattr(service.controller, "answer", refuse)
    answer = post(service, "take_over", source="leader")
    assert (answer["status"], answer["code"]) == (409, "source_failed")
    assert not teleop(service)["active"] and not service.http.get(location).json()["intervened"]


def test_docs_tell_of_teleoperation(service: Service) -> None:
    page = service.http.get("/docs").text
    for part in ("/v1/teleop/take_over", "/v1/teleop/intents", "vx_mps", "leader | teleop"):
        assert part in page
