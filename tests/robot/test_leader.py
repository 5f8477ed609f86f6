"""The follower goes where the leader's emulated servos are; what goes wrong with the leader holds it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from served_bus import ServedBus

from robot.calibration_file import Calibration
from robot.leader import ENGAGED, LeaderReader, LeaderSource
from robot.servo_arm import ServoArm

from controller_rig import CONFIG, DT_S, READY, Rig  # isort: skip

LOW, HIGH = CONFIG.gate.min_position.array(), CONFIG.gate.max_position.array()
APPROACH = 30.0


class Teleoperation:
    """A scripted follower on a controller, and a leader of emulated servos on a pty."""

    def __init__(self, leader: ServedBus, calibration: Calibration) -> None:
        self.leader = leader
        self.readers: list[LeaderReader] = []
        self.rig = Rig()
        self.opening: Callable[[], ServoArm] = lambda: ServoArm.connect(leader.path, calibration)
        self.rig.controller.modes._runs._sources = {"leader": self.make}

    def make(self, args: object) -> LeaderSource:
        self.readers.append(LeaderReader(self.opening, DT_S))
        return LeaderSource(self.readers[-1], LOW, HIGH, DT_S)

    def place(self, pose: np.ndarray) -> None:
        self.leader.bank.position_rad[:5] = np.deg2rad(pose[:5])

    def engage(self) -> Teleoperation:
        self.rig.go("ready")
        self.place(READY)
        assert self.rig.run(source="leader") == {"ok": True}
        return self

    def ticks(self, count: int) -> None:
        """Real time: the reader is a thread on a pty."""
        for _ in range(count):
            self.rig.ticks(1)
            time.sleep(DT_S / 2)

    def until(self, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < end_s, self.rig.faults
            self.ticks(1)

    def close(self) -> None:
        for reader in self.readers:
            reader.close()
            reader._thread.join(5.0)


@pytest.fixture
def teleoperation(served: ServedBus, calibration: Calibration) -> Iterator[Teleoperation]:
    teleoperation = Teleoperation(served, calibration)
    yield teleoperation
    teleoperation.close()


def test_follower_comes_to_a_leader_that_stands_elsewhere_and_then_follows(
    teleoperation: Teleoperation,
) -> None:
    rig = teleoperation.rig
    teleoperation.engage()
    away = READY + np.array([40.0, 0, 0, 0, 0, 0])
    teleoperation.place(away)
    first = len(rig.arm.goals)
    teleoperation.until(lambda: abs(rig.arm.goals[-1][0] - away[0]) < 0.5)
    speeds = np.abs(np.diff(np.array(rig.arm.goals[first:])[:, 0])) / DT_S
    distance = np.abs(np.array(rig.arm.goals[first:-1])[:, 0] - away[0])
    assert speeds[distance > 2 * ENGAGED].max() <= APPROACH * 1.01
    source = rig.controller.modes.source
    assert isinstance(source, LeaderSource)
    assert source.engaged
    assert teleoperation.leader.bank.read(1, 40, 1) == b"\x00"  # a leader is limp
    teleoperation.place(away + np.array([6.0, 0, 0, 0, 0, 0]))  # from here on at the gate's speed
    first = len(rig.arm.goals)
    teleoperation.until(lambda: abs(rig.arm.goals[-1][0] - away[0] - 6.0) < 0.5)
    speeds = np.abs(np.diff(np.array(rig.arm.goals[first:])[:, 0])) / DT_S
    assert speeds.max() > 2 * APPROACH
    rig.check_smooth()


def test_silent_leader_holds_the_follower(teleoperation: Teleoperation) -> None:
    rig = teleoperation.engage().rig
    teleoperation.until(lambda: teleoperation.readers[0].newest.pose is not None)
    teleoperation.leader.faults.muted |= {1, 2, 3, 4, 5, 6}
    teleoperation.until(lambda: rig.mode == "fault")
    assert "leader_lost" in rig.faults
    assert rig.arm.torque
    still = rig.arm.goals[-1]
    teleoperation.leader.faults.muted.clear()
    teleoperation.ticks(20)
    assert rig.arm.goals[-1] == pytest.approx(still, abs=1.0)
    rig.check_smooth()
    assert rig.ask(op="clear_faults") == {"ok": True}


def test_leader_that_cannot_be_opened_says_why(teleoperation: Teleoperation) -> None:
    teleoperation.leader.faults.muted.add(3)
    rig = teleoperation.engage().rig
    teleoperation.until(lambda: rig.mode == "fault")
    assert "elbow_flex" in rig.faults["leader_lost"].finding.message


def test_leader_whose_reading_leaps_and_stays_there_is_refused(teleoperation: Teleoperation) -> None:
    rig = teleoperation.engage().rig
    teleoperation.until(lambda: teleoperation.readers[0].newest.pose is not None)
    teleoperation.ticks(10)
    teleoperation.place(READY + np.array([100.0, 0, 0, 0, 0, 0]))
    teleoperation.until(lambda: rig.mode == "fault")
    assert rig.faults["leader_jumped"].finding.joint == "shoulder_pan"
    assert np.abs(np.array(rig.arm.goals)[:, 0] - READY[0]).max() < 10.0
    rig.check_smooth()
