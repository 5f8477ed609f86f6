"""Another source takes over while the arm moves: no jump, and the old one goes on if it cannot be made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from robot.errors import SourceError
from robot.seams import ArmState, FloatArray
from robot.sources import TeleopStatus
from robot.telemetry import SOURCES
from robot.teleop.blend import FADE_SPEED, HERE, Blend
from robot.trajectory import Motion

from controller_rig import DT_S, READY, Rig  # isort: skip


class Sent:
    """A source that a test puts words into."""

    def __init__(self, rig: Rig, pose: FloatArray | None) -> None:
        self.rig, self.pose = rig, pose
        self.step = np.zeros(6)
        self.error: SourceError | None = None
        self.closed = 0

    def target(self, tick: int, state: ArmState) -> FloatArray | None:
        if self.error is not None:
            raise self.error
        if self.pose is not None:
            self.pose = self.pose + self.step
        return None if self.pose is None else self.pose.copy()

    @property
    def teleop(self) -> TeleopStatus:
        return TeleopStatus(limited="nothing")

    def close(self) -> None:
        self.closed += 1


class Takeover(Rig):
    """A run whose pan swings at up to 80 degrees per second, and another source for it."""

    def __init__(self) -> None:
        super().__init__()
        self.taker = Sent(self, READY)
        sources: dict[str, Any] = {
            "policy": self.make_wave,
            "teleop": lambda args: self.taker,
            "broken": self.make_broken,
        }
        self.controller.modes._runs._sources = sources
        self.go("ready")
        assert self.run(source="policy") == {"ok": True}
        self.ticks(80)

    def switch(self, source: str = "teleop", run_id: int = 1) -> dict[str, Any]:
        return self.ask(op="switch", run_id=run_id, source=source, args={})

    def speeds(self, since: int) -> FloatArray:
        """Of all goals from the one before, user units per second, shape (n, 6)."""
        return np.diff(np.array(self.arm.goals[since - 1 :]), axis=0) / DT_S


@pytest.fixture
def rig() -> Takeover:
    return Takeover()


@pytest.mark.parametrize("away", [0.0, 5.0, 60.0])
def test_taking_over_and_handing_back_in_motion_never_jumps(rig: Takeover, away: float) -> None:
    rig.taker.pose = READY + np.array([away, 0, 0, 0, 0, 0])
    first = len(rig.arm.goals)
    before = np.abs(rig.speeds(first - 10)).max()
    assert before > 30.0
    assert rig.switch() == {"ok": True}
    rig.ticks(200)
    assert rig.arm.goals[-1] == pytest.approx(rig.taker.pose)
    assert np.abs(rig.speeds(first)).max() <= before + 1.2 * FADE_SPEED  # what was, and the fade
    assert np.abs(np.diff(rig.speeds(first), axis=0)).max() <= max(1.5 * before, 20.0) * DT_S / 0.1 * 1.05
    first = len(rig.arm.goals)
    assert rig.switch("policy") == {"ok": True}
    rig.ticks(200)
    assert np.abs(rig.speeds(first)).max() <= 80.0 + 1.2 * FADE_SPEED
    assert rig.mode == "running"
    rig.check_smooth()
    assert rig.wave is not None
    assert rig.wave.calls == 200  # a new one, from its beginning
    assert rig.taker.closed == 1


def test_record_and_status_say_who_drives(rig: Takeover) -> None:
    assert SOURCES[int(rig.records[-1]["source"])] == "policy"
    assert rig.statuses[-1]["teleop"] is None
    rig.switch()
    rig.ticks(1)
    assert SOURCES[int(rig.records[-1]["source"])] == "teleop"
    assert rig.statuses[-1]["source"] == "teleop"
    assert rig.statuses[-1]["teleop"] == {"engaged": True, "away": {}, "limited": "nothing", "refused": 0}
    rig.ask(op="stop", level="hold")
    rig.ticks(1)
    assert rig.records[-1]["source"] == 0
    assert rig.statuses[-1]["teleop"] is None


@pytest.mark.parametrize(
    ("source", "run_id", "code"),
    [("broken", 1, "source_failed"), ("nobody", 1, "unknown_source"), ("teleop", 2, "no_such_run")],
)
def test_refused_takeover_leaves_the_old_source_driving(
    rig: Takeover, source: str, run_id: int, code: str
) -> None:
    assert rig.switch(source, run_id)["code"] == code
    assert rig.wave is not None
    calls = rig.wave.calls
    rig.ticks(10)
    assert rig.wave.calls == calls + 10
    assert not rig.wave.closed
    rig.check_smooth()


def test_run_that_has_ended_is_not_taken_over(rig: Takeover) -> None:
    rig.ask(op="end_run", run_id=1)
    assert rig.switch()["code"] == "no_such_run"
    rig.until("ready")
    assert rig.switch()["code"] == "no_such_run"
    assert rig.taker.closed == 0


def test_source_that_dies_after_its_takeover_holds_and_is_named(rig: Takeover) -> None:
    rig.switch()
    rig.ticks(5)
    rig.taker.error = SourceError("the leader is gone", code="leader_lost", remedy="plug it in")
    rig.ticks(30)
    assert rig.mode == "fault"
    assert rig.faults["leader_lost"].finding.message == "the leader is gone"
    assert rig.taker.closed == 1
    assert (np.abs(rig.speeds(len(rig.arm.goals) - 5)) == 0).all()
    rig.check_smooth()


def test_source_that_says_nothing_after_its_takeover_lets_the_arm_come_to_rest_and_then_stalls(
    rig: Takeover,
) -> None:
    rig.taker.pose = None
    first = len(rig.arm.goals)
    before = np.abs(rig.speeds(first - 1)).max()
    rig.switch()
    rig.ticks(20)
    speeds = np.abs(rig.speeds(first)).max(axis=1)
    assert speeds[-1] == 0
    assert (np.diff(speeds) <= 1e-9).all()
    assert speeds.sum() * DT_S <= before * 0.06  # softly, but soon
    rig.ticks(20)
    assert "inference_stalled" in rig.faults


def test_longest_duration_is_that_of_the_run() -> None:
    rig = Takeover()
    rig.controller.modes._runs._run.ends_s = rig.clock.now_s() + 0.2  # type: ignore[union-attr]
    rig.switch()
    rig.ticks(15)
    assert rig.mode != "running"


# -- the blend alone ---------------------------------------------------------------------------------------


def test_targets_that_begin_where_the_command_is_go_through_untouched() -> None:
    blend = Blend(Motion(READY, np.zeros(6)), DT_S)
    near = READY + 0.9 * HERE
    assert blend.mix(near) is near
    assert blend.done


def test_what_is_no_pose_goes_through_for_the_gate_to_refuse() -> None:
    blend = Blend(Motion(READY, np.zeros(6)), DT_S)
    for wrong in (np.full(6, np.nan), np.zeros(5), "pose", np.array(["a"] * 6)):
        assert blend.mix(wrong) is wrong  # type: ignore[arg-type]


def test_targets_that_stop_amid_the_fade_let_the_arm_rest_where_it_is() -> None:
    blend = Blend(Motion(READY, np.zeros(6)), DT_S)
    said = [blend.mix(READY + 10.0) for _ in range(12)]
    said += [blend.mix(None) for _ in range(12)]
    said += [blend.mix(READY + 10.0) for _ in range(60)]
    way = np.array([READY, *said])[:, 0]  # type: ignore[list-item]
    assert (np.diff(way) >= 0).all()
    assert way[24] == way[23]
    assert way[-1] == READY[0] + 10.0
    assert np.abs(np.diff(way)).max() <= 1.2 * FADE_SPEED * DT_S
