"""The follower goes where the leader's emulated servos are; what goes wrong with the leader holds it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from served_bus import ServedBus

from robot.calibration_file import Calibration
from robot.errors import ConfigError, PortError, ServoError, SourceError
from robot.seams import ArmState
from robot.servo_arm import ServoArm
from robot.standing_thread import StandingThread
from robot.teleop.leader import ENGAGED, READ_AT, LeaderReader, LeaderSource, _Said, engagement
from robot.trajectory import Motion

from controller_rig import CONFIG, DT_S, READY, Rig  # isort: skip
from scripted_arm import HandClock, ScriptedArm  # isort: skip

LOW, HIGH = CONFIG.gate.min_position.array(), CONFIG.gate.max_position.array()
APPROACH = 30.0


class Teleoperation:
    """A scripted follower on a controller, and a leader of emulated servos on a pty."""

    def __init__(self, leader: ServedBus, calibration: Calibration) -> None:
        self.leader = leader
        self.readers: list[LeaderReader] = []
        self.rig = Rig()
        self.thread = StandingThread("leader")
        self.opening: Callable[[], ServoArm] = lambda: ServoArm.connect(leader.path, calibration)
        self.rig.controller.modes._runs._sources = {"leader": self.make}

    def make(self, args: object) -> LeaderSource:
        self.readers.append(LeaderReader(self.thread, self.opening, DT_S))
        gate = self.rig.controller.gate
        return LeaderSource(self.readers[-1], lambda: gate.motion, LOW, HIGH, DT_S)

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
            reader.ended.result(5.0)


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


# -- the source alone --------------------------------------------------------------------------------------


class Led:
    """A leader whose pose is written down, and a follower that a test puts where it wants."""

    def __init__(self, leader: np.ndarray | None, held: np.ndarray = READY) -> None:
        self.clock = HandClock()
        self.leader = leader
        self.follower = ScriptedArm(self.clock, position=held.copy())
        reader: Any = SimpleNamespace(newest=None)
        self.reader = reader
        self.held = Motion(held.copy(), np.zeros(6))
        self.source = LeaderSource(reader, lambda: self.held, LOW, HIGH, DT_S, self.clock)

    def target(self, position: np.ndarray) -> np.ndarray:
        self.clock.time_s += DT_S
        self.reader.newest = _Said(self.leader, self.clock.now_s())
        self.follower.position = position.copy()
        target = self.source.target(0, self.follower.read())
        self.held = Motion(target, (target - self.held.position) / DT_S)  # a gate that follows
        return target


def test_follower_that_is_held_back_is_waited_for() -> None:
    away = READY + np.array([40.0, 0, 0, 0, 0, 0])
    led = Led(away)
    for _ in range(300):
        target = led.target(READY)
    assert not led.source.engaged
    assert abs(target[0] - READY[0]) <= ENGAGED + APPROACH * DT_S
    follower, steps = READY.copy(), []
    while not led.source.engaged:  # what held it is gone
        before = follower
        follower = led.target(follower)
        steps.append(np.abs(follower - before).max())
    assert max(steps[1:-1]) <= APPROACH * DT_S + 1e-9
    assert np.abs(follower - away).max() < 2 * ENGAGED


def test_follower_that_lags_far_behind_the_approach_is_not_engaged() -> None:
    led = Led(READY)
    assert (led.target(READY + np.array([0, 3 * ENGAGED, 0, 0, 0, 0])) != READY).any()
    assert not led.source.engaged


def test_gripper_that_holds_something_does_not_keep_the_follower_from_the_leader() -> None:
    closed = READY.copy()
    closed[5] = 0.0
    led = Led(closed)
    for _ in range(300):
        led.target(READY)  # its jaw does not close any further
    assert led.source.engaged


def test_loaded_arm_is_not_let_down_by_its_sag() -> None:
    sag = np.array([0, -4.0, 2.0, 1.0, 0, 0])
    led = Led(None)
    assert led.target(READY + sag) == pytest.approx(READY)
    led.leader = READY + np.array([40.0, 0, 0, 0, 0, 0])
    assert led.target(READY + sag)[1:] == pytest.approx(READY[1:])


# -- the reader alone --------------------------------------------------------------------------------------


class Failing(ScriptedArm):
    """A leader whose every read fails, and which counts them."""

    def __init__(self, error: ServoError | PortError) -> None:
        super().__init__(HandClock(), read_error=error)
        self.reads = 0

    def release(self) -> None:
        self.torque = False

    def read(self) -> ArmState:
        self.reads += 1
        return super().read()


@pytest.mark.parametrize(
    ("error", "most"), [(PortError("gone"), 1), (ServoError("silent", servo_id=1), 0.3 / DT_S)]
)
def test_reads_that_fail_at_once_are_spaced_and_a_port_that_is_gone_is_not_read_on(
    error: ServoError | PortError, most: float
) -> None:
    arm = Failing(error)
    may_open = threading.Event()

    def open_arm() -> Failing:
        assert may_open.wait(10.0)
        return arm

    reader = LeaderReader(StandingThread("leader"), open_arm, DT_S)
    reader.newest = _Said(READY, time.monotonic())
    may_open.set()
    reader.ended.result(10.0)
    assert arm.reads <= most
    assert isinstance(reader.newest.error, SourceError)
    assert arm.calls == ["close"]


class Turned(threading.Event):
    """Waits by turning a clock, for two seconds of it."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__()
        self.clock, self.end_s = clock, clock.time_s + 2.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        assert timeout > 0.0
        self.clock.time_s += timeout
        return self.clock.time_s >= self.end_s


