"""Finds the servo model's free parameters from recordings of a real arm.

What the published identification of the servo gives (torque constant, resistance, armature, gain) stays.
Free is what differs from arm to arm: friction of gears and joints, and the delay from a goal to the motor's
reaction. The recordings are played as LeRobot played them, one goal per frame straight to the servos.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from robot.joints import ARM_JOINTS
from robot.kinematics import user_to_rad
from robot.recording.compare import Comparison, compare
from robot.recording.replay import Episode, UnitMap
from robot.recording.writer import Units
from robot.seams import FloatArray
from robot.twin.lockstep import LockstepArm, LockstepClock
from robot.twin.motor import ServoParameters
from robot.twin.world import World, WorldConfig

LAG_WEIGHT = 1.0
"""Recording's units of rmse that one frame of lag is worth."""


def play_direct(episode: Episode, units: Units, parameters: ServoParameters) -> FloatArray:
    """Play an episode on a bare lockstep twin without controller and gate.

    Returns:
        Positions at the recording's frames, in its units, shape (frames, 6).
    """
    world = World(WorldConfig(follower=parameters, bare=True))
    arm, clock = LockstepArm(world), LockstepClock(world)
    unit_map = UnitMap(units, arm.calibration)
    start_rad = user_to_rad(unit_map.to_user(episode.state[0]))
    world.data.qpos[: len(start_rad)] = start_rad
    world.follower.reset_pose(start_rad)
    arm.enable()
    goals = unit_map.to_user(episode.action)
    states = []
    for frame, goal in enumerate(goals):
        clock.sleep_until_s(frame / episode.fps)
        states.append(arm.read().position)
        arm.write(goal)
    return unit_map.from_user(np.stack(states))


def score(comparison: Comparison) -> float:
    """How far a twin is from a recording: rmse and lag of the five arm joints, in the recording's units."""
    total = 0.0
    for name in ARM_JOINTS:
        joint = comparison.joints[name]
        total += joint.rmse
        if joint.lag_real_frames is not None and joint.lag_twin_frames is not None:
            total += LAG_WEIGHT * abs(joint.lag_twin_frames - joint.lag_real_frames)
    return total / len(ARM_JOINTS)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Parameters and how well they do on the episodes they were tried on."""

    parameters: ServoParameters
    score: float


def identify(
    episodes: Sequence[Episode],
    units: Units,
    *,
    coulomb_nm: Iterable[float],
    command_delay_s: Iterable[float],
    viscous_nm_s_per_rad: Iterable[float] | None = None,
    supply_v: Iterable[float] | None = None,
    base: ServoParameters | None = None,
) -> list[Candidate]:
    """Try every combination of the given values on all episodes.

    Args:
        episodes: recordings to fit; keep some aside to report on.
        units: their units.
        coulomb_nm: friction to try.
        command_delay_s: delays to try.
        viscous_nm_s_per_rad: viscous friction to try; the base's by default.
        supply_v: supplies to try; the base's by default.
        base: everything else.

    Returns:
        All candidates, the best first.
    """
    base = base or ServoParameters()
    viscous = list(viscous_nm_s_per_rad or (base.viscous_nm_s_per_rad,))
    supplies = list(supply_v or (base.supply_v,))
    delays = list(command_delay_s)
    candidates = []
    for coulomb in coulomb_nm:
        for delay in delays:
            for damping in viscous:
                for volts in supplies:
                    tried = replace(
                        base,
                        coulomb_nm=coulomb,
                        command_delay_s=delay,
                        viscous_nm_s_per_rad=damping,
                        supply_v=volts,
                    )
                    scores = [score(compare(e, play_direct(e, units, tried))) for e in episodes]
                    candidates.append(Candidate(tried, float(np.mean(scores))))
    return sorted(candidates, key=lambda candidate: candidate.score)
