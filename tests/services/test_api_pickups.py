from __future__ import annotations

import json
from typing import Any

import pytest

from robot.joints import JOINTS
from tests.services.conftest import (
    APPROACH,
    CARRY,
    GOOD_RUN,
    GRASP,
    LIFT,
    PICKUP,
    PX_PER_M,
    RETREAT,
    Service,
)

pytestmark = pytest.mark.slow

BESIDE = (0.2, (0.2, -0.1, 0.13), 60.0, 60.0, 1.0)
NAN = '{"x_m": NaN, "y_m": 0.0}'


def test_a_pickup_runs_and_succeeds_on_evidence(service: Service) -> None:
    service.start()
    answer = service.pick()
    assert answer.status_code == 202
    pickup = service.ended(answer.headers["Location"])
    assert (pickup["status"], pickup["reason"]) == ("succeeded", None), pickup
    assert (pickup["intervened"], pickup["intervened_s"]) == (False, 0.0)
    assert pickup["evidence"]["grasped"] and pickup["evidence"]["pictures"]["arrived_share"] > 0.5
    run = next(c for c in service.controller.commands if c["op"] == "run")
    assert run["source"] == "policy" and run["args"]["mode"] == "ensemble"
    begin = next(c for c in service.worker.commands if c["op"] == "begin")
    assert begin["pickup_xy_m"] == list(PICKUP) and begin["run_id"] == run["run_id"]
    assert service.worker.commands[-1]["op"] == "end"
    assert service.mode() == "ready"
    assert service.http.get("/v1/pickups").json()[0]["id"] == pickup["id"]
    assert 'pickups_total{result="succeeded"} 1.0' in service.http.get("/metrics").text


def test_the_twins_truth_is_never_asked(service: Service) -> None:
    service.start()
    service.ended(service.pick().headers["Location"])
    assert service.twin.commands == []


def test_run_ids_grow_and_a_second_pickup_can_follow_at_once(service: Service) -> None:
    service.start()
    first = service.ended(service.pick().headers["Location"])
    service.cameras.cube = PICKUP
    second = service.ended(service.pick().headers["Location"])
    assert second["run_id"] == first["run_id"] + 1
    assert second["status"] == "succeeded", second


def test_pictures_that_disagree_with_the_gripper_win(service: Service) -> None:
    service.controller.on_release = lambda: setattr(service.cameras, "cube", (0.2, -0.1))
    service.start()
    pickup = service.ended(service.pick().headers["Location"])
    assert (pickup["status"], pickup["reason"]) == ("failed", "not_seen_in_bowl"), pickup


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ((APPROACH, RETREAT), "timeout"),
        ((APPROACH, GRASP, LIFT, (3.0, *CARRY[1:])), "still_holding"),
        ((APPROACH, GRASP, LIFT, (0.2, (0.2, -0.15, 0.13), 2.0, 2.0, -1.0), RETREAT), "dropped"),
        (
            (APPROACH, GRASP, LIFT, (0.2, (0.2, -0.1, 0.13), 60.0, 60.0, 1.0), RETREAT),
            "not_released_over_bowl",
        ),
    ],
)
def test_failures_name_their_reason(service: Service, script: Any, reason: str) -> None:
    service.controller.script = script
    service.start()
    pickup = service.ended(service.pick().headers["Location"])
    assert (pickup["status"], pickup["reason"]) == ("failed", reason), pickup
    service.until(lambda: service.mode() == "ready")


def test_a_pixel_is_turned_into_a_table_point(service: Service) -> None:
    service.start()
    u, v = (0.35 - PICKUP[1]) * PX_PER_M, (0.5 - PICKUP[0]) * PX_PER_M
    answer = service.pick(pixel={"camera": "overhead", "u": u, "v": v})
    assert answer.status_code == 202
    assert (answer.json()["x_m"], answer.json()["y_m"]) == pytest.approx(PICKUP)
    assert answer.json()["pixel"] == {"camera": "overhead", "u": u, "v": v}


