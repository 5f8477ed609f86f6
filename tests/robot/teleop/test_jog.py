"""Jogging the hand: straight, within all limits, to a stop where the arm ends, and back the same way."""

from __future__ import annotations

import numpy as np
import pytest

from robot.joints import GRIPPER
from robot.seams import FloatArray
from robot.teleop.jog import RATE, SINGULAR_M, STRAIGHT_DEG
from robot.teleop.source import DEAD_MAN_S

from controller_rig import CONFIG, DT_S, READY  # isort: skip
from teleop_rig import HIGH, LOW, TeleopRig  # isort: skip

HOVER = np.array([10.0, -20.0, 20.0, 70.0, 20.0, 30.0])
"""In the middle of everything, the gripper pointing well down."""
ASTRAY_M, ASTRAY_S = 0.002, 0.03
"""What the tool point may leave its line by in a second: most where something stops it at full speed."""
POSES = 24


@pytest.fixture
def rig(shared: TeleopRig) -> TeleopRig:
    shared.put(READY)
    return shared


def legal_poses(rig: TeleopRig, count: int) -> list[FloatArray]:
    """Poses with room around them, an elbow that is bent as always, and no singularity."""
    rng, found = np.random.default_rng(3), []
    while len(found) < count:
        pose = rng.uniform(LOW + 2.0, HIGH - 2.0)
        bent = pose[2] > -73.0 + STRAIGHT_DEG
        if bent and min(rig.clearance(pose)) > 0.0 and least_m(rig, pose) > SINGULAR_M:
            found.append(pose)
    return found


def least_m(rig: TeleopRig, pose: FloatArray) -> float:
    """Smallest singular value of the tool point's Jacobian, by differences."""
    here = rig.jog.tool_m(pose)
    turn = 0.01
    columns = [(rig.jog.tool_m(pose + turn * np.eye(6)[i]) - here) / np.deg2rad(turn) for i in range(4)]
    return float(np.linalg.svd(np.array(columns).T)[1][2])


def along_and_astray(rig: TeleopRig, direction: FloatArray) -> tuple[FloatArray, FloatArray]:
    """For each goal: how far the tool point has come, and how far it is off the line, metres."""
    way = rig.ways_m() - rig.jog.tool_m(rig.goals[0])
    along = way @ direction
    return along, np.linalg.norm(way - along[:, None] * direction, axis=1)


def check_limits(rig: TeleopRig) -> None:
    goals = np.array(rig.goals)
    assert (goals >= LOW).all()
    assert (goals <= HIGH).all()
    speeds = np.diff(goals, axis=0)[:, :GRIPPER] / DT_S
    assert np.abs(speeds).max() <= RATE + 1e-6
    assert min(min(rig.clearance(goal)) for goal in rig.goals[::5]) >= -1e-6


@pytest.mark.parametrize("speed_mps", [0.05, 0.25])
def test_from_anywhere_in_any_direction_the_tool_point_keeps_its_line_and_all_limits(
    rig: TeleopRig, speed_mps: float
) -> None:
    rng = np.random.default_rng(int(1000 * speed_mps))
    for pose in legal_poses(rig, POSES):
        rig.put(pose)
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        names = ("vx_mps", "vy_mps", "vz_mps")
        intent = dict(zip(names, (speed_mps * direction).tolist(), strict=True))
        rig.ticks(60, kind="jog", **intent)
        along, astray = along_and_astray(rig, direction)
        assert astray.max() < ASTRAY_M + ASTRAY_S * speed_mps, (pose, direction)
        assert (np.diff(along) > -1e-4).all(), (pose, direction)  # never back
        assert np.diff(along).max() <= speed_mps * DT_S * 1.05
        check_limits(rig)
        if along[-1] < 0.9 * speed_mps * 59 * DT_S:
            assert rig.limited is not None or along[-1] > 0.5 * speed_mps * 59 * DT_S, (pose, direction)


