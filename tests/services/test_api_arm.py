from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.sync.client import connect

from robot.telemetry import MODES, empty_record
from services.api.state import clearable
from services.api.telemetry import Outbox
from tests.services.conftest import Service

pytestmark = pytest.mark.slow

JSON = {"content-type": "application/json"}


def test_state_names_units_and_everything_that_matters(service: Service) -> None:
    service.start()
    state = service.http.get("/v1/state").json()
    assert state["mode"] == "ready" and state["fresh"]
    pan, gripper = state["joints"]["shoulder_pan"], state["joints"]["gripper"]
    assert {"position_deg", "velocity_dps", "load_pct", "current_ma", "voltage_v", "temperature_c"} <= set(
        pan
    )
    assert "position_pct" in gripper and "position_deg" not in gripper
    assert pan["temperature_c"] == 31.0 and set(state["tool"]) == {"x_m", "y_m", "z_m"}
    assert state["control"]["lateness_ms"]["p99"] == 0.8 and set(state["control"]["lateness_ms"]) == {
        "p50", "p99", "p999", "max",
    }  # fmt: skip
    assert state["policy"]["provider"] == "CPUExecutionProvider" and state["execution"]["mode"] == "ensemble"
    assert state["cameras"]["overhead"]["age_ms"] < 1000 and state["cameras"]["overhead"]["calibrated"]
    assert service.http.get("/v1/policies").json() == [state["policy"]]


def test_start_is_idempotent(service: Service) -> None:
    service.start()
    assert service.http.post("/v1/start").json()["mode"] == "ready"


@pytest.mark.parametrize("level", ["hold", "park", "release"])
def test_stop_in_every_state(service: Service, level: str) -> None:
    for mode in MODES:
        service.controller.status["mode"] = mode
        answer = service.http.post("/v1/stop", json={"level": level})
        assert answer.status_code == 200 and answer.json()["stopped"], mode
        assert service.controller.moving()[-1] == {"op": "stop", "level": level}


STOPS: list[tuple[bytes | None, dict[str, str], int]] = [
    (None, {}, 200),
    (b"", JSON, 200),
    (b"{}", JSON, 200),
    (b'{"level": "hold"}', {"content-type": "text/plain"}, 200),
    (b'{"level": "hold"}', {"origin": "http://elsewhere.example"}, 200),
    (b'{"level": "release"}', {"origin": "http://elsewhere.example"}, 200),
    (b'{"level": "park"}', {"origin": "null"}, 200),
    (b'{"level": "banana"}', JSON, 422),
    (b'{"level": NaN}', JSON, 422),
    (b'{"level": "hold", "why": 1}', JSON, 422),
    (b"not json", JSON, 422),
    (b"[" * 4000, JSON, 422),
    (b"x" * 200_000, JSON, 413),
]


def test_what_cannot_be_understood_still_stops(service: Service) -> None:
    for body, headers, status in STOPS:
        service.controller.status["mode"] = "ready"
        known = len(service.controller.moving())
        answer = service.http.post("/v1/stop", content=body, headers=headers)
        assert answer.status_code == status, (body, answer.text)
        assert service.controller.moving()[known:] == [{"op": "stop", "level": "hold"}], body
        if status != 200:
            assert answer.json()["code"] and "banana" not in answer.text


@pytest.mark.parametrize("leaves", [False, True])
def test_a_stop_does_not_wait_for_its_body(service: Service, leaves: bool) -> None:
    service.start()
    head = f"POST /v1/stop HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Length: 20\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as raw:
        raw.sendall(head.encode() + b'{"level"')
        if leaves:
            raw.shutdown(socket.SHUT_RDWR)
        else:
            assert b" 408 " in raw.recv(4096).splitlines()[0]
        service.until(lambda: {"op": "stop", "level": "hold"} in service.controller.commands)
    service.until(lambda: service.mode() == "hold")


def test_a_stop_answers_with_the_mode_that_it_led_to(service: Service) -> None:
    service.start()
    service.controller.status_lag_s = 0.1
    assert service.http.post("/v1/stop").json()["mode"] == "hold"


def test_commands_without_fields_take_none(service: Service) -> None:
    for path in ("/v1/start", "/v1/faults/clear", "/v1/pickups/nope/cancel"):
        for body in ('{"speed": 2}', '{"x": NaN}', "NaN", "[]", "not json"):
            answer = service.http.post(path, content=body, headers=JSON)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), (path, body)
    assert service.controller.moving() == []
    for body in ("", "{}"):
        assert service.http.post("/v1/start", content=body, headers=JSON).status_code == 200


def test_stop_is_answered_when_the_controller_is_not_there(service: Service) -> None:
    service.controller.deaf = True
    answer = service.http.post("/v1/stop")
    assert (answer.status_code, answer.json()["code"]) == (503, "controller_unavailable")
    assert "power" in answer.json()["remedy"]


