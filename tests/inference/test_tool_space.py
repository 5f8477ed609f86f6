"""Tool deltas become a path of the tool, and a path of the tool becomes joints."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.action_space import ActionSpace
from inference.ensembler import ExecutionConfig, make_executor
from inference.follower import ChunkFollower, executor_width
from inference.tool_space import FASTEST_MPS
from robot.errors import ConfigError, SourceError
from robot.seams import ArmState, FloatArray
from robot.trajectory import Motion
from tests.inference.toy import driven_arm

HZ, FPS, STEPS = 60, 10.0, 20
STATE = ArmState(0.0, *(np.zeros(6) for _ in range(6)), np.zeros(6, np.uint8))  # type: ignore[arg-type]
DOWN = np.array([5.0, -20.0, 40.0, 70.0, 10.0, 0.0])
"""A pose over the table in front of the arm."""
FIRST = 1000


class Arm:
    """A follower whose targets all pass the gate, tick by tick."""

    def __init__(
        self,
        space: ActionSpace = "tool_delta_xyz",
        pose: FloatArray = DOWN,
        mode: str = "ensemble",
        start_pose: FloatArray | None = None,
        resume: bool = False,
    ) -> None:
        self.command, self.tick = pose.copy(), FIRST - 1
        self.arm = driven_arm(lambda: Motion(self.command.copy(), np.zeros(6)))
        execution = ExecutionConfig.model_validate({"mode": mode, "blend_s": 0.0})
        self.follower = ChunkFollower(
            self.arm,
            space,
            lambda fps: make_executor(execution, HZ, fps, executor_width(space)),
            start_pose=start_pose,
            resume=resume,
        )
        self.poses, self.path = [self.command.copy()], [self.tool_m]

    @property
    def tool_m(self) -> FloatArray:
        return self.arm.kinematics.tool_position_m(self.command)

    def step(self, *chunks: tuple[int, np.ndarray], blocked: bool = False) -> bool:
        """One tick in which these chunks arrive, (tick of the observation, deltas)."""
        self.tick += 1
        self.follower.begin_tick(self.tick)
        taken = [self.follower.take(seen, self.tick, deltas, FPS) for seen, deltas in chunks]
        target = self.follower.target(self.tick, STATE)
        if target is not None and not blocked:
            self.command = target
        self.poses.append(self.command.copy())
        self.path.append(self.tool_m)
        return all(taken)


def steadily(*step_m: float) -> np.ndarray:
    return np.tile(np.array(step_m, np.float32), (STEPS, 1))


def off_line_m(path: np.ndarray, direction: np.ndarray) -> float:
    along = direction / np.linalg.norm(direction)
    way = path - path[0]
    return float(np.linalg.norm(way - np.outer(way @ along, along), axis=1).max())


@settings(max_examples=25, deadline=None)
@given(st.floats(-np.pi, np.pi), st.floats(-0.6, 0.6), st.integers(1, 9), st.integers(1, 9))
def test_a_straight_way_of_the_tool_is_straight_whatever_the_delay(
    azimuth: float, slope: float, latency: int, period: int
) -> None:
    step_m = 0.005 * np.array([np.cos(azimuth), np.sin(azimuth), slope])
    arm = Arm()
    for k in range(60):
        seen = FIRST + k - latency
        arm.step(*([(seen, steadily(*step_m))] if k >= latency and k % period == 0 else []))
    assert off_line_m(np.array(arm.path), step_m) < 1e-3
    # Chunks that were seen before the first had come begin where the arm stood: no more is lost than that.
    first = next(k for k in range(60) if k >= latency and k % period == 0)
    gone_m = float(np.linalg.norm(arm.path[-1] - arm.path[0]) / np.linalg.norm(step_m) * FPS**-1)
    assert gone_m == pytest.approx((59 - first + latency) / HZ, abs=(latency + period) / HZ)
    poses = np.array(arm.poses)
    np.testing.assert_allclose(poses[:, 1:4].sum(axis=1), DOWN[1:4].sum(), atol=1e-6)
    np.testing.assert_allclose(poses[:, 4:], np.tile(DOWN[4:], (len(poses), 1)), atol=1e-6)
    assert arm.follower.unreached == 0


def test_in_the_plane_the_tool_keeps_its_height() -> None:
    arm = Arm("tool_delta_xy")
    for k in range(60):
        arm.step((FIRST + k - 1, steadily(0.006, -0.008))) if k else arm.step()
    path = np.array(arm.path)
    assert np.ptp(path[:, 2]) < 1e-4 and off_line_m(path, np.array([0.006, -0.008, 0.0])) < 1e-3
    assert np.linalg.norm(path[-1] - path[0]) > 0.08


def test_a_chunk_goes_on_from_where_the_tool_was_told_to_be_when_it_was_seen() -> None:
    arm = Arm(mode="receding")
    arm.step()
    arm.step((FIRST, steadily(0.005, 0.0, 0.0)))
    for _ in range(20):
        arm.step()
    seen = arm.tick - 12
    told_m = arm.path[seen - FIRST + 1]
    assert arm.tool_m[0] > told_m[0] + 0.009
    arm.follower.pause()
    assert arm.step((seen, steadily(0.0, 0.0, 0.0)))
    np.testing.assert_allclose(arm.tool_m, told_m, atol=1e-4)


def test_a_late_chunk_begins_where_its_own_way_is_by_then() -> None:
    arm = Arm()
    for _ in range(12):
        arm.step()
    before = np.array(arm.poses)
    begin_m, late = arm.tool_m, 9
    assert arm.step((arm.tick + 1 - late, steadily(0.0, 0.006, 0.0)))
    np.testing.assert_array_equal(np.array(arm.poses)[: len(before)], before)
    np.testing.assert_allclose(arm.tool_m - begin_m, [0.0, 0.006 * FPS * late / HZ, 0.0], atol=1e-4)


def test_what_was_seen_too_long_ago_or_is_not_finite_is_dropped_whole() -> None:
    arm = Arm()
    for _ in range(200):
        arm.step()
    broken = steadily(0.0, 0.001, 0.0)
    broken[-1, 2] = np.inf
    assert not arm.step((arm.tick, broken))
    assert not arm.step((FIRST, np.tile(steadily(0.0, 0.001, 0.0), (4, 1))))  # its path is forgotten
    assert not arm.step((arm.tick + 5, steadily(0.0, 0.001, 0.0)))
    np.testing.assert_array_equal(arm.command, DOWN)
    assert arm.follower.newest is None


def test_beyond_the_reach_the_arm_waits_and_comes_back_at_once() -> None:
    arm = Arm()
    for _ in range(300):
        arm.step((arm.tick, steadily(0.02, 0.0, 0.0)))
    far_m = arm.tool_m
    assert arm.follower.unreached > 100 and 0.3 < np.linalg.norm(far_m[:2]) < 0.5
    arm.follower.pause()
    for _ in range(90):
        arm.step((arm.tick, steadily(-0.02, 0.0, 0.0)))
    assert arm.tool_m[0] < far_m[0] - 0.1
    jumps_m = [np.linalg.norm(after - before) for before, after in pairwise(arm.path)]
    assert max(jumps_m) < FASTEST_MPS / HZ + 1e-3


def test_a_path_that_comes_back_into_reach_elsewhere_is_no_jump() -> None:
    arm = Arm()
    arm.step()
    deltas = steadily(0.0, 0.0, 0.0)
    deltas[0], deltas[4] = (0.27, 0.0, 0.0), (-0.27, 0.12, 0.0)
    arm.step((FIRST, deltas))
    for _ in range(60):
        arm.step()
    jumps_m = [np.linalg.norm(after - before) for before, after in pairwise(arm.path)]
    assert max(jumps_m) < FASTEST_MPS / HZ + 1e-3
    np.testing.assert_allclose(arm.tool_m, arm.path[0] + [0.0, 0.12, 0.0], atol=1e-3)


def test_an_arm_that_is_held_back_winds_nothing_up() -> None:
    arm = Arm()
    for _ in range(120):
        arm.step((arm.tick, steadily(0.0, 0.01, 0.0)), blocked=True)
    begin_m = arm.tool_m
    arm.follower.pause()
    for _ in range(12):
        arm.step((arm.tick, steadily(0.0, -0.01, 0.0)))
    assert -0.03 < arm.tool_m[1] - begin_m[1] < -0.01


START = np.array([-15.0, -30.0, 50.0, 70.0, 0.0, 20.0])


@pytest.mark.parametrize("space", ["joint_position", "tool_delta_xy"])
def test_a_run_begins_at_its_start_pose(space: ActionSpace) -> None:
    arm = Arm(space, start_pose=START)
    move = steadily(0.01, 0.0) if space == "tool_delta_xy" else np.tile(START + 3.0, (STEPS, 1))
    taken_at = None
    for _ in range(240):
        before = arm.command
        if arm.step((arm.tick, move)):
            taken_at = arm.tick
            break
        assert np.abs(arm.command - before).max() <= arm.arm.ramp_velocity / HZ + 1e-6
        assert arm.follower.newest is None
    assert taken_at is not None and taken_at - FIRST > 35 * HZ / arm.arm.ramp_velocity
    np.testing.assert_allclose(before, START, atol=1e-6)
    for _ in range(30):
        arm.step()
    assert np.abs(arm.command - START).max() > 2.0


def test_a_chunk_from_the_way_to_the_start_pose_is_not_executed_there() -> None:
    arm = Arm(start_pose=START)
    while not arm.follower.following:
        arm.step()
    assert not arm.step((arm.tick - 2, steadily(0.01, 0.0, 0.0)))
    assert arm.step((arm.tick, steadily(0.01, 0.0, 0.0)))


def test_an_arm_that_is_kept_from_its_start_pose_ends_the_run() -> None:
    arm = Arm(start_pose=START)
    with pytest.raises(SourceError, match=r"kept from the policy's start pose: shoulder_pan is 20\.0 off"):
        for _ in range(400):
            arm.step(blocked=True)


def test_an_arm_that_is_let_go_on_the_way_to_its_start_pose_does_not_rush_there() -> None:
    arm = Arm(start_pose=START)
    for k in range(150):
        before = arm.command
        arm.step(blocked=k < 60)
        assert np.abs(arm.command - before).max() <= arm.arm.ramp_velocity / HZ + 1e-6
    assert arm.follower.following
    np.testing.assert_allclose(arm.command, START, atol=1e-6)


def handed_back(space: ActionSpace, pose: FloatArray) -> Arm:
    """An arm that has been handed back in this pose, when its chunks are executed; it gets there softly."""
    arm = Arm(space, pose=pose, start_pose=START, resume=True)
    for _ in range(300):
        before = arm.command
        if arm.step((arm.tick, steadily(*np.zeros(2 if space == "tool_delta_xy" else 3)))):
            break
        assert np.abs(arm.command - before).max() <= arm.arm.ramp_velocity / HZ + 1e-6
    assert arm.follower.following
    assert arm.command[1:4].sum() == pytest.approx(START[1:4].sum()) and arm.command[5] == START[5]
    return arm


def test_a_run_that_is_handed_back_goes_on_where_it_is_with_the_hand_of_its_start() -> None:
    arm = handed_back("tool_delta_xyz", DOWN)
    np.testing.assert_allclose(arm.tool_m, arm.path[0], atol=1e-3)


def test_in_the_plane_an_arm_that_is_handed_back_high_up_comes_down_no_faster_than_a_ramp() -> None:
    height_m = Arm(pose=START).tool_m[2]
    arm = handed_back("tool_delta_xy", DOWN - [0.0, 30.0, 0.0, 0.0, 0.0, 0.0])
    assert arm.path[0][2] > height_m + 0.07
    np.testing.assert_allclose(arm.tool_m, [*arm.path[0][:2], height_m], atol=1e-3)


def test_where_the_hand_cannot_be_held_as_the_run_holds_it_the_run_begins_at_its_start_pose() -> None:
    arm = handed_back("tool_delta_xyz", np.array([0.0, -95.0, 0.0, 0.0, 0.0, 50.0]))
    np.testing.assert_allclose(arm.command, START, atol=1e-3)


@pytest.mark.parametrize("huge", [0.35, 5.0, 3e38])
def test_a_chunk_that_moves_the_tool_as_no_arm_can_ends_the_run(huge: float) -> None:
    arm = Arm()
    arm.step()
    with pytest.raises(SourceError, match=r"wants the tool to go .* m/s") as caught:
        arm.step((FIRST, steadily(0.0, huge, 0.0)))
    assert caught.value.code == "target_out_of_range"
    np.testing.assert_array_equal(arm.command, DOWN)


def test_a_pose_from_which_the_tool_cannot_be_led_is_named() -> None:
    behind = np.array([0.0, -99.0, -90.0, -90.0, 0.0, 0.0])
    with pytest.raises(ConfigError, match=r"start pose of the policy.*in front of the arm"):
        Arm(pose=behind).step()