def test_going_back_returns_and_answers_at_once_after_a_long_push_against_the_end(rig: TeleopRig) -> None:
    rig.put(HOVER)
    start = rig.tool_m
    rig.ticks(400, kind="jog", vx_mps=0.1)
    assert rig.limited is not None
    stopped, far = rig.gate.position, rig.tool_m
    rig.ticks(120, kind="jog", vx_mps=0.1)  # and pushed on
    assert rig.gate.position == pytest.approx(stopped, abs=0.3)
    rig.ticks(6, kind="jog", vx_mps=-0.1)
    assert rig.tool_m[0] < far[0] - 0.002
    assert rig.limited is None
    while rig.tool_m[0] > start[0]:
        rig.ticks(1, kind="jog", vx_mps=-0.1)
        assert len(rig.goals) < 2000
    assert rig.tool_m == pytest.approx(start, abs=0.004)
    assert rig.gate.position[2] == pytest.approx(HOVER[2], abs=3.0)  # the elbow as it was


@pytest.mark.parametrize(
    ("axis", "reason"),
    [
        ({"vz_mps": -0.1}, "table"),
        ({"vz_mps": 0.25}, "reaches|limit|straight"),
        ({"vx_mps": -0.1}, "limit|arm itself"),
    ],
)
def test_what_ends_the_way_is_named_and_the_arm_stands_still_there(
    rig: TeleopRig, axis: dict[str, float], reason: str
) -> None:
    rig.put(HOVER)
    rig.ticks(300, kind="jog", **axis)
    assert any(part in str(rig.limited) for part in reason.split("|")), rig.limited
    still = rig.gate.position
    rig.ticks(60, kind="jog", **axis)
    assert rig.gate.position == pytest.approx(still, abs=0.2)
    assert min(rig.clearance(rig.gate.position)) >= 0.0


def test_pitch_turns_about_the_tool_point_and_roll_leaves_it_there(rig: TeleopRig) -> None:
    rig.put(HOVER)
    start, pitch = rig.tool_m, rig.jog.pitch_deg(HOVER)
    rig.ticks(30, kind="jog", pitch_dps=30.0)
    assert rig.jog.pitch_deg(rig.gate.position) == pytest.approx(pitch + 15.0, abs=1.0)
    assert rig.tool_m == pytest.approx(start, abs=0.001)
    rig.ticks(60, kind="jog", roll_dps=45.0)
    assert rig.gate.position[4] == pytest.approx(HOVER[4] + 45.0, abs=2.0)
    assert rig.tool_m == pytest.approx(start, abs=0.002)


def test_pitch_is_kept_and_taken_up_again_after_it_had_to_give_way(rig: TeleopRig) -> None:
    rig.put(HOVER)
    pitch = rig.jog.pitch_deg(HOVER)
    rig.ticks(60, kind="jog", vy_mps=0.1)
    assert rig.jog.pitch_deg(rig.gate.position) == pytest.approx(pitch, abs=0.5)
    rig.ticks(240, kind="jog", vx_mps=0.1)
    assert abs(rig.jog.pitch_deg(rig.gate.position) - pitch) > 5.0  # the end of the reach asks for it
    rig.ticks(120, kind="jog", vx_mps=-0.1)
    assert rig.jog.pitch_deg(rig.gate.position) == pytest.approx(pitch, abs=0.5)


def test_dead_man_stops_the_arm(rig: TeleopRig) -> None:
    rig.put(HOVER)
    rig.ticks(20, kind="jog", vy_mps=0.2)
    sent = len(rig.goals)
    rig.ticks(round(1.0 / DT_S))
    moving = np.flatnonzero(np.abs(np.diff(np.array(rig.goals), axis=0)).max(axis=1) > 0)
    assert DEAD_MAN_S - 0.05 < (moving[-1] + 1 - sent) * DT_S < DEAD_MAN_S + 0.1
    assert rig.gate.at_rest


def test_standing_still_means_not_a_bit_of_change(rig: TeleopRig) -> None:
    rig.put(HOVER)
    rig.ticks(50, kind="jog")
    rig.ticks(50)
    assert (np.array(rig.goals) == HOVER).all()
    assert CONFIG.gate.tool_box is None


def test_bent_elbow_is_not_led_through_straight(rig: TeleopRig) -> None:
    """Pulled outward and up for long, the elbow keeps to its side and the arm comes back by itself."""
    for away in ([0.2, 0.0, 0.1], [0.1, 0.15, 0.15], [0.0, 0.0, 0.25]):
        rig.put(HOVER)
        names = dict(zip(("vx_mps", "vy_mps", "vz_mps"), away, strict=True))
        rig.ticks(240, kind="jog", **names)
        back = {name: -speed for name, speed in names.items()}
        rig.ticks(60, kind="jog", **back)
        assert np.array(rig.goals)[:, 2].min() > -73.0
        check_limits(rig)
