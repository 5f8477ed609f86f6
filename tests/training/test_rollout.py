"""Policies of every action space on the lockstep twin."""

from __future__ import annotations

import numpy as np
import pytest

from inference.bundle import load_bundle
from inference.ensembler import ExecutionConfig, make_executor
from inference.manifest import CameraShape
from robot.joints import JOINTS
from robot.kinematics import Kinematics
from robot.twin.tasks import CubePlace, Layout
from tests.inference.toy import write_tool_bundle
from tests.training.conftest import Blind
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


class Clock(Blind):
    """A stage whose pictures are of the time: so many steps of a tenth of a second have gone by."""

    def images(self, cameras=("wrist", "overhead")):
        return {name: np.full((2, 2, 3), round(10.0 * self.world.time_s), np.uint8) for name in cameras}


def test_a_policy_that_looks_back_sees_every_step_though_it_is_asked_for_few_chunks():
    stage, seen = Clock(), []

    class Still:
        def chunk(self, observation):
            seen.append(observation.images["wrist"][:, 0, 0, 0].astype(int))
            return np.repeat(observation.state[-1:], 8, axis=0)

    stage.reset(Layout(told_xy_m=(0.2, -0.1)), np.array(list(START.values())))
    execution = ExecutionConfig(mode="receding", actions_per_inference=5, blend_s=0.0)
    executor = make_executor(execution, stage.robot.control_hz, 10.0)
    source = InlinePolicySource(
        stage, Still(), executor, np.zeros(2, np.float32), fps=10.0, observation_steps=3, camera_px=(2, 2)
    )
    drive(stage, source, limit_s=2.5, stop=lambda: False)
    assert 4 <= len(seen) <= 7
    assert seen[0].tolist() == [seen[0][0]] * 3
    for steps in seen[1:]:
        assert np.diff(steps).tolist() == [1, 1]