@pytest.mark.parametrize(("level", "remedy"), [("release", "hold the arm"), ("park", "holds where it is")])
def test_stop_that_the_servos_do_not_take_names_the_joint_and_claims_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch, level: str, remedy: str
) -> None:
    refusal = {"ok": False, "code": "bus_error", "message": "elbow_flex (servo 3) is silent"}
    monkeypatch.setattr(service.controller, "answer", lambda command: refusal)
    answer = service.http.post("/v1/stop", json={"level": level})
    assert (answer.status_code, answer.json()["code"]) == (409, "bus_error")
    assert "elbow_flex" in answer.json()["detail"]
    assert remedy in answer.json()["remedy"]


def test_stop_does_not_wait_behind_a_flood_and_slow_work(service: Service) -> None:
    # Within the workspace, yet without a pose: the search over all approaches takes longest.
    wide = service.config.workspace.model_copy(update={"max_radius_m": 0.6})
    service.config = service.config.model_copy(update={"workspace": wide})
    service.end_serving()
    service.serve()
    service.start()
    done = threading.Event()
    answers: list[str] = []

    def flood() -> None:
        while not done.is_set():
            answers.append(service.pick(x_m=0.45, y_m=0.1).json()["detail"])

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert service.http.post("/v1/stop").status_code == 200
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert len(answers) >= len(threads) and all("nearest pose" in answer for answer in answers)


def test_start_with_a_latched_fault_is_refused_with_the_way_out(service: Service) -> None:
    service.controller.fault("servo_silent", active=False)
    answer = service.http.post("/v1/start")
    assert (answer.status_code, answer.json()["code"]) == (409, "fault_latched")
    assert "/v1/faults/clear" in answer.json()["remedy"]
    assert service.http.get("/v1/faults").json()["faults"][0]["joint"] == "elbow_flex"
    assert service.http.post("/v1/faults/clear").status_code == 200
    service.start()


def test_a_fault_whose_cause_is_there_stays(service: Service) -> None:
    service.controller.fault("servo_silent")
    service.until(lambda: bool(service.http.get("/v1/faults").json()["faults"]))
    answer = service.http.post("/v1/faults/clear")
    assert (answer.status_code, answer.json()["code"]) == (409, "fault_active")


def test_only_what_was_cleared_is_said_to_be(service: Service) -> None:
    for code, severity, active in (("servo_silent", "hold", False), ("gripper_strained", "warn", True),
                                   ("warm", "slow", True)):  # fmt: skip
        service.controller.fault(code, severity, active=active)
        service.controller.status["faults"][-1]["id"] = code
    service.board.raise_fault("controller_lost", "the controller was killed (signal 9)", "look at the arm")
    service.board.settle("controller_lost")
    service.until(lambda: len(service.http.get("/v1/faults").json()["faults"]) == 4)
    answer = service.http.post("/v1/faults/clear")
    assert answer.json() == {"cleared": ["servo_silent", "service-1"]}


def test_a_controller_that_is_silent_is_no_fault_to_clear(service: Service) -> None:
    service.controller.silent = True
    service.until(lambda: bool(service.http.get("/v1/faults").json()["faults"]))
    (fault,) = service.http.get("/v1/faults").json()["faults"]
    assert fault["code"] == "controller_silent" and not clearable(fault)
    assert service.http.post("/v1/faults/clear").json() == {"cleared": []}


def test_a_persons_start_acknowledges_a_process_that_runs_again(service: Service) -> None:
    service.board.raise_fault("controller_lost", "the controller was killed (signal 9)", "look at the arm")
    service.board.settle("controller_lost")
    service.until(lambda: bool(service.http.get("/v1/state").json()["faults"]))
    assert service.http.get("/readyz").json()["code"] == "not_ready"
    service.start()
    service.until(lambda: not service.http.get("/v1/state").json()["faults"])


def test_what_happened_stays_latched_when_the_start_is_not_taken(service: Service) -> None:
    service.board.raise_fault("controller_lost", "the controller was killed (signal 9)", "look at the arm")
    service.until(lambda: bool(service.http.get("/v1/state").json()["faults"]))
    active = service.http.post("/v1/start")
    assert (active.status_code, active.json()["code"]) == (409, "fault_active")
    service.board.settle("controller_lost")
    service.controller.deaf = True
    assert service.http.post("/v1/start").status_code == 503
    assert [fault.code for fault in service.board.faults] == ["controller_lost"]


