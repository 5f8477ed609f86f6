"""A policy that moves the tool, served as it is: from its picture to the live twin's joints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.manifest import CameraShape
from robot.joints import JOINTS
from tests.inference.toy import write_tool_bundle
from tests.served import served

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(240)]

START = dict(zip(JOINTS, (10.0, -20.0, 40.0, 70.0, 0.0, 0.0), strict=True))
CAMERA = CameraShape(name="overhead", height_px=480, width_px=640)


def test_a_policy_of_tool_deltas_draws_a_line_from_its_start_pose(tmp_path: Path) -> None:
    bundle = write_tool_bundle(
        tmp_path / "bundle", step_m=(0.0, 0.006), camera=CAMERA, start_pose=START, task="reach"
    )
    with served(bundle=bundle) as live:
        live.ready()
        ring = live.ring()
        location = live.pick(0.24, 0.04)
        live.until(lambda: int(ring.newest()["chunk_age_ticks"]) >= 0, 30, "chunk that is executed")
        begun = int(ring.newest()["tick"])
        live.until(lambda: int(ring.newest()["tick"]) > begun + 90, 10, "a second and a half of the run")
        records = ring.since(begun)
        pickup = live.http.get(location).json()
        assert (pickup["status"], pickup["task"], pickup["conditioned"]) == ("running", "reach", False)
        assert live.http.post(f"{location}/cancel").status_code == 200
        live.until(lambda: live.http.get(location).json()["status"] == "cancelled", 20, "cancelled")
        ring.close()
    goals, path = (np.array([record[key] for record in records]) for key in ("goal", "tool_m"))
    assert np.abs(goals[0, 1:5] - np.array(list(START.values()))[1:5]).max() < 2.0
    assert np.ptp(goals[:, 1:4].sum(axis=1)) < 0.5  # the hand keeps its pitch
    gone_m = path[-1] - path[0]
    assert gone_m[1] > 0.04
    assert np.abs(path[:, [0, 2]] - path[0, [0, 2]]).max() < 0.012  # servos sag and lag: what it does is less