BAD: list[tuple[str, str, int, str]] = [
    ("nan", NAN, 422, "invalid_request"),
    ("infinity", '{"x_m": Infinity, "y_m": 0.0}', 422, "invalid_request"),
    ("overflow", '{"x_m": 1e999, "y_m": 0.0}', 422, "invalid_request"),
    ("huge whole number", '{"x_m": 1' + "0" * 400 + ', "y_m": 0.0}', 422, "invalid_request"),
    ("whole number of 5000 digits", '{"x_m": 1' + "0" * 5000 + ', "y_m": 0.0}', 400, "bad_request"),
    ("string", '{"x_m": "0.24", "y_m": 0.0}', 422, "invalid_request"),
    ("true", '{"x_m": true, "y_m": 0.0}', 422, "invalid_request"),
    ("null", '{"x_m": null, "y_m": 0.0}', 422, "invalid_request"),
    ("one coordinate", '{"x_m": 0.24}', 422, "invalid_request"),
    ("unknown field", '{"x_m": 0.24, "y_m": 0.0, "z_m": 0.1}', 422, "invalid_request"),
    ("both", '{"x_m": 0.2, "y_m": 0,"pixel": {"camera": "wrist", "u": 1, "v": 1}}', 422, "invalid_request"),
    ("empty", "{}", 422, "invalid_request"),
    ("list", "[0.24, 0.0]", 422, "invalid_request"),
    ("nothing", "", 422, "invalid_request"),
    ("not JSON", '{"x_m": ', 422, "invalid_request"),
    ("deep", "[" * 8000, 400, "bad_request"),
    ("too far", '{"x_m": 0.9, "y_m": 0.0}', 422, "unreachable"),
    ("off the scale", '{"x_m": 900, "y_m": 0.0}', 422, "invalid_request"),
    ("inside the base", '{"x_m": 0.0, "y_m": 0.0}', 422, "unreachable"),
    ("in the bowl", '{"x_m": 0.18, "y_m": -0.26}', 422, "in_bowl"),
    ("behind", '{"x_m": -0.2, "y_m": 0.0}', 422, "unreachable"),
    ("place", '{"x_m": 0.24, "y_m": 0.03, "place": {"x_m": 0.2, "y_m": 0.1}}', 422, "place_unsupported"),
    ("NaN place", '{"x_m": 0.24, "y_m": 0, "place": {"x_m": NaN, "y_m": 0.1}}', 422, "invalid_request"),
    ("uncalibrated camera", '{"pixel": {"camera": "wrist", "u": 1, "v": 1}}', 422, "camera_not_calibrated"),
    ("unknown camera", '{"pixel": {"camera": "side", "u": 1, "v": 1}}', 422, "no_such_camera"),
    ("pixel outside", '{"pixel": {"camera": "overhead", "u": 641, "v": 1}}', 422, "pixel_outside"),
    ("negative pixel", '{"pixel": {"camera": "overhead", "u": -1, "v": 1}}', 422, "invalid_request"),
    ("pixel with NaN", '{"pixel": {"camera": "overhead", "u": NaN, "v": 1}}', 422, "invalid_request"),
    ("large body", '{"x_m": 0.24, "y_m": 0.0, "note": "' + "a" * 40000 + '"}', 413, "body_too_large"),
]  # fmt: skip


