"""Reach and push: where they begin, what their experts do, what is recorded, how policies are tried."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inference.ensembler import ExecutionConfig
from inference.manifest import CameraShape, Manifest, Range, units_of
from robot.errors import ConfigError
from robot.joints import JOINTS
from robot.kinematics import Kinematics
from robot.recording.reader import Dataset
from robot.seams import FloatArray, Observation
from robot.twin.tasks import BOWL_XY_M, PUSH_POSE, REACH_POSE, Layout, Push, Reach
from training.episodes import CorrectionOrder, DemonstrationOrder
from training.evaluation import EvaluationOptions, Evaluator
from training.experts.push import BEHIND_M, HIGH_M, LOW_M, PushExpert
from training.experts.tool import AHEAD_M, SPEED_MPS, Lead
from training.recorder import open_order, record_episodes
from training.stage import Stage
from training.tool_demonstrations import ToolDemonstrationOptions, ToolDemonstrator, blind_trials
from training.trials import Watch
from training.variety import Variety, episode_rng

STEP_FRAMES = 3


def tool_path(actions: list[FloatArray]) -> FloatArray:
    kinematics = Kinematics()
    return np.array([kinematics.tool_position_m(action) for action in actions])


def test_reach_begins_anywhere_in_its_plane_with_the_same_hand() -> None:
    task, kinematics = Reach(), Kinematics()
    for number in range(40):
        layout = task.sample(episode_rng(3, number))
        assert layout.start is not None and layout.target_xy_m is not None and layout.cube is None
        tool = kinematics.tool_position_m(np.array(layout.start))
        assert tool[2] == pytest.approx(kinematics.tool_position_m(np.array(REACH_POSE))[2], abs=1e-4)
        assert sum(layout.start[1:4]) == pytest.approx(sum(REACH_POSE[1:4]), abs=1e-6)
        assert math.dist(tool[:2], layout.target_xy_m) >= 0.0499
        for x_m, y_m in (tool[:2], layout.target_xy_m):
            assert 0.159 < x_m < 0.321 and abs(y_m) < 0.181


def test_push_leaves_room_behind_the_cube_and_keeps_away_from_the_bowl() -> None:
    task, kinematics = Push(), Kinematics()
    for number in range(40):
        layout = task.sample(episode_rng(3, number))
        assert layout.cube is not None and layout.target_xy_m is not None and layout.start is not None
        cube, disc = np.array(layout.cube.xy_m), np.array(layout.target_xy_m)
        far_m = math.dist(cube, disc)
        assert 0.06 <= far_m <= 0.15
        behind = cube + BEHIND_M * (cube - disc) / far_m
        assert all(math.dist(point, BOWL_XY_M) > 0.11 for point in (cube, disc, behind))
        assert kinematics.tool_position_m(np.array(layout.start))[2] == pytest.approx(
            kinematics.tool_position_m(np.array(PUSH_POSE))[2], abs=1e-4
        )


def test_the_expert_reaches_every_disc_on_a_nearly_straight_way() -> None:
    trials = blind_trials(Reach(), 4, 5)
    assert all(trial.success and trial.done_s is not None for trial in trials)
    for trial in trials:
        assert 1.0 <= trial.path_m / trial.straight_m < 1.4
        assert trial.done_s > trial.straight_m / SPEED_MPS  # it does not outrun its own limit
        assert math.dist((trial.end_x_m, trial.end_y_m), (trial.x_m, trial.y_m)) < 0.012


def test_the_expert_pushes_the_cube_onto_the_disc() -> None:
    assert all(trial.success for trial in blind_trials(Push(), 1, 5))


def scene(tips: tuple[float, float, float], cube: tuple[float, float] = (0.24, 0.0)) -> Any:
    """A world with the disc 10 cm to the left of the cube: it has to be pushed towards +y."""
    return SimpleNamespace(
        props=SimpleNamespace(disc_xy_m=np.array([0.24, 0.10])),
        cube_xyz_m=np.array([*cube, 0.014]),
        fingertips_m=np.array(tips),
    )


@pytest.mark.parametrize(
    ("tips", "direction"),
    [
        ((0.24, -BEHIND_M, LOW_M), (0, 1, 0)),  # behind it and low: push
        ((0.24, BEHIND_M, LOW_M), (0, 0, 1)),  # on the wrong side and low: up, and not through the cube
        ((0.24 + 0.03, -0.01, LOW_M), (0, 0, 1)),  # beside it and low: up
        ((0.24, -BEHIND_M, HIGH_M), (0, 0, -1)),  # over the place behind it: down
        ((0.24, 0.08, HIGH_M), (0, -1, 0)),  # high on the wrong side: over it
    ],
)
def test_what_the_pusher_does_follows_from_where_things_are(
    tips: tuple[float, float, float], direction: tuple[float, float, float]
) -> None:
    velocity = PushExpert(scene(tips)).velocity_mps()
    size = float(np.linalg.norm(velocity))
    assert 0.01 < size <= SPEED_MPS + 1e-9
    assert float(velocity @ np.array(direction)) / size > 0.95


def test_a_cube_that_has_arrived_is_left_alone() -> None:
    velocity = PushExpert(scene((0.24, 0.07, LOW_M), cube=(0.24, 0.099))).velocity_mps()
    assert velocity[2] > 0.0 and not velocity[:2].any()


def test_the_command_does_not_run_away_from_a_tool_that_something_holds(stage: Stage) -> None:
    lead = Lead(Kinematics(), np.array(PUSH_POSE), stage.robot.gate)
    held_m = lead.tool_m.copy()
    for _ in range(120):
        lead.step(np.array([0.0, 0.0, -SPEED_MPS]), held_m, 1 / 60)
    assert np.linalg.norm(lead.tool_m - held_m) <= AHEAD_M + 1e-9


def test_demonstrations_of_reach_stay_in_their_plane_and_lead_back_to_the_disc(stage: Stage) -> None:
    options = ToolDemonstrationOptions(astray_per_s=2.0)
    episode = ToolDemonstrator(stage, Reach(), seed=1, options=options).episode(0)
    assert episode is not None and episode.layout.target_xy_m is not None
    path = tool_path([frame.action for frame in episode.frames])
    assert np.ptp(path[:, 2]) < 1e-4
    steps = path[STEP_FRAMES:] - path[:-STEP_FRAMES]
    assert np.linalg.norm(steps, axis=1).max() < 0.0101
    masks = np.array([frame.loss_mask for frame in episode.frames])
    assert 0 < (masks == 0).sum() < 0.7 * len(masks)
    # What is learned leads to the disc, after being led astray too.
    left = np.array(episode.layout.target_xy_m) - path[:-STEP_FRAMES, :2]
    learned = np.array([masks[i : i + 2 * STEP_FRAMES + 1].all() for i in range(len(left))])
    far = learned & (np.linalg.norm(left, axis=1) > 0.04)
    later = far.nonzero()[0]
    assert len(later) > 5
    towards = (steps[later, :2] * left[later]).sum(axis=1)
    assert (towards > 0).mean() > 0.8


def test_an_episode_of_a_number_is_always_the_same(stage: Stage) -> None:
    demonstrator = ToolDemonstrator(stage, Reach(), seed=4)
    first = demonstrator.episode(2)
    demonstrator.episode(3)
    again = demonstrator.episode(2)
    assert first is not None and again is not None and len(first.frames) == len(again.frames)
    assert all((a.action == b.action).all() for a, b in zip(first.frames, again.frames, strict=True))


def test_a_second_cube_is_refused(stage: Stage) -> None:
    with pytest.raises(ConfigError, match="--confusers"):
        ToolDemonstrator(stage, Push(), variety=Variety(confuser_share=0.5))


def test_the_recorder_writes_the_disc_and_the_sentence(tmp_path: Path) -> None:
    order = DemonstrationOrder(task="reach", seed=2, width_px=32, height_px=24)
    record_episodes(tmp_path / "reach", order, 1)
    dataset = Dataset(tmp_path / "reach")
    disc = Reach().sample(episode_rng(2, 0)).target_xy_m
    told = dataset.load(0)["observation.environment_state"]
    assert told[0] == pytest.approx(disc, abs=1e-6) and dataset.tasks == [Reach().sentence]


def test_nobody_corrects_a_reach(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only demonstrates"):
        open_order(CorrectionOrder(task="reach", policy=tmp_path, seed=0), stage)


class Oracle:
    """A policy in tool steps that is told where the disc is and knows where the tool stands."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def chunk(self, observation: Observation) -> FloatArray:
        left = observation.pickup_xy_m - self.stage.world.tool_m[:2]
        step = left * min(1.0, 0.01 / max(float(np.linalg.norm(left)), 1e-9))
        far = np.linalg.norm(left) / 0.01
        return np.array([step if k < far else np.zeros(2) for k in range(8)], np.float32)


