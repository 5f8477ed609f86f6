"""Rows 14 and 15 of the fault table: cameras that go wrong under the shipped policy, and at rest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from robot.telemetry import MODES, Record
from robot.twin.client import TwinControl
from tests.rig import quick_robot
from tests.served import FINAL, Served, served

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(300)]

MOVED_DEG = 2.0
PICKUP = (0.24, 0.04)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(quick_robot(tmp_path_factory.mktemp("robot"))) as made:
        yield made


@pytest.fixture
def twin(service: Served) -> Iterator[TwinControl]:
    control = service.twin()
    yield control
    control.fault("camera_ok")


def camera(service: Served, name: str) -> dict[str, Any]:
    return dict(service.state()["cameras"][name])


def run(service: Served) -> str:
    """A pickup that the policy is driving."""
    service.ready()
    location = service.pick(*PICKUP)
    service.until(lambda: service.http.get(location).json()["status"] == "running", 30, "run")
    time.sleep(1.0)  # on its way to the cube
    return location


def records_after(service: Served, time_s: float) -> list[Record]:
    ring = service.ring()
    try:
        return [record for record in ring.since(0) if record["time_s"] > time_s]
    finally:
        ring.close()


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("camera_unplug", "wrist", "camera_lost"),
        ("camera_stale", "overhead", "camera_stale"),
        ("camera_freeze", "wrist", "camera_frozen"),
        ("camera_black", "overhead", "camera_black"),
    ],
)
def test_a_run_that_cannot_see_holds_and_says_which_camera(
    service: Served, twin: TwinControl, measured: dict[str, object], kind: str, name: str, reason: str
) -> None:
    location = run(service)
    applied_s = twin.fault(kind, camera=name)["applied_s"]
    service.until(lambda: service.http.get(location).json()["status"] in FINAL, 10, "end of the run")
    pickup = service.http.get(location).json()
    assert (pickup["status"], pickup["reason"]) == ("failed", reason), pickup
    assert f"camera {name}" in pickup["detail"]
    service.until(lambda: service.state()["mode"] == "hold", 5, "hold")

    time.sleep(0.5)
    held = records_after(service, time.monotonic() - 0.4)
    assert np.ptp([record["position"] for record in held], axis=0)[:5].max() < MOVED_DEG
    assert not any(MODES[int(record["mode"])] == "running" for record in held)
    goals = [goal for goal in twin.goal_log(applied_s) if goal["arm"] == "follower"]
    last_s = max((goal["time_s"] for goal in goals), default=applied_s)
    measured["arm_holds_ms"] = round(1000 * (last_s - applied_s))
    assert last_s < held[0]["time_s"]

    state = service.state()
    assert (reason, "warn", name) in [(f["code"], f["severity"], f.get("camera")) for f in state["faults"]]
    assert reason in state["cameras"][name]["findings"]
    assert f'camera_fault{{camera="{name}",code="{reason}"}} 1.0' in service.http.get("/metrics").text
    assert service.http.get("/readyz").status_code == 503

    twin.fault("camera_ok")
    service.until(lambda: service.http.get("/readyz").status_code == 200, 20, "a camera that is well again")
    time.sleep(0.5)
    assert service.state()["mode"] == "hold"  # nothing goes on by itself
    assert service.http.get(location).json() == pickup


@pytest.mark.parametrize(
    ("kind", "reason"), [("camera_unplug", "camera_lost"), ("camera_black", "camera_black")]
)
def test_no_pickup_begins_on_a_camera_that_does_not_see(
    service: Served, twin: TwinControl, kind: str, reason: str
) -> None:
    service.ready()
    twin.fault(kind, camera="wrist")
    service.until(lambda: reason in camera(service, "wrist")["findings"], 10, "told")
    answer = service.http.post("/v1/pickups", json={"x_m": PICKUP[0], "y_m": PICKUP[1]})
    assert answer.status_code == 409 and answer.json()["code"] == reason, answer.text
    assert "camera wrist" in answer.json()["detail"]
    assert service.state()["mode"] == "ready"
    twin.fault("camera_ok")
    service.until(lambda: camera(service, "wrist")["findings"] == [], 20, "well again")


def test_swapped_cameras_are_told_at_rest(service: Served, twin: TwinControl) -> None:
    service.ready()
    twin.fault("camera_swap")
    service.until(lambda: "camera_swapped" in camera(service, "wrist")["findings"], 10, "told")
    answer = service.http.post("/v1/pickups", json={"x_m": PICKUP[0], "y_m": PICKUP[1]})
    assert answer.status_code == 409 and answer.json()["code"] == "camera_swapped", answer.text
    twin.fault("camera_ok")
    service.until(lambda: camera(service, "wrist")["findings"] == [], 20, "well again")


def test_a_slow_camera_is_a_warning(service: Served, twin: TwinControl) -> None:
    # After a test that did not interrupt the wrist camera, so that its window of two seconds is full.
    twin.fault("camera_slow", camera="wrist", fps=10)
    service.until(lambda: "camera_slow" in camera(service, "wrist")["findings"], 20, "told")
    assert "camera_slow" not in camera(service, "overhead")["findings"]
    assert 8 < camera(service, "wrist")["fps"] <= 20
    assert service.http.get("/readyz").status_code == 200
