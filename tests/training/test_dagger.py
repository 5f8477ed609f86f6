"""Corrections: what is to be learned of them, and how the arm passes from the policy to the expert."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from inference.ensembler import ExecutionConfig, make_executor
from robot.joints import GRIPPER
from robot.kinematics import Kinematics
from robot.twin.tasks import CubePlace
from training.dagger import Corrector
from training.demonstrations import DemonstrationOptions, Demonstrator
from training.episodes import FPS
from training.experts.pick_place import PickPlaceExpert
from training.rollout import InlinePolicySource, drive
from training.variety import episode_rng

CHUNK = 40
EXECUTION = ExecutionConfig(actions_per_inference=10)
CALM = DemonstrationOptions(command_noise_deg=0.0, miss_probability=0.0)


class Still:
    """A policy that stays where it is."""

    def chunk(self, observation):
        return np.tile(observation.state, (CHUNK, 1))


class Planned:
    """A policy that says what a plan says."""

    def __init__(self, plan) -> None:
        self.plan = plan

    def chunk(self, observation):
        start_s = observation.tick / 60
        return np.array([self.plan.at(start_s + k / FPS)[0] for k in range(CHUNK)], np.float32)


class Sweep:
    """A policy that turns the pan at a constant speed."""

    def __init__(self, pose, speed_dps) -> None:
        self.pose, self.speed_dps = pose, speed_dps

    def chunk(self, observation):
        chunk = np.tile(self.pose, (CHUNK, 1))
        chunk[:, 0] = self.speed_dps * (observation.tick / 60 + np.arange(CHUNK) / FPS)
        return chunk


class Ramp:
    """A source whose targets move with a constant velocity."""

    def __init__(self, start, velocity) -> None:
        self.start, self.velocity = start, velocity

    def target(self, tick, state):
        return self.start + self.velocity * tick / 60


def bundle_of(policy, stage):
    manifest = SimpleNamespace(
        fps=float(FPS), cameras=(), action_space="joint_position", start_pose=None, observation_steps=1
    )
    return SimpleNamespace(policy=policy, manifest=manifest)


def begin(stage, place):
    """A calm demonstrator, and the expert's plan as the policy that drives."""
    start = stage.reset(place.alone(), stage.robot.ready_pose.array())
    plan = PickPlaceExpert(stage.world).plan(start)
    executor = make_executor(EXECUTION, 60, FPS)
    source = InlinePolicySource(stage, Planned(plan), executor, np.zeros(2, np.float32), fps=FPS)
    return Demonstrator(stage, CALM), plan, source


@pytest.mark.parametrize("number", [0, 1])
def test_only_what_the_expert_does_is_learned(stage, number):
    corrector = Corrector(stage, bundle_of(Still(), stage), EXECUTION, seed=3)
    corrector._demonstrator = Demonstrator(stage, CALM)
    episode = corrector.episode(number)
    assert episode is not None and stage.world.cube_in_bowl
    marks = [(frame.loss_mask, frame.intervention) for frame in episode.frames]
    policys = marks.count((0.0, 0))
    assert FPS / 2 - 1 <= policys <= 6.5 * FPS + 1
    assert marks == [(0.0, 0)] * policys + [(1.0, 1)] * (len(marks) - policys)
    assert len(marks) - policys > 3 * FPS
    # A frame is what was seen and what was commanded then: the policy stays, the expert goes.
    states = np.array([frame.state for frame in episode.frames])
    actions = np.array([frame.action for frame in episode.frames])
    assert np.abs(actions[:policys] - states[:policys]).max() < 5.0
    assert np.abs(actions[policys:] - states[policys:]).max() > 5.0


def test_a_correction_is_the_same_whatever_came_before(stage):
    corrector = Corrector(stage, bundle_of(Still(), stage), EXECUTION, seed=4)
    first = corrector.episode(1)
    corrector.episode(0)
    again = corrector.episode(1)
    assert first is not None and again is not None
    assert first.layout == again.layout and len(first.frames) == len(again.frames)
    assert all((a.action == b.action).all() for a, b in zip(first.frames, again.frames, strict=True))


