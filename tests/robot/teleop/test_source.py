"""A person's intents through the socket: places, joints, poses, the gripper, and what is none of these."""

from __future__ import annotations

import time

import numpy as np
import pytest

from robot.errors import CommandError
from robot.joints import GRIPPER
from robot.mailbox import MailboxClient
from robot.teleop.goto import SPEED_MPS
from robot.teleop.intents import MAX_JOINT_RATE
from robot.teleop.source import DRAINED_PER_TICK

from controller_rig import DT_S  # isort: skip
from teleop_rig import HIGH, LOW, TeleopRig  # isort: skip

HOVER = np.array([10.0, -20.0, 20.0, 70.0, 20.0, 30.0])


@pytest.fixture
def rig(shared: TeleopRig) -> TeleopRig:
    shared.put(HOVER)
    return shared


def speeds_mps(rig: TeleopRig) -> np.ndarray:
    return np.linalg.norm(np.diff(rig.ways_m(), axis=0), axis=1) / DT_S


@pytest.mark.parametrize("goal", [(0.25, 0.0, 0.15), (0.2, -0.2, 0.1), (0.3, 0.1, 0.06)])
def test_tool_point_goes_to_a_place_with_bounded_speed_and_without_overshoot(
    rig: TeleopRig, goal: tuple[float, float, float]
) -> None:
    x, y, z = goal
    rig.ticks(1, kind="goto", x_m=x, y_m=y, z_m=z)
    rig.ticks(300)
    assert rig.tool_m == pytest.approx(np.array(goal), abs=0.001)
    assert rig.gate.at_rest
    assert rig.limited is None
    assert speeds_mps(rig).max() <= SPEED_MPS * 1.02
    left = np.linalg.norm(rig.ways_m() - np.array(goal), axis=1)
    assert (np.diff(left) <= 2e-5).all()


def test_what_a_place_leaves_out_stays_as_it_is(rig: TeleopRig) -> None:
    before = rig.tool_m
    rig.ticks(1, kind="goto", z_m=before[2] + 0.05)
    rig.ticks(120)
    assert rig.tool_m == pytest.approx(before + np.array([0, 0, 0.05]), abs=0.001)


@pytest.mark.parametrize(
    ("goal", "near_m", "reason"),
    [
        ((0.25, 0.1, -0.2), 0.25, "table"),
        ((0.9, 0.0, 0.2), 0.49, "reaches|straight|limit"),
        ((0.3, 0.0, 0.9), 0.47, "reaches|straight|limit"),
        ((-0.1, 0.26, 0.33), 0.1, "limit"),  # where the arm must slow down first to turn off
    ],
)
def test_place_out_of_reach_ends_as_near_as_possible_and_says_why(
    rig: TeleopRig, goal: tuple[float, float, float], near_m: float, reason: str
) -> None:
    x, y, z = goal
    rig.ticks(1, kind="goto", x_m=x, y_m=y, z_m=z)
    rig.ticks(900)
    assert any(part in str(rig.limited) for part in reason.split("|")), rig.limited
    assert np.linalg.norm(rig.tool_m - np.array(goal)) < near_m
    left = np.linalg.norm(rig.ways_m() - np.array(goal), axis=1)
    assert (np.diff(left) <= 1e-4).all()
    assert rig.gate.at_rest
    assert min(rig.clearance(rig.gate.position)) >= 0.0
    stopped = rig.tool_m
    back = 0.1 * (stopped - np.array(goal)) / np.linalg.norm(stopped - np.array(goal))
    rig.ticks(20, kind="jog", **dict(zip(("vx_mps", "vy_mps", "vz_mps"), back.tolist(), strict=True)))
    assert np.linalg.norm(rig.tool_m - stopped) > 0.01  # and is free at once


@pytest.mark.parametrize("goal", [(-0.13, 0.01, 0.21), (0.17, -0.2, -0.04)])
def test_way_is_given_up_where_it_leads_hardly_nearer_and_looks_at_few_ways_in_a_tick(
    rig: TeleopRig, monkeypatch: pytest.MonkeyPatch, goal: tuple[float, float, float]
) -> None:
    steps: list[int] = []
    step = rig.jog.step
    monkeypatch.setattr(rig.jog, "step", lambda *given: (steps.append(len(rig.goals)), step(*given))[1])
    x, y, z = goal
    rig.ticks(1, kind="goto", x_m=x, y_m=y, z_m=z)
    while rig.source._wish is not None:
        rig.ticks(1)
        assert len(rig.goals) < 600
    assert max(steps.count(tick) for tick in set(steps)) <= 3
    left = np.linalg.norm(rig.ways_m() - np.array(goal), axis=1)
    while_ticks = round(2.1 / DT_S)
    assert (left[:-while_ticks] - left[while_ticks:]).min() > 0.005
    assert rig.limited is not None


def test_another_place_and_a_halt_replace_the_first(rig: TeleopRig) -> None:
    rig.ticks(1, kind="goto", x_m=0.3, y_m=0.2, z_m=0.2)
    rig.ticks(20)
    rig.ticks(1, kind="goto", x_m=0.25, y_m=-0.1, z_m=0.1)
    rig.ticks(300)
    assert rig.tool_m == pytest.approx(np.array([0.25, -0.1, 0.1]), abs=0.001)
    rig.ticks(1, kind="goto", x_m=0.3, y_m=0.2, z_m=0.2)
    rig.ticks(20)
    assert not rig.gate.at_rest
    rig.ticks(1, kind="halt")
    rig.ticks(10)
    assert rig.gate.at_rest
    still = rig.gate.position
    rig.ticks(30)
    assert (rig.gate.position == still).all()