def test_but_not_a_fault_of_the_arm_beside_it(service: Service) -> None:
    service.board.raise_fault("controller_lost", "the controller was killed (signal 9)", "look at the arm")
    service.board.settle("controller_lost")
    service.controller.fault("servo_silent", active=False)
    service.until(lambda: len(service.http.get("/v1/state").json()["faults"]) == 2)
    assert service.http.post("/v1/start").status_code == 409


def test_events_of_the_processes_are_told(service: Service) -> None:
    service.board.event("worker", "the policy worker was killed (signal 9); it is started again", "warn")
    service.until(lambda: bool(service.http.get("/v1/state").json()["events"]))
    assert "signal 9" in service.http.get("/v1/faults").json()["events"][0]["message"]


def test_commands_from_foreign_pages_are_refused(service: Service) -> None:
    answer = service.http.post("/v1/start", headers={"origin": "http://evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    own = {"origin": f"http://127.0.0.1:{service.port}"}
    assert service.http.post("/v1/start", headers=own).status_code == 200


def test_a_page_whose_name_was_made_to_lead_here_is_foreign(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The browser takes the service for the page's own: the origin is the host."""
    monkeypatch.setattr(socket, "gethostname", lambda: "Arm.lab.example")
    service.end_serving()
    service.description["api"] = {"host": "robot.example"}
    service.serve()
    for host in ("evil.example", "127.0.0.1.evil.example", "arm.local.evil.example:8000", "localhost.", "["):
        headers = {"host": host, "origin": f"http://{host}"}
        answer = service.http.post("/v1/start", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin"), host
        assert (
            service.http.post("/v1/stop", headers=headers, json={"level": "release"}).json()["level"]
            == "hold"
        )
    for host in (
        "localhost:8000",
        "192.168.1.7",
        "[::1]:80",
        "Arm",
        "arm.local",
        "arm.lab.example",
        "robot.example",
    ):
        headers = {"host": host, "origin": f"http://{host}"}
        assert service.http.post("/v1/start", headers=headers).status_code == 200, host


def test_heartbeats_are_sent(service: Service) -> None:
    def beats() -> int:
        return sum(c["op"] == "heartbeat" for c in service.controller.commands)

    service.until(lambda: beats() >= 3)


def test_telemetry_streams_at_the_rate_asked_for(service: Service) -> None:
    with connect(f"ws://127.0.0.1:{service.port}/v1/telemetry?hz=50") as ws:
        assert json.loads(ws.recv())["joints"][5] == "gripper"
        records = [json.loads(ws.recv()) for _ in range(10)]
    ticks = [record["tick"] for record in records]
    assert ticks == sorted(set(ticks)) and len(records[0]["position"]) == 6


def test_every_record_at_control_rate(service: Service) -> None:
    with connect(f"ws://127.0.0.1:{service.port}/v1/telemetry?hz=100") as ws:
        ws.recv()
        ticks = [json.loads(ws.recv())["tick"] for _ in range(30)]
    assert ticks == list(range(ticks[0], ticks[0] + 30))


@pytest.mark.parametrize("hz", ["0", "nan", "abc", "-3"])
def test_a_rate_that_is_none_is_refused(service: Service, hz: str) -> None:
    with (
        pytest.raises(Exception, match=r"403|1008"),
        connect(f"ws://127.0.0.1:{service.port}/v1/telemetry?hz={hz}") as ws,
    ):
        ws.recv()


def test_a_slow_reader_loses_the_oldest() -> None:
    async def play() -> tuple[int, int]:
        outbox = Outbox(4)
        for tick in range(10):
            record = empty_record()
            record["tick"] = tick
            outbox.put(record)
        return int((await outbox.get())["tick"]), outbox.dropped

    assert asyncio.run(play()) == (6, 6)


def test_pictures(service: Service) -> None:
    answer = service.http.get("/v1/cameras/overhead/frame.jpg")
    assert answer.headers["content-type"] == "image/jpeg" and float(answer.headers["x-frame-age-ms"]) < 1000
    image = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None and image.shape == (480, 640, 3)
    assert service.http.get("/v1/cameras/side/frame.jpg").json()["code"] == "no_such_camera"
    assert set(service.http.get("/v1/cameras").json()) == {"overhead", "wrist"}


def test_a_stopped_camera_is_said_to_be_stopped(service: Service) -> None:
    service.cameras.stopped = True
    service.until(lambda: service.http.get("/v1/cameras/wrist/frame.jpg").status_code == 503)
    assert service.http.get("/v1/cameras/wrist/frame.jpg").json()["code"] == "camera_stale"


def test_what_is_wrong_with_a_camera_is_told_wherever_it_is_missed(service: Service) -> None:
    assert service.http.get("/v1/cameras").json()["wrist"]["state"] == "streaming"
    service.cameras.error, service.cameras.stopped = "camera wrist: Permission denied", True
    service.until(lambda: service.http.get("/v1/cameras/wrist/frame.jpg").status_code == 503)
    assert "Permission denied" in service.http.get("/v1/cameras/wrist/frame.jpg").json()["detail"]
    assert "Permission denied" in service.http.get("/readyz").json()["checks"]["camera wrist"]
    told = service.http.get("/v1/state").json()["cameras"]["wrist"]
    assert (told["state"], told["error"]) == ("reconnecting", "camera wrist: Permission denied")
    service.board.processes["cameras"].pid = None
    service.board.publish()
    service.until(lambda: service.http.get("/v1/cameras").json()["wrist"]["error"] is None)


def test_motion_jpeg_is_encoded_once_for_all(service: Service) -> None:
    def first_frames(found: list[bytes]) -> None:
        with service.http.stream("GET", "/v1/cameras/wrist/stream.mjpg") as answer:
            assert "multipart/x-mixed-replace" in answer.headers["content-type"]
            for part in answer.iter_bytes():
                found.append(part)
                if b"".join(found).count(b"\xff\xd9") >= 3:
                    return

    parts: list[list[bytes]] = [[], []]
    threads = [threading.Thread(target=first_frames, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert all(b"".join(part).startswith(b"--so101frame\r\n") for part in parts)


def test_the_twin_is_placed_and_read(service: Service) -> None:
    truth = service.http.get("/v1/twin").json()
    assert {"cube", "confuser", "bowl", "cube_in_bowl"} <= set(truth) and "z_m" in truth["cube"]
    body: dict[str, Any] = {"cube": {"x_m": 0.2, "y_m": -0.1}, "confuser": {"x_m": 0.25, "y_m": 0.1}}
    placed = service.http.put("/v1/twin", json=body).json()
    assert placed["cube"]["y_m"] == -0.1 and placed["confuser"]["x_m"] == 0.25
    assert service.http.put("/v1/twin", json={"confuser": None}).json()["confuser"] is None
    service.twin.commands.clear()
    service.http.put("/v1/twin", json={"disc": {"x_m": 0.2, "y_m": 0.1}})
    service.http.put("/v1/twin", json={"disc": None})
    done = [command for command in service.twin.commands if command["op"] != "truth"]
    assert done == [{"op": "place_disc", "x_m": 0.2, "y_m": 0.1}, {"op": "remove_disc"}]


@pytest.mark.parametrize(
    "body",
    ['{"cube": {"x_m": NaN, "y_m": 0}}', '{"cube": {"x_m": "0.2", "y_m": 0}}', '{"cube": null}', "{}",
     '{"cube": {"x_m": 5, "y_m": 0}}', '{"bowl": {"x_m": 0.2, "y_m": 0}}', '{"cube": {"x_m": 0.2}}'],
)  # fmt: skip
def test_bad_placements_place_nothing(service: Service, body: str) -> None:
    answer = service.http.put("/v1/twin", content=body, headers=JSON)
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    assert service.twin.commands == []


def test_a_real_arm_has_no_twin(service: Service) -> None:
    service.end_serving()
    service.description["twin"] = None
    service.serve()
    for answer in (service.http.get("/v1/twin"), service.http.put("/v1/twin", json={"confuser": None})):
        assert (answer.status_code, answer.json()["code"]) == (404, "no_twin")


def test_health_metrics_and_documentation(service: Service) -> None:
    assert service.http.get("/healthz").json() == {"status": "ok"}
    assert service.http.get("/readyz").json()["ready"]
    text = service.http.get("/metrics").text
    for line in (
        'arm_tick_lateness_seconds{quantile="0.99"} 0.0008',
        'arm_joint_temperature_celsius{joint="gripper"} 31.0',
        "arm_ticks_missed_total 0.0",
        "arm_bus_errors_total 0.0",
        'policy_inference_latency_seconds{quantile="0.5"} 0.004',
        'camera_frame_age_seconds{camera="overhead"}',
        'api_requests_total{method="GET",route="/readyz",status="200"}',
    ):
        assert line in text, line
    schema = service.http.get("/openapi.json").json()
    assert "/v1/pickups" in schema["paths"]
    page = service.http.get("/docs").text
    assert "/v1/pickups" in page and "energise" in page.lower() and "number -2.0 to 2.0" in page
    assert "http://" not in page and "https://" not in page  # nothing is loaded from outside


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nothing", 404), ("DELETE", "/v1/state", 405)]
)
def test_unknown_routes_are_problems_too(service: Service, method: str, path: str, status: int) -> None:
    answer = service.http.request(method, path)
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"


def test_garbage_on_the_wire_leaves_the_service_alive(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as raw:
        raw.sendall(b"\x00\xff" * 200 + b"\r\n\r\n")
        time.sleep(0.05)
    assert service.http.get("/healthz").status_code == 200