def test_each_tick_finds_one_new_pose_however_long_a_reading_takes() -> None:
    clock, begun_s = HandClock(), []
    arm = Failing(PortError("gone"))
    arm.read_error, arm.clock = None, clock
    may_open = threading.Event()

    def read() -> None:
        begun_s.append(clock.time_s)
        clock.time_s += (0.003, 0.006)[len(begun_s) % 2]

    def open_arm() -> Failing:
        assert may_open.wait(10.0)
        return arm

    arm.on_read = read
    reader = LeaderReader(StandingThread("leader"), open_arm, DT_S, clock)
    reader._stop = Turned(clock)
    may_open.set()
    reader.ended.result(10.0)
    ticks = np.array(begun_s) / DT_S
    assert ticks % 1.0 == pytest.approx(np.full(len(ticks), READ_AT), abs=1e-3)
    assert (np.diff(np.floor(ticks)) == 1).all()
    assert len(ticks) > 100


def test_no_thread_is_started_where_a_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = StandingThread("leader")
    monkeypatch.setattr(threading.Thread, "start", None)
    reader = LeaderReader(thread, lambda: Failing(PortError("gone")), DT_S)
    reader.ended.result(10.0)
    assert reader.newest.error is not None


# -- a follower that waits for its leader -------------------------------------------------------------------


def waiting(leader: np.ndarray | None) -> Led:
    led = Led(leader)
    led.source = LeaderSource(led.reader, lambda: led.held, LOW, HIGH, DT_S, led.clock, engage="match")
    return led


def test_waiting_follower_stands_exactly_still_until_all_joints_agree() -> None:
    led = waiting(None)
    assert (led.target(READY) == READY).all()
    led.leader = READY + np.array([3.0, 0, 0, 0, 0, 40.0])
    sag = np.array([0, -4.0, 2.0, 1.0, 0, 0])
    for _ in range(100):
        assert (led.target(READY + sag) == READY).all()
        led.leader[5] = max(led.leader[5] - 0.5, READY[5] + ENGAGED + 0.1)
    status = led.source.teleop
    assert not status.engaged
    assert status.away == {
        "shoulder_pan": 3.0,
        "shoulder_lift": 0.0,
        "elbow_flex": 0.0,
        "wrist_flex": 0.0,
        "wrist_roll": 0.0,
        "gripper": 6.0,
    }
    led.leader[5] = READY[5] + ENGAGED - 0.1
    way = [READY, *[led.target(READY + sag) for _ in range(60)]]
    assert led.source.teleop.engaged
    assert way[-1] == pytest.approx(led.leader)
    assert np.abs(np.diff(way, axis=0)).max() <= 61.0 * DT_S  # no jump


def test_waiting_follower_that_was_moving_comes_to_rest_and_is_not_pulled_back() -> None:
    led = waiting(READY + 50.0)
    for k in range(5):
        led.held = Motion(READY + 0.1 * k, np.full(6, 0.1 / DT_S))
        assert (led.target(READY) == READY + 0.1 * k).all()


@pytest.mark.parametrize(
    "args", [{"engage": "leap"}, {"engaged": "match"}, {"engage": None}, {"engage": ["match"]}]
)
def test_unknown_ways_to_engage_are_refused(args: dict[str, Any]) -> None:
    assert engagement({}) == "approach"
    assert engagement({"engage": "match"}) == "match"
    with pytest.raises(ConfigError, match="approach or match"):
        engagement(args)