def test_joints_turn_by_themselves_up_to_their_limits(rig: TeleopRig) -> None:
    rates = [40.0, 0.0, 0.0, 0.0, -30.0, 0.0]
    rig.ticks(30, kind="joints", rates=rates)
    moved = rig.gate.position - HOVER
    assert moved[[1, 2, 3, GRIPPER]] == pytest.approx(np.zeros(4))
    assert moved[0] == pytest.approx(20.0, abs=1.5)
    assert moved[4] == pytest.approx(-15.0, abs=1.5)
    rig.ticks(200, kind="joints", rates=[1000.0, 0, 0, 0, 0, 0])
    assert rig.gate.position[0] == pytest.approx(HIGH[0])
    assert rig.limited == "shoulder_pan is at its limit"
    goals = np.array(rig.goals)
    assert np.abs(np.diff(goals, axis=0)).max() <= MAX_JOINT_RATE * DT_S + 1e-9
    rig.ticks(2, kind="joints", rates=[-40.0, 0, 0, 0, 0, 0])
    assert rig.gate.position[0] < HIGH[0]
    assert rig.limited is None


def test_gripper_goes_to_its_width_while_the_arm_does_something_else(rig: TeleopRig) -> None:
    rig.send(kind="gripper", gripper_pct=80.0)
    rig.ticks(60, kind="jog", vy_mps=0.05)
    assert rig.gate.position[GRIPPER] == pytest.approx(80.0, abs=0.1)
    assert rig.tool_m[1] > rig.jog.tool_m(HOVER)[1] + 0.04
    assert np.array(rig.goals)[:, GRIPPER].max() <= 80.0 + 1e-6
    rig.ticks(30, kind="jog", gripper_pps=-60.0)
    assert rig.gate.position[GRIPPER] == pytest.approx(50.0, abs=3.0)


def test_stream_of_poses_is_followed_and_ends_in_a_hold(rig: TeleopRig) -> None:
    steps = [HOVER + np.array([0.5 * k, 0.2 * k, 0, 0, 0, 0]) for k in range(60)]
    for step in steps:
        rig.ticks(1, kind="pose", position=step.tolist())
    assert rig.gate.position == pytest.approx(steps[-2], abs=0.05)  # a period later
    rig.ticks(60)
    assert rig.gate.at_rest
    assert rig.gate.position == pytest.approx(steps[-1], abs=0.05)


def test_poses_that_come_in_pairs_or_not_at_all_move_the_arm_evenly(rig: TeleopRig) -> None:
    k = 0
    for count in [1, 0, 2, 1, 1, 2, 0] * 14:
        for _ in range(count):
            rig.send(kind="pose", position=(HOVER + np.array([0.5 * k, 0, 0, 0, 0, 0])).tolist())
            k += 1
        rig.ticks(1)
    speeds = np.diff(np.array(rig.goals)[-60:, 0]) / DT_S
    assert speeds == pytest.approx(np.full(59, 30.0), abs=6.0)


def test_pose_elsewhere_is_faded_in_and_kept_within_the_limits(rig: TeleopRig) -> None:
    away = HOVER.copy()
    away[0], away[4] = 60.0, 300.0
    rig.ticks(320, kind="pose", position=away.tolist())
    away[4] = HIGH[4]
    assert rig.gate.position == pytest.approx(away)
    assert np.abs(np.diff(np.array(rig.goals), axis=0)).max() <= 61.0 * DT_S
    assert (np.array(rig.goals) >= LOW).all()


def test_takeover_in_motion_comes_to_rest_on_its_way(rig: TeleopRig) -> None:
    for k in range(20):  # somebody else drives
        rig.gate.check(HOVER + np.array([1.5 * k, 0, 0, -0.5 * k, 0, 0]))
    moving = rig.gate.motion
    rig.goals = [moving.position]
    rig.ticks(20)
    way = np.array(rig.goals)[:, 0]
    assert (np.diff(way) >= 0).all()
    assert rig.gate.at_rest
    assert way[-1] - way[0] < 0.05 * moving.velocity[0]


def test_what_is_no_intent_is_counted_and_changes_nothing(rig: TeleopRig) -> None:
    raw = MailboxClient(rig.socket)
    before = rig.source.teleop.refused
    for payload in (b"", b"{", b'{"kind":"jog","vx_mps":1e999}', b'{"kind":"fly"}'):
        raw.send(payload)
    rig.ticks(30, kind="jog", vy_mps=0.1)
    assert rig.source.teleop.refused == before + 4
    assert rig.tool_m[1] > rig.jog.tool_m(HOVER)[1] + 0.02


def test_flood_costs_a_few_intents_a_tick_and_the_newest_word_comes_through(rig: TeleopRig) -> None:
    raw, sent = MailboxClient(rig.socket), 0
    with pytest.raises(CommandError) as refused:
        while True:
            raw.send(b"nothing")
            sent += 1
    assert refused.value.code == "busy"  # it waits with its sender
    before = rig.source.teleop.refused
    rig.ticks(1)
    assert rig.source.teleop.refused == before + min(sent, DRAINED_PER_TICK)
    end_s = time.monotonic() + 5.0
    while rig.source.teleop.refused < before + sent:
        rig.ticks(1)
        assert time.monotonic() < end_s
    rig.ticks(20, kind="jog", vy_mps=0.1)
    assert not rig.gate.at_rest


def test_socket_in_use_is_refused_and_free_after_the_end(rig: TeleopRig) -> None:
    with pytest.raises(CommandError, match="another process listens"):
        TeleopRig(rig.socket.parent)
    assert (rig.goals[0] == HOVER).all()
