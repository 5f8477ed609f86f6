"""Policies of every action space on the lockstep twin."""

from __future__ import annotations

import numpy as np
import pytest

from inference.bundle import load_bundle
from inference.manifest import CameraShape
from robot.joints import JOINTS
from robot.kinematics import Kinematics
from robot.twin.tasks import CubePlace, Layout
from tests.inference.toy import write_tool_bundle
from training.rollout import InlinePolicySource, drive
from training.stage import Stage

START = dict(zip(JOINTS, (10.0, -20.0, 40.0, 70.0, 0.0, 0.0), strict=True))
CAMERA = CameraShape(name="overhead", height_px=24, width_px=32)


@pytest.fixture(scope="module")
def stage():
    stage = Stage(64, 48, camera_delay_s=0.0)
    yield stage
    stage.close()


@pytest.mark.parametrize(
    ("space", "step_m"), [("tool_delta_xy", (0.0, 0.008)), ("tool_delta_xyz", (0.006, 0.0, 0.006))]
)
def test_the_tool_goes_straight_from_the_start_pose(stage, tmp_path, space, step_m):
    folder = write_tool_bundle(
        tmp_path / "bundle", action_space=space, step_m=step_m, camera=CAMERA, start_pose=START
    )
    bundle = load_bundle(folder)
    place = Layout(told_xy_m=(0.2, -0.1), cube=CubePlace(0.2, -0.2, 0.0))
    start = np.array(list(START.values()))
    stage.reset(place, start + np.array([-12.0, 0.0, 0.0, 0.0, 5.0, 10.0]))
    source = InlinePolicySource.of_bundle(stage, bundle.policy, bundle.manifest, np.zeros(2, np.float32))
    goals = []
    drive(
        stage, source, limit_s=1.8, stop=lambda: False, on_tick=lambda tick, state, goal: goals.append(goal)
    )
    arm = Kinematics()
    path = np.array([arm.tool_position_m(goal) for goal in goals])
    begun = next(k for k, goal in enumerate(goals) if np.abs(goal - start).max() < 1e-6)
    assert begun * stage.robot.dt_s > 12.0 / stage.robot.ramp_velocity_dps
    way = path[begun:] - path[begun]
    along = np.array([*step_m, 0.0])[:3] / np.linalg.norm(step_m)
    assert np.linalg.norm(way[-1]) > 0.03
    assert np.linalg.norm(way - np.outer(way @ along, along), axis=1).max() < 2e-3
