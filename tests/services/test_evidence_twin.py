"""The verdict and the world agree on the twin, without the verdict looking at the world."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from calibration.table import TableMap
from robot.config import load_robot
from robot.joints import GRIPPER
from robot.kinematics import Kinematics
from robot.seams import ByteArray, FloatArray
from robot.twin.render import Renderer
from robot.twin.tasks import PickPlace
from services.evidence import ArmSample, GripperEvidence, PictureEvidence, Verdict, judge
from training.experts.pick_place import PickPlaceExpert, Plan
from training.stage import Stage

pytestmark = pytest.mark.slow

CONFIG, _ = load_robot("twin")
READY = CONFIG.ready_pose.array()


class Watched:
    """A lockstep twin whose servos are watched as the service watches them."""

    def __init__(self) -> None:
        self.stage = Stage(64, 48)
        self.renderer = Renderer(640, 480)
        self.expert = PickPlaceExpert(self.stage.world)
        self.kinematics = Kinematics()
        overhead = next(camera for camera in CONFIG.cameras if camera.name == "overhead")
        assert overhead.table_map is not None
        self.table_map = TableMap(overhead.table_map)

    def close(self) -> None:
        self.renderer.close()
        self.stage.close()

    def picture(self) -> ByteArray:
        return self.renderer.render(self.stage.world.render_state(), "overhead")

    def ramp(self, start: FloatArray) -> None:
        for share in np.linspace(0.0, 1.0, 60):
            self.stage.arm.write(start + (READY - start) * share)
            self.stage.advance()
        for _ in range(20):
            self.stage.advance()

    def follow(self, plan: Plan, evidence: GripperEvidence, open_at: float | None = None) -> FloatArray:
        command = READY
        for tick in range(int(plan.duration_s * 60) + 90):
            command, segment = plan.at(min(tick / 60, plan.duration_s))
            if open_at is not None and segment == "carry" and tick / 60 > open_at * plan.duration_s:
                command = command.copy()
                command[GRIPPER] = 60.0
            self.stage.arm.write(command)
            self.stage.advance()
            self._watch(command, evidence)
        return command

    def _watch(self, command: FloatArray, evidence: GripperEvidence) -> None:
        state = self.stage.arm.read()
        tool = self.kinematics.tool_position_m(state.position)
        evidence.update(
            ArmSample(
                time_s=state.time_s,
                tool_m=(float(tool[0]), float(tool[1]), float(tool[2])),
                gripper_pct=float(state.position[GRIPPER]),
                gripper_goal_pct=float(command[GRIPPER]),
                gripper_load_pct=float(state.load_pct[GRIPPER]),
                fastest_dps=float(np.abs(state.velocity[:GRIPPER]).max()),
            )
        )

    def trial(self, seed: int, kind: str) -> tuple[Verdict, bool]:
        """One pickup of a kind; the verdict, and whether the cube is in the bowl."""
        assert CONFIG.bowl is not None
        place = PickPlace().place(np.random.default_rng(seed))
        self.ramp(self.stage.reset(place.alone(), READY))
        pickup = (place.x_m, place.y_m)
        pictures = PictureEvidence(self.picture(), self.table_map, pickup, CONFIG.bowl)
        evidence = GripperEvidence(CONFIG.bowl)
        aim = np.array(pickup) + 0.03 if kind == "missed" else None
        plan = self.expert.plan(READY, aim_xy_m=aim)
        last = self.follow(plan, evidence, open_at=0.72 if kind == "let go" else None)
        self.ramp(last)
        return judge(evidence, pictures, self.picture()), bool(self.stage.world.cube_in_bowl)


@pytest.fixture(scope="module")
def twin() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.close()


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_good_pickup_is_seen_to_be_good(twin: Watched, seed: int) -> None:
    verdict, in_bowl = twin.trial(seed, "good")
    assert in_bowl and verdict.succeeded, verdict


@pytest.mark.parametrize("seed", [3, 6])
def test_a_missed_cube_is_seen_to_be_missed(twin: Watched, seed: int) -> None:
    verdict, in_bowl = twin.trial(seed, "missed")
    assert not in_bowl and verdict.reason == "nothing_grasped", verdict


@pytest.mark.parametrize("seed", [4, 7])
def test_a_cube_let_go_on_the_way_is_seen_to_be_lost(twin: Watched, seed: int) -> None:
    verdict, in_bowl = twin.trial(seed, "let go")
    assert not in_bowl
    assert verdict.reason in ("not_released_over_bowl", "dropped", "nothing_grasped"), verdict