def test_bad_requests_get_a_reason_and_move_nothing(service: Service) -> None:
    service.start()
    before = len(service.controller.moving())
    for name, body, status, code in BAD:
        answer = service.http.post("/v1/pickups", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status, (name, answer.text)
        assert answer.headers["content-type"] == "application/problem+json", name
        problem = answer.json()
        assert problem["code"] == code, (name, problem)
        assert problem["status"] == status and problem["detail"] and problem["remedy"], (name, problem)
        assert "aaaa" not in answer.text and "NaN" not in answer.text, name
    assert len(service.controller.moving()) == before
    assert service.worker.commands == [] and service.http.get("/v1/pickups").json() == []
    assert service.mode() == "ready"


def test_a_body_that_is_not_json_by_its_header(service: Service) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = service.http.post("/v1/pickups", content='{"x_m": 0.24, "y_m": 0}', headers=form)
    assert (answer.status_code, answer.json()["code"]) == (415, "not_json")


def test_whole_numbers_are_numbers(service: Service) -> None:
    answer = service.http.post("/v1/pickups", json={"x_m": 0, "y_m": 0})
    assert answer.json()["code"] == "unreachable"


def test_a_second_pickup_while_one_runs_is_refused(service: Service) -> None:
    service.start()
    first = service.pick()
    second = service.pick()
    assert (second.status_code, second.json()["code"]) == (409, "busy")
    assert service.ended(first.headers["Location"])["status"] == "succeeded"


def test_off_stopped_and_faulty_arms_take_no_pickup(service: Service) -> None:
    off = service.pick()
    assert (off.status_code, off.json()["code"]) == (409, "not_started")
    service.start()
    service.http.post("/v1/stop")
    held = service.pick()
    assert (held.status_code, held.json()["code"]) == (409, "not_started")
    assert "/v1/start" in held.json()["remedy"]
    service.controller.fault("servo_silent")
    service.until(lambda: service.mode() == "fault")
    faulty = service.pick()
    assert (faulty.status_code, faulty.json()["code"]) == (409, "fault_latched")
    assert "servo_silent" in faulty.json()["detail"]
    assert not [c for c in service.controller.commands if c["op"] == "run"]


def test_a_policy_that_is_not_loaded_is_said_to_be_so(service: Service) -> None:
    service.start()
    service.worker.status.update(state="error", error="the golden outputs differ by 0.3")
    service.until(lambda: service.http.get("/readyz").status_code == 503)
    answer = service.pick()
    assert (answer.status_code, answer.json()["code"]) == (409, "policy_not_ready")
    assert "golden" in answer.json()["detail"]


def test_cancel_ends_the_run_and_goes_back_to_ready(service: Service) -> None:
    service.controller.script = (APPROACH, RETREAT)
    service.start()
    location = service.pick().headers["Location"]
    service.until(lambda: service.mode() == "running")
    answer = service.http.post(f"{location}/cancel")
    assert answer.status_code == 200 and answer.json()["status"] == "cancelled"
    service.until(lambda: service.mode() == "ready")
    assert service.http.post(f"{location}/cancel").json()["status"] == "cancelled"
    service.controller.script = GOOD_RUN
    assert service.ended(service.pick().headers["Location"])["status"] == "succeeded"


def test_stop_cancels_and_sends_nothing_after_it(service: Service) -> None:
    service.start()
    location = service.pick().headers["Location"]
    service.until(lambda: service.mode() == "running")
    assert service.http.post("/v1/stop").json()["mode"] == "hold"
    pickup = service.ended(location)
    assert (pickup["status"], pickup["reason"]) == ("cancelled", "stopped (hold)")
    service.until(lambda: any(c["op"] == "end" for c in service.worker.commands))
    after = service.controller.moving()
    assert after[-1]["op"] == "stop" and service.mode() == "hold"


def test_a_fault_fails_the_run_and_is_named(service: Service) -> None:
    service.start()
    location = service.pick().headers["Location"]
    service.until(lambda: service.mode() == "running")
    service.controller.fault("servo_silent")
    pickup = service.ended(location)
    assert (pickup["status"], pickup["reason"]) == ("failed", "fault")
    assert "servo_silent happened" in pickup["detail"]


def test_a_dead_controller_fails_the_run(service: Service) -> None:
    service.start()
    location = service.pick().headers["Location"]
    service.until(lambda: service.mode() == "running")
    service.controller.silent = True
    assert service.ended(location)["reason"] == "controller_lost"
    state = service.http.get("/v1/state").json()
    assert state["mode"] == "fault" and state["faults"][0]["code"] == "controller_silent"
    assert service.http.get("/readyz").status_code == 503


def test_a_controller_that_came_back_is_not_taken_for_the_old_one(service: Service) -> None:
    service.start()
    location = service.pick().headers["Location"]
    service.until(lambda: service.mode() == "running")
    service.controller.status.update(pid=4712, mode="hold", run_id=0)
    assert service.ended(location)["reason"] == "controller_lost"


@pytest.mark.parametrize(
    ("process", "reason"), [("worker", "policy_worker_lost"), ("cameras", "camera_process_lost")]
)
def test_a_dead_helper_fails_the_run_and_the_arm_holds(service: Service, process: str, reason: str) -> None:
    service.controller.script = (APPROACH, RETREAT)
    service.start()
    location = service.pick().headers["Location"]
    service.until(lambda: service.mode() == "running")
    service.board.processes[process].pid = None
    service.board.publish()
    assert service.ended(location)["reason"] == reason
    service.until(lambda: service.mode() == "hold")
    assert service.controller.moving()[-1] == {"op": "stop", "level": "hold"}


def test_a_stalled_policy_fails_the_run_and_the_arm_holds(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.pickups.watch.STALE_CHUNK_S", 0.3)
    service.controller.script = (APPROACH, RETREAT)
    service.controller.chunk_age = -1
    service.start()
    assert service.ended(service.pick().headers["Location"])["reason"] == "policy_stalled"
    service.until(lambda: service.mode() == "hold")


def test_a_task_without_evidence_is_never_said_to_have_succeeded(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.pickups.watch.STALE_CHUNK_S", 0.3)
    start = dict.fromkeys(JOINTS, 10.0)
    space = {"action_space": "tool_delta_xyz", "start_pose": start}
    service.worker.status.update(task="push", conditioned=False, **space)
    service.controller.chunk_age = -1  # nothing is executed on the way to the start pose: no stall
    service.start()
    pickup = service.ended(service.pick().headers["Location"])  # the script is that of a good pickup
    assert (pickup["status"], pickup["reason"]) == ("failed", "not_judged"), pickup
    assert (pickup["task"], pickup["conditioned"]) == ("push", False)
    run = next(c for c in service.controller.commands if c["op"] == "run")
    assert run["args"].items() >= {**space, "resume": False, "mode": "ensemble"}.items()
    service.until(lambda: service.mode() == "ready")


def test_no_overhead_picture_no_pickup(service: Service) -> None:
    service.start()
    service.cameras.error = "cannot be opened: Permission denied"
    service.cameras.stopped = True
    pickup = service.ended(service.pick().headers["Location"])
    assert (pickup["status"], pickup["reason"]) == ("failed", "camera_lost")
    assert pickup["detail"].endswith("cannot be opened: Permission denied")
    assert not [c for c in service.controller.commands if c["op"] == "run"]


def test_a_restarted_api_knows_the_interrupted_pickup_and_holds_the_arm(service: Service) -> None:
    service.controller.script = (APPROACH, RETREAT)
    service.start()
    location = service.pick().headers["Location"]
    service.until(lambda: service.mode() == "running")
    journal = service.runtime.pickup_journal
    as_killed = journal.read_text()
    service.end_serving()
    # A killed process would not have written how it ended, nor ended the run.
    journal.write_text(as_killed + '{"id": "cut o')
    service.controller.now("running")
    service.until(lambda: b'"mode": "running"' in (service.controller.block.read() or b""))
    service.serve()
    pickup = service.http.get(location).json()
    assert (pickup["status"], pickup["reason"]) == ("failed", "interrupted")
    assert "restarted" in pickup["detail"]
    assert service.controller.moving()[-1] == {"op": "stop", "level": "hold"}
    assert json.loads(journal.read_text().splitlines()[-1])["status"] == "failed"


def test_unknown_pickups(service: Service) -> None:
    for answer in (service.http.get("/v1/pickups/nope"), service.http.post("/v1/pickups/nope/cancel")):
        assert (answer.status_code, answer.json()["code"]) == (404, "no_such_pickup")