def manifest() -> Manifest:
    return Manifest(
        name="oracle",
        policy_type="oracle",
        cameras=(CameraShape(name="overhead", height_px=24, width_px=32),),
        joints=JOINTS,
        units=units_of("tool_delta_xy"),
        action_space="tool_delta_xy",
        chunk_size=8,
        fps=10.0,
        conditioning=("pickup_x_m", "pickup_y_m"),
        start_pose=dict(zip(JOINTS, REACH_POSE, strict=True)),
        control_limits=dict.fromkeys(JOINTS, Range(min=-100.0, max=100.0)),
        execution=ExecutionConfig(mode="receding", actions_per_inference=4),
        provenance={},
        files={"model.onnx": "", "golden.npz": ""},
    )


def test_steps_of_the_tool_bring_it_to_the_disc_from_where_the_trial_begins(stage: Stage) -> None:
    bundle = SimpleNamespace(manifest=manifest(), policy=Oracle(stage))
    evaluator = Evaluator(bundle, EvaluationOptions(task="reach"))  # type: ignore[arg-type]
    evaluator.close()
    evaluator.stage = stage
    trial = evaluator.run(0)
    assert trial.success and trial.done_s is not None
    layout = Reach().sample(episode_rng(1000, 0))
    assert layout.start is not None and layout.target_xy_m is not None
    begin = Kinematics().tool_position_m(np.array(layout.start))[:2]
    # It came from the trial's own start, not from the bundle's start pose.
    assert trial.straight_m == pytest.approx(math.dist(begin, layout.target_xy_m), abs=0.02)


def test_a_trial_counts_from_when_it_was_done_for_good() -> None:
    world = SimpleNamespace(time_s=0.0, tool_m=np.zeros(3), confuser_in_bowl=False)
    good = {2, 5, 6, 7, 8, 9}
    task = SimpleNamespace(settle_s=0.25, success=lambda world: round(world.time_s * 10) in good)
    watch = Watch(world, task)  # type: ignore[arg-type]
    ticks = []
    for tick in range(10):
        world.time_s, world.tool_m = tick / 10, np.array([tick * 0.01, 0.0, 0.0])
        ticks.append(watch.settled())
    assert ticks.index(True) == 8  # 0.5 s and then more than 0.25 s; 0.2 s did not last
    trial = watch.trial(3, Layout(told_xy_m=(0.0, 0.0)))
    assert trial.done_s == pytest.approx(0.5) and trial.path_m == pytest.approx(0.05)
