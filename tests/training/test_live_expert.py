from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from robot.seams import FloatArray
from robot.twin.tasks import CubePlace
from training.experts.live import LiveExpert, Seen
from training.stage import Stage


class TableTop:
    """The lockstep twin as a live scene: time passes when the expert waits."""

    def __init__(self, place: CubePlace) -> None:
        self.stage = Stage(64, 48)
        self.lock = threading.Lock()
        start = self.stage.robot.ready_pose.array()
        self.goal = self.stage.reset(place.alone(), start)
        self.sent: list[FloatArray] = []
        self.taken_away = False
        self.at_s = {0.0: lambda: None}

    def now_s(self) -> float:
        return self.stage.clock.now_s()

    def sleep_until_s(self, deadline_s: float) -> None:
        with self.lock:
            self.stage.arm.write(self.goal)
            self.stage.clock.sleep_until_s(deadline_s)
        for due_s in [due_s for due_s in self.at_s if due_s <= self.now_s()]:
            self.at_s.pop(due_s)()

    def seen(self) -> Seen:
        with self.lock:
            return Seen(self.stage.arm.read().position, self.goal.copy())

    def truth(self) -> dict[str, Any]:
        with self.lock:
            return self.stage.world.truth()

    def send(self, pose: FloatArray) -> None:
        self.sent.append(pose)
        self.goal = pose

    def ended(self) -> bool:
        return self.taken_away


@pytest.fixture
def top() -> TableTop:
    return TableTop(CubePlace(0.24, -0.05, 0.4))


def perform(top: TableTop) -> bool:
    with LiveExpert(top, top) as expert:
        return expert.perform(1.2)


def test_a_cube_that_slips_away_is_fetched_to_the_bowl_and_no_pose_leaps(top: TableTop) -> None:
    slipped: list[int] = []

    def slip() -> None:
        if top.stage.world.cube_xyz_m[2] < 0.05:
            top.at_s[top.now_s() + 0.05] = slip
        else:
            slipped.append(len(top.sent))
            top.stage.world.place_cube(0.21, 0.09, -0.7)

    top.at_s[1.0] = slip  # once it is on its way to the bowl
    assert perform(top)
    assert top.truth()["cube_in_bowl"]
    steps = np.abs(np.diff(np.array(top.sent), axis=0))[:, :5]
    assert steps.max() < 6.0, "degrees from one pose to the next, at 60 Hz"
    assert slipped and len(top.sent) > slipped[0] + 120, "went for it once more"


def test_an_arm_that_is_taken_away_gets_no_more_poses(top: TableTop) -> None:
    top.at_s[1.0] = lambda: setattr(top, "taken_away", True)
    assert not perform(top)
    assert len(top.sent) <= 62  # sixty a second


def test_a_cube_out_of_reach_is_left(top: TableTop) -> None:
    top.stage.world.place_cube(0.60, 0.5)
    assert not perform(top)
    assert top.sent == []
