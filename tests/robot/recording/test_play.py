"""The twin's servos against recordings: of the twin itself, and of a real arm where there is one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from recording_samples import REAL

from robot.config import load_robot
from robot.errors import CommandError, So101Error
from robot.joints import ARM_JOINTS
from robot.kinematics import Kinematics
from robot.model import load_arm
from robot.recording.compare import Comparison, compare
from robot.recording.identify import identify, play_direct
from robot.recording.play import play
from robot.recording.reader import Dataset
from robot.recording.replay import Episode, UnitMap, load_episode
from robot.recording.writer import Units
from robot.safety.clearance import ArmClearance, unlimited
from robot.seams import FloatArray
from robot.twin.lockstep import LockstepArm, LockstepClock
from robot.twin.motor import ServoParameters
from robot.twin.world import World, WorldConfig

BAR_LAG_FRAMES = 1.0
BAR_RMSE = 3.0


def own_recording(parameters: ServoParameters, length: int = 120) -> Episode:
    """What the twin with other servos would have recorded, in degrees."""
    t = np.arange(length)[:, None] / 30
    still = np.array([0.0, -40.0, 40.0, 30.0, 0.0, 30.0])
    waves = np.array([30.0, 20.0, 20.0, 25.0, 30.0, 20.0]) * np.sin(t * np.array([2, 1.7, 2.3, 2.6, 3, 2]))
    action = still + waves * np.minimum(t, 1.0)
    episode = Episode(action, np.tile(action[0], (length, 1)), 30.0)
    return Episode(action, play_direct(episode, "degrees", parameters), 30.0)


def played(episode: Episode, units: Units, *, bare: bool = True) -> tuple[FloatArray, World]:
    world = World(WorldConfig(bare=bare))
    arm = LockstepArm(world)
    config = load_robot("twin")[0]
    clearance = unlimited if bare else ArmClearance(load_arm(), config.gate)
    unit_map = UnitMap(units, arm.calibration)
    clock = LockstepClock(world)
    return play(episode, unit_map, config, arm, clock=clock, clearance=clearance), world


def check(result: Comparison, lag: float, rmse: float) -> None:
    for name, joint in result.joints.items():
        assert joint.rmse < rmse, name
        if name in ARM_JOINTS:
            values = joint.as_json()
            assert values["lag_frames"] is not None, name
            assert abs(values["lag_frames"]) < lag, name


def test_its_own_recording_is_played_alike_and_the_arm_ends_limp() -> None:
    episode = own_recording(ServoParameters())
    states, world = played(episode, "degrees")
    check(compare(episode, states), lag=0.6, rmse=2.0)
    assert not LockstepArm(world).torque_enabled()


def test_slower_servos_show_as_a_lag() -> None:
    slow = ServoParameters(command_delay_s=0.105)
    episode = own_recording(slow)
    result = compare(episode, played(episode, "degrees")[0]).as_json()["joints"]
    for name in ARM_JOINTS:
        # The recorded servos waited 0.1 s longer, that is three frames.
        assert result[name]["lag_frames"] == pytest.approx(-3.0, abs=0.8), name


def test_a_fault_ends_the_replay_with_its_name() -> None:
    episode = own_recording(ServoParameters(), 60)
    world = World(WorldConfig(bare=True))
    arm = LockstepArm(world)
    world.follower.set_supply(4.5)
    with pytest.raises(So101Error, match=r"4\.5 V"):
        play(
            episode,
            UnitMap("degrees", arm.calibration),
            load_robot("twin")[0],
            arm,
            clock=LockstepClock(world),
            clearance=unlimited,
        )


class Eventful(LockstepArm):
    """Remembers its goals; something happens once, in the middle of the waves."""

    def __init__(self, happens: Callable[[Eventful], None]) -> None:
        super().__init__(World(WorldConfig(bare=True)))
        self.happens = happens
        self.goals: list[FloatArray] = []
        self.happened = False

    def write(self, goal: FloatArray) -> None:
        super().write(goal)
        self.goals.append(goal.copy())
        if not self.happened and goal[0] > 10.0:
            self.happened = True
            self.happens(self)

    def jam(self) -> None:
        self.world.follower.block(3, blocked=True)

    def play(self) -> FloatArray:
        config, clock = load_robot("twin")[0], LockstepClock(self.world)
        units = UnitMap("degrees", self.calibration)
        return play(
            own_recording(ServoParameters(), 90), units, config, self, clock=clock, clearance=unlimited
        )


def interrupt(arm: Eventful) -> None:
    raise KeyboardInterrupt


def test_a_joint_that_jams_ends_the_replay_and_nothing_moves_by_itself() -> None:
    arm = Eventful(Eventful.jam)
    with pytest.raises(
        So101Error, match=r"while playing the episode: elbow_flex .* \(look for an obstacle .*holds"
    ):
        arm.play()
    assert arm.torque_enabled()
    assert arm.goals[-1][2] == pytest.approx(arm.read().position[2], abs=1.0)
    assert np.abs(arm.goals[-1] - load_robot("twin")[0].park_pose.array()).max() > 30.0


def test_an_interrupt_parks_the_arm_and_a_park_that_does_not_come_off_says_why() -> None:
    arm = Eventful(interrupt)
    with pytest.raises(KeyboardInterrupt):
        arm.play()
    assert not arm.torque_enabled()

    def jam_too(arm: Eventful) -> None:
        arm.jam()
        interrupt(arm)

    with pytest.raises(So101Error, match=r"while parking: elbow_flex .* \(look for an obstacle"):
        Eventful(jam_too).play()


def test_with_a_table_the_gate_keeps_the_arm_above_it() -> None:
    action = np.tile([0.0, 30.0, 30.0, 60.0, 0.0, 10.0], (60, 1))
    start = np.tile([0.0, -40.0, 40.0, 60.0, 0.0, 10.0], (60, 1))
    assert Kinematics().lowest_point_m(action[0]) < 0
    _, world = played(Episode(action, start, 30.0), "degrees", bare=False)
    assert world.time_s > 2


def test_known_servos_are_identified() -> None:
    true = ServoParameters(coulomb_nm=0.10, command_delay_s=0.03)
    episodes = [own_recording(true, 90)]
    found = identify(episodes, "degrees", coulomb_nm=(0.0, 0.10, 0.25), command_delay_s=(0.005, 0.03, 0.06))
    assert len(found) == 9
    best = found[0].parameters
    assert (best.coulomb_nm, best.command_delay_s) == (0.10, 0.03)
    assert found[0].score == pytest.approx(0.0, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_servos_follow_as_a_real_arms_do(number: int) -> None:
    """Episodes 0 and 1 are those the servo model was tuned on, 2 is not."""
    if not REAL.is_file():
        pytest.skip(f"no real recording at {REAL}")
    episode = load_episode(Dataset(REAL), number)
    states, _ = played(episode, "m100_100")
    check(compare(episode, states), BAR_LAG_FRAMES, BAR_RMSE)


def test_refusal_to_start_is_passed_on() -> None:
    episode = own_recording(ServoParameters(), 60)
    world = World(WorldConfig(bare=True))
    arm = LockstepArm(world)

    class Stubborn(LockstepArm):
        def enable(self) -> FloatArray:
            raise CommandError("will not", code="stubborn")

    with pytest.raises(CommandError):
        play(
            episode,
            UnitMap("degrees", arm.calibration),
            load_robot("twin")[0],
            Stubborn(world),
            clock=LockstepClock(world),
            clearance=unlimited,
        )