def test_what_the_policy_has_done_by_itself_is_no_correction(stage, monkeypatch):
    corrector = Corrector(stage, bundle_of(Still(), stage), EXECUTION, seed=5)
    monkeypatch.setattr(type(stage.world), "cube_in_bowl", property(lambda world: world.time_s > 0.3))
    assert corrector.episode(0) is None


def test_the_expert_gets_the_motion_that_the_source_had(stage):
    velocity = np.array([20.0, 12.0, -15.0, -8.0, 30.0, 10.0])
    start = stage.reset(CubePlace(0.25, 0.1, 0.0).alone(), stage.robot.ready_pose.array())
    sent = []
    motion = drive(
        stage,
        Ramp(start, velocity),
        limit_s=10.0,
        stop=lambda: stage.world.time_s >= 0.8,
        on_tick=lambda tick, state, command: sent.append(command.copy()),
    )
    np.testing.assert_allclose(motion.velocity, velocity, atol=0.01)
    np.testing.assert_array_equal(motion.position, sent[-1])
    assert stage.world.time_s == pytest.approx(0.8, abs=0.02)


def test_a_corrector_hands_over_the_motion_that_the_policy_had(stage, monkeypatch):
    policy = Sweep(stage.robot.ready_pose.array(), 10.0)
    corrector = Corrector(stage, bundle_of(policy, stage), EXECUTION, seed=6)
    handed = []
    monkeypatch.setattr(corrector._demonstrator, "finish", lambda motion, *a, **k: handed.append(motion))
    for number in range(6):
        corrector.episode(number)
    assert len(handed) == 6
    for motion in handed:
        np.testing.assert_allclose(motion.velocity, [10.0, 0, 0, 0, 0, 0], atol=0.5)


@pytest.mark.parametrize("takeover_s", [0.4, 0.6])
def test_the_arm_does_not_brake_when_it_is_taken_over(stage, takeover_s):
    demonstrator, plan, source = begin(stage, CubePlace(0.24, 0.10, 0.3))
    assert takeover_s < plan.begins("settle")
    sent = []
    motion = drive(
        stage,
        source,
        limit_s=10.0,
        stop=lambda: stage.world.time_s >= takeover_s,
        on_tick=lambda tick, state, command: sent.append(command.copy()),
    )
    frames = demonstrator.finish(motion, episode_rng(1, 0), 1.0, [], intervention=1)
    assert frames is not None
    before = np.linalg.norm((sent[-1] - sent[-3])[:5]) * FPS
    actions = np.array([frame.action[:5] for frame in frames[:5]])
    after = np.linalg.norm(np.diff(actions, axis=0), axis=1) * FPS
    assert before > 30.0
    assert after.min() > 0.6 * before


@pytest.mark.parametrize("after_s", [0.08, 0.12, 0.16, 0.20])
def test_a_takeover_while_the_jaws_open_over_the_bowl_stays_above_it(stage, after_s):
    demonstrator, plan, source = begin(stage, CubePlace(0.24, 0.05, 0.4))
    takeover_s = plan.begins("release") + after_s
    motion = drive(
        stage,
        source,
        limit_s=12.0,
        stop=lambda: stage.world.cube_in_bowl or stage.world.time_s >= takeover_s,
    )
    assert not stage.world.cube_in_bowl, "there was nothing to take over"
    assert 14.0 < motion.position[GRIPPER] < 45.0
    kinematics = Kinematics()
    height_m = kinematics.tool_position_m(stage.arm.read().position)[2]
    frames = demonstrator.finish(motion, episode_rng(1, 0), 1.0, [], intervention=1)
    assert frames is not None and stage.world.cube_in_bowl
    lowest_m = min(kinematics.tool_position_m(frame.state)[2] for frame in frames)
    assert height_m > 0.08
    assert lowest_m > height_m - 0.01
    assert {frame.loss_mask for frame in frames} == {1.0}
    assert len(frames) < 3 * FPS
