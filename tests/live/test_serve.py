"""The whole service as a person starts it: twin, controller, cameras, policy worker, API."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import connect

from robot.config import load_robot
from robot.joints import JOINTS
from robot.telemetry import MODES, SOURCES, Record, TelemetryRing
from tests.served import FINAL, Served, served

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(420)]

MOVED_DEG = 2.0
FASTEST_DPS = load_robot("twin")[0].gate.max_velocity.array()[:5]
"""Speed of each arm joint that the gate lets through."""
CATCH_UP = 1.25
"""A servo that lagged behind its goal is this much faster for a moment."""
NOISE_DEG = 1.0
SAG_DEG = 4.0
"""How far from its goal a servo holds the arm against gravity."""
SILENT_S = 0.25
"""No telemetry for so long: the controller was restarted, or the machine stood still. The servos have got to
their last goal meanwhile.
"""


@pytest.fixture(scope="module")
def live() -> Iterator[Served]:
    with served() as service:
        yield service


def test_a_pickup_whose_verdict_agrees_with_the_world(live: Served) -> None:
    live.ready()
    location = live.pick(0.24, 0.04)
    live.until(lambda: live.http.get(location).json()["status"] in FINAL, 60, "end of the pickup")
    pickup = live.http.get(location).json()
    assert (pickup["status"] == "succeeded") == live.http.get("/v1/twin").json()["cube_in_bowl"], pickup
    control = live.state()["control"]
    assert control["hz"] >= 50 and set(control["lateness_ms"]) == {"p50", "p99", "p999", "max"}


def test_an_unreachable_point_moves_nothing(live: Served) -> None:
    live.ready()
    before = live.state()["joints"]
    assert live.http.post("/v1/pickups", json={"x_m": 0.9, "y_m": 0.0}).status_code == 422
    time.sleep(0.5)
    after = live.state()["joints"]
    for name in JOINTS[:5]:
        assert abs(before[name]["position_deg"] - after[name]["position_deg"]) < MOVED_DEG


def test_a_person_jogs_the_arm_and_lets_it_go_back(live: Served) -> None:
    live.ready()
    ring = live.ring()
    tick, before = _tick(ring), live.state()["tool"]
    began = live.http.post("/v1/teleop/start", json={"source": "teleop"})
    assert began.status_code == 200, began.text
    with connect(f"ws://127.0.0.1:{live.http.base_url.port}/v1/teleop/intents") as ws:
        for k in range(450):  # up, and to and fro until the lag is known: a busy machine leaves out ticks
            up, side = 0.05 if k < 60 else 0.0, 0.15 if k // 15 % 2 else -0.15
            ws.send(json.dumps({"kind": "jog", "vz_mps": up, "vy_mps": side}))
            time.sleep(1 / 30)
            if k >= 60 and k % 10 == 0 and "teleop_lag_seconds" in live.http.get("/metrics").text:
                break
        else:
            pytest.fail("no lag in 15 s of motion")
    told, after = live.http.get("/v1/teleop").json(), live.state()["tool"]
    assert told["active"] and told["engaged"] and told["source"] == "teleop"
    assert after["z_m"] - before["z_m"] > 0.03
    still_s = time.monotonic() + 1.0
    live.until(lambda: time.monotonic() > still_s, 5, "a second without intents")
    held = [record["goal"] for record in ring.since(_tick(ring) - 20)]
    assert np.ptp(np.array(held), axis=0).max() < 0.1
    assert live.http.post("/v1/teleop/stop").json()["reason"] == "ended on request"
    live.until(lambda: live.state()["mode"] in ("starting", "ready"), 5, "the way back")
    _check_no_jump(ring.since(tick))
    ring.close()


def test_a_person_corrects_a_pickup_and_hands_it_back(live: Served) -> None:
    live.ready()
    location = live.pick(0.24, 0.04)
    live.until(lambda: live.http.get(location).json()["status"] == "running", 30, "run")
    ring = live.ring()
    tick = _tick(ring)
    live.until(lambda: _moves(ring), 10, "the policy's motion")
    taken = live.http.post("/v1/teleop/take_over", json={"source": "teleop"})
    assert taken.status_code == 200 and taken.json()["intervening"], taken.text
    live.http.post("/v1/teleop/intent", json={"kind": "goto", "x_m": 0.2, "y_m": 0.05, "z_m": 0.15})
    time.sleep(3.0)  # longer than a stalled policy is waited for, and a worker for its run
    state = live.state()
    assert state["run"]["intervening"] and "person drives" in state["policy"]["waiting"], state
    assert abs(state["tool"]["z_m"] - 0.15) < 0.03, state["tool"]
    back = live.http.post("/v1/teleop/hand_back")
    assert back.status_code == 200 and not back.json()["intervening"], back.text
    time.sleep(0.5)
    records = ring.since(tick)
    drivers = [SOURCES[int(r["source"])] for r in records if MODES[int(r["mode"])] == "running"]
    turns = [drivers[0], *(b for a, b in pairwise(drivers) if a != b)]
    assert turns == ["policy", "teleop", "policy"] and int(records[-1]["chunk_age_ticks"]) >= 0
    _check_no_jump(records)
    live.until(lambda: live.http.get(location).json()["status"] in FINAL, 60, "end of the pickup")
    pickup = live.http.get(location).json()
    assert (pickup["status"] == "succeeded") == live.http.get("/v1/twin").json()["cube_in_bowl"], pickup
    assert pickup["intervened"] and 3.0 <= pickup["intervened_s"] < pickup["evidence"]["elapsed_s"], pickup
    assert [fault for fault in live.state()["faults"] if fault["severity"] != "warn"] == []
    ring.close()


@pytest.mark.parametrize("process", ["worker", "cameras", "controller", "api"])
def test_a_killed_process_leaves_the_arm_holding(live: Served, process: str) -> None:
    live.ready()
    location = live.pick(0.26, -0.08)
    live.until(lambda: live.http.get(location).json()["status"] == "running", 30, "run")
    time.sleep(1.0)
    pid = live.state()["processes"][process]["pid"]
    ring = live.ring()
    tick = _tick(ring)
    os.kill(pid, signal.SIGKILL)

    time.sleep(1.0)
    live.until(lambda: _fresh(ring), 30, "telemetry after the kill")
    held_since = _tick(ring)
    time.sleep(1.0)
    records = ring.since(tick)
    ring.close()
    held = np.array([record["position"] for record in records if record["tick"] > held_since])
    assert len(held) > 20
    assert np.ptp(held[:, :5], axis=0).max() < MOVED_DEG
    _check_no_jump(records)

    live.until(lambda: live.http.get("/healthz").status_code == 200, 30, "the API")
    state = live.state()
    assert state["processes"][process]["restarts"] >= 1
    assert any(event["process"] == process and "signal 9" in event["message"] for event in state["events"])
    pickup = live.http.get(location).json()
    assert pickup["status"] == "failed" and pickup["detail"], pickup
    assert state["mode"] in ("hold", "fault", "off"), state

    live.until(lambda: live.state()["processes"][process]["state"] == "running", 60, f"{process} again")
    live.ready()


def test_the_end_parks_the_arm_and_leaves_nothing_behind(live: Served) -> None:
    live.ready()
    folder = live.runtime.folder
    pids = [info["pid"] for info in live.state()["processes"].values()]
    live.process.send_signal(signal.SIGINT)
    assert live.process.wait(60) == 0, live.words()
    assert "parking" in live.words()
    assert not folder.exists() and not list(Path("/dev/shm").glob(f"{folder.name}*"))
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists()


def _tick(ring: TelemetryRing) -> int:
    record = ring.newest()
    assert record is not None
    return int(record["tick"])


def _moves(ring: TelemetryRing) -> bool:
    record = ring.newest()
    return record is not None and bool(np.abs(record["velocity"][:5]).max() > 20.0)


def _fresh(ring: TelemetryRing) -> bool:
    record = ring.newest()
    return record is not None and time.monotonic() - float(record["time_s"]) < 0.2


def _check_no_jump(records: list[Record]) -> None:
    """No arm joint was faster than the gate allows, nor left its last goal while the controller was away."""
    for a, b in pairwise(records):
        gap_s = float(b["time_s"] - a["time_s"])
        if gap_s < SILENT_S:
            moved = np.abs(b["position"][:5] - a["position"][:5])
            assert (moved <= CATCH_UP * FASTEST_DPS * gap_s + NOISE_DEG).all(), (moved, gap_s)
        else:
            left = np.abs(b["position"][:5] - a["goal"][:5])
            assert (left <= SAG_DEG).all(), (left, gap_s)
