"""The control loop and its modes, on an arm that is scripted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.mailbox import Mailbox, MailboxClient
from robot.seams import FloatArray
from robot.telemetry import MODES

from controller_rig import CONFIG, DT_S, PARK, READY, Rig, lost  # isort: skip


# -- start-up and start ------------------------------------------------------------------------------------


def test_nothing_moves_at_start_up_without_torque() -> None:
    rig = Rig()
    rig.ticks(30)
    assert rig.mode == "off"
    assert rig.arm.goals == []
    assert rig.arm.calls == []
    assert rig.records[-1]["goal"] == pytest.approx(rig.arm.position)


def test_restarted_controller_adopts_the_pose_that_is_held_and_does_not_move() -> None:
    rig = Rig(torque=True)
    before = rig.arm.position.copy()
    rig.ticks(60)
    assert rig.mode == "hold"
    assert rig.arm.calls == ["enable"]
    assert all((goal == before).all() for goal in rig.arm.goals)


def test_start_energises_without_a_snap_and_ramps_to_ready() -> None:
    rig = Rig()
    rig.ticks(2)
    before = rig.arm.position.copy()
    assert rig.ask(op="start") == {"ok": True}
    assert rig.mode == "starting"
    rig.ticks(1)
    assert rig.arm.goals[0] == pytest.approx(before)
    assert np.abs(rig.arm.goals[1] - before).max() < 0.5
    rig.until("ready")
    assert rig.arm.goals[-1] == pytest.approx(READY, abs=0.01)
    speeds = np.abs(np.diff(np.array(rig.arm.goals), axis=0)).max() / DT_S
    assert speeds <= CONFIG.ramp_velocity_dps * 1.02
    rig.check_smooth()


@pytest.mark.parametrize("mode", ["starting", "ready", "running"])
def test_start_is_idempotent(mode: str) -> None:
    rig = Rig().go(mode)
    assert rig.ask(op="start") == {"ok": True}
    assert rig.mode == mode
    assert rig.arm.calls == ["enable"]


def test_start_that_the_arm_refuses_says_why_and_leaves_it_off() -> None:
    rig = Rig()
    rig.ticks(1)
    rig.arm.enable_error = lost(2)
    answer = rig.ask(op="start")
    assert (answer["ok"], answer["code"]) == (False, "bus_error")
    assert "elbow_flex" in answer["message"]
    assert rig.mode == "off"


# -- stop --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", ["hold", "park", "release"])
def test_stop_works_from_every_mode_and_twice(mode: str, level: str) -> None:
    rig = Rig()
    rig.ticks(1)
    if mode != "off":
        rig.go(mode)
    energised = rig.arm.torque
    for _ in range(2):
        assert rig.ask(op="stop", level=level) == {"ok": True}
        rig.ticks(2)
    faulty = mode == "fault"
    if level == "release":
        assert rig.mode == ("fault" if faulty else "off")
        assert not rig.arm.torque
    elif not energised:
        assert rig.mode == mode
    elif level == "hold":
        assert rig.mode == "hold"
        rig.ticks(30)
        assert rig.arm.torque
        assert rig.arm.goals[-1] == pytest.approx(rig.arm.goals[-2])
    else:
        rig.until("off")
        assert not rig.arm.torque
        assert rig.arm.goals[-1] == pytest.approx(PARK, abs=0.01)
    rig.check_smooth()


def test_fault_with_torque_on_can_be_parked_by_a_person() -> None:
    rig = Rig().go("ready")
    rig.arm.read_error = lost(4)
    rig.ticks(3)
    rig.arm.read_error = None
    assert rig.mode == "fault"
    assert rig.ask(op="stop", level="park") == {"ok": True}
    assert rig.mode == "parking"
    rig.until("fault")
    assert not rig.arm.torque
    assert rig.arm.goals[-1] == pytest.approx(PARK, abs=0.01)


# -- runs --------------------------------------------------------------------------------------------------


def test_run_drives_the_arm_and_ends_in_ready_by_way_of_hold() -> None:
    rig = Rig().go("running")
    assert rig.records[-1]["chunk_age_ticks"] == 3
    assert rig.statuses[-1]["source"] == "wave"
    rig.ticks(60)
    assert np.ptp([record["goal"][0] for record in rig.records[-60:]]) > 30
    assert rig.ask(op="end_run", run_id=1) == {"ok": True}
    assert rig.mode == "hold"
    assert rig.wave is not None
    assert rig.wave.closed
    rig.until("starting")
    rig.until("ready")
    assert rig.arm.goals[-1] == pytest.approx(READY, abs=0.01)
    assert rig.ask(op="end_run", run_id=1) == {"ok": True}
    assert rig.ask(op="end_run", run_id=7)["code"] == "no_such_run"
    assert rig.run(2) == {"ok": True}
    rig.check_smooth()


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("off", "not_ready"),
        ("hold", "not_ready"),
        ("starting", "not_ready"),
        ("parking", "not_ready"),
        ("running", "busy"),
        ("fault", "fault_latched"),
    ],
)
def test_run_is_refused_where_it_must_be(mode: str, code: str) -> None:
    rig = Rig()
    rig.ticks(1)
    rig.go(mode)
    answer = rig.run(9)
    assert (answer["ok"], answer["code"]) == (False, code)
    assert rig.mode == mode


def test_what_was_stopped_does_not_run_until_it_is_started_again() -> None:
    rig = Rig().go("ready")
    assert rig.ask(op="stop", level="hold") == {"ok": True}
    held = rig.arm.goals[-1].copy()
    assert rig.run()["code"] == "not_ready"
    rig.ticks(30)
    assert rig.mode == "hold"
    assert rig.arm.goals[-1] == pytest.approx(held)
    assert rig.ask(op="start") == {"ok": True}
    rig.until("ready")
    assert rig.run() == {"ok": True}


def test_a_simulated_trial_may_run_from_where_it_was_put() -> None:
    rig = Rig(torque=True)
    assert rig.run()["code"] == "not_ready"
    rig.controller.adopt(ready=True)
    assert rig.run() == {"ok": True}
    rig.ticks(30)
    rig.check_smooth()


def test_a_limp_arm_is_not_ready_however_it_is_adopted() -> None:
    rig = Rig()
    rig.controller.adopt(ready=True)
    assert rig.mode == "off"
    assert rig.run()["code"] == "not_ready"


@pytest.mark.parametrize(("source", "code"), [("nothing", "unknown_source"), ("broken", "source_failed")])
def test_source_that_cannot_be_made_is_a_refusal(source: str, code: str) -> None:
    rig = Rig().go("ready")
    assert rig.run(source=source)["code"] == code
    assert rig.mode == "ready"


def test_run_ends_after_its_longest_duration() -> None:
    rig = Rig().go("ready")
    rig.run(longest_s=1.0)
    rig.ticks(58)
    assert rig.mode == "running"
    rig.ticks(4)
    assert rig.mode in ("hold", "starting")
    assert "duration" in rig.reason
    rig.until("ready")


def test_run_ends_when_its_source_says_so() -> None:
    rig = Rig().go("running")
    assert rig.wave is not None
    rig.wave.done = True
    rig.ticks(1)
    assert rig.mode in ("hold", "starting")
    assert rig.wave.closed
    rig.until("ready")
    assert rig.faults == {}


def test_silent_source_holds_at_once_and_is_a_fault_after_half_a_second() -> None:
    rig = Rig().go("running")
    assert rig.wave is not None
    rig.wave.answer = lambda target: None
    rig.ticks(25)
    assert rig.mode == "running"
    assert rig.arm.goals[-1] == pytest.approx(rig.arm.goals[-2])
    rig.ticks(10)
    assert rig.mode == "fault"
    assert "inference_stalled" in rig.faults
    assert rig.wave.closed
    rig.check_smooth()
    assert rig.ask(op="clear_faults") == {"ok": True}
    assert rig.mode == "hold"


def test_source_that_comes_back_within_half_a_second_goes_on() -> None:
    rig = Rig().go("running")
    assert rig.wave is not None
    for _ in range(5):
        rig.wave.answer = lambda target: None
        rig.ticks(20)
        rig.wave.answer = lambda target: target
        rig.ticks(20)
    assert rig.mode == "running"
    rig.check_smooth()


@pytest.mark.parametrize(
    "bad",
    [
        lambda t: np.full(6, np.nan),
        lambda t: np.array([*t[:5], np.inf]),
        lambda t: t[:5],
        lambda t: t[None],
        lambda t: np.full(6, "x"),
        lambda t: np.full(6, None),
    ],
)
def test_targets_that_are_no_numbers_are_dropped_and_end_the_run(bad: Callable[[FloatArray], Any]) -> None:
    rig = Rig().go("running")
    assert rig.wave is not None
    rig.wave.answer = bad
    rig.ticks(3)
    assert rig.mode == "running"
    assert rig.records[-1]["non_finite"] == 3
    rig.ticks(10)
    assert rig.mode == "fault"
    assert "non_finite_target" in rig.faults
    rig.check_smooth()
    assert all(np.isfinite(record["target"]).all() for record in rig.records)


def test_source_that_raises_is_a_fault_and_the_loop_goes_on() -> None:
    rig = Rig().go("running")
    assert rig.wave is not None

    def fail(target: FloatArray) -> FloatArray:
        raise KeyError("chunk")

    rig.wave.answer = fail
    rig.ticks(10)
    assert rig.mode == "fault"
    assert "source_failed" in rig.faults
    rig.check_smooth()


def test_wild_source_is_limited_and_counted() -> None:
    rig = Rig().go("running")
    assert rig.wave is not None
    wave, random = rig.wave, np.random.default_rng(1)

    def wild(target: FloatArray) -> FloatArray:
        """Out of range as often as a run may be, and everywhere else in between."""
        outside = wave.calls % 12 == 0
        return random.uniform(200, 400, 6) if outside else random.uniform(0, 30, 6)

    wave.answer = wild
    rig.ticks(300)
    assert rig.mode == "running"
    assert rig.records[-1]["clamped"] > 5
    assert rig.records[-1]["rate_limited"] > 200
    rig.check_smooth()


def test_run_whose_targets_lie_outside_the_limits_ends_and_names_the_joint() -> None:
    rig = Rig().go("running")
    assert rig.wave is not None
    low, high = CONFIG.gate.min_position.array(), CONFIG.gate.max_position.array()
    rig.wave.answer = lambda target: np.array([*READY[:5], -2.5])  # a jaw that was learned shut
    rig.ticks(120)
    assert rig.mode == "running"
    rig.wave.answer = lambda target: np.array([0.0, -97.0, 1000.0, 93.0, 0.0, 30.0])  # ticks, not degrees
    outside = 0
    while rig.mode == "running":
        rig.ticks(1)
        outside += 1
    assert outside <= 0.15 / DT_S
    assert rig.mode == "fault"
    fault = rig.faults["target_out_of_range"].finding
    assert fault.joint == "elbow_flex"
    assert "wave" in fault.message
    goals = np.array(rig.arm.goals)
    assert ((goals >= low - 1e-9) & (goals <= high + 1e-9)).all()
    rig.check_smooth()
    assert rig.ask(op="clear_faults") == {"ok": True}  # its cause ended with the run


def test_run_without_a_commander_is_held() -> None:
    rig = Rig().go("running")
    rig.ticks(110, beat=False)
    assert rig.mode == "running"
    rig.ticks(20, beat=False)
    assert rig.mode == "fault"
    assert rig.faults["commander_lost"].finding.severity.label == "hold"
    assert rig.arm.torque


# -- time --------------------------------------------------------------------------------------------------
def test_missed_ticks_are_skipped_and_never_made_up_for() -> None:
    rig = Rig().go("starting")
    ticks: list[int] = []
    stall = iter([0.0] * 10 + [1.0] + [0.0] * 20 + [0.02] + [0.0] * 100)
    left = iter(range(60))

    def slow_read() -> None:
        rig.clock.time_s += 0.002 + next(stall)
        ticks.append(rig.controller.tick_index)

    rig.arm.on_read = slow_read
    rig.controller.run(lambda: next(left, None) is not None)
    steps = np.diff(ticks)
    assert len(ticks) == 60
    assert steps.min() == 1
    assert steps[10] == 60  # one second
    assert rig.controller.lateness.missed >= 59
    assert rig.records[-1]["missed"] == rig.controller.lateness.missed
    rig.check_smooth()


def test_tick_is_due_at_its_number_times_the_period() -> None:
    rig = Rig()
    left = iter(range(20))
    rig.controller.run(lambda: next(left, None) is not None)
    for record in rig.records:
        assert record["time_s"] == pytest.approx(record["tick"] * DT_S)
        assert record["lateness_ms"] == pytest.approx(0.0, abs=1e-6)


# -- commands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        {},
        {"op": "dance"},
        {"op": ["start"]},
        {"op": "start", "now": True},
        {"op": "stop"},
        {"op": "stop", "level": "limp"},
        {"op": "stop", "level": 3},
        {"op": "run", "run_id": 1, "source": "wave", "args": {}},
        {"op": "run", "run_id": True, "source": "wave", "args": {}, "max_duration_s": 1},
        {"op": "run", "run_id": 1 << 80, "source": "wave", "args": {}, "max_duration_s": 1},
        {"op": "run", "run_id": 1, "source": "wave", "args": [], "max_duration_s": 1},
        {"op": "run", "run_id": 1, "source": "wave", "args": {}, "max_duration_s": -1.0},
        {"op": "run", "run_id": 1, "source": "wave", "args": {}, "max_duration_s": 10**400},
        {"op": "end_run", "run_id": "1"},
    ],
)
def test_malformed_commands_are_refused_and_change_nothing(command: dict[str, Any]) -> None:
    rig = Rig().go("ready")
    answer = rig.controller.command(command)
    assert (answer["ok"], answer["code"]) == (False, "malformed")
    assert rig.mode == "ready"


def test_socket_answers_every_command_even_garbage(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "controller.sock")
    rig = Rig(mailbox=mailbox)
    client = MailboxClient(mailbox.path)
    answers: list[Any] = []
    import threading

    def talk() -> None:
        for payload in (b'{"op":"start"}', b"garbage", b'{"op":"stop","level":"hold"}'):
            answers.append(json.loads(client.request(payload, 10.0)))

    thread = threading.Thread(target=talk)
    thread.start()
    while thread.is_alive():
        rig.ticks(1)
    thread.join()
    mailbox.close()
    assert [answer["ok"] for answer in answers] == [True, False, True]
    assert rig.mode == "hold"


def test_status_is_published_on_change_only() -> None:
    rig = Rig()
    rig.ticks(20)
    assert len(rig.statuses) == 1
    assert rig.statuses[0]["mode"] == "off"
    assert rig.statuses[0]["control_hz"] == 60
    rig.arm.read_error = lost(5)
    rig.ticks(30)
    assert [status["mode"] for status in rig.statuses] == ["off", "fault"]
    fault = rig.statuses[-1]["faults"][0]
    assert set(fault) == {"id", "code", "severity", "joint", "message", "remedy", "raised_s", "active"}
    assert (fault["code"], fault["joint"], fault["active"]) == ("servo_lost", "gripper", True)


def test_ramp_keeps_its_speed_where_the_table_held_the_arm_back() -> None:
    rig = Rig().go("starting")
    gate = rig.controller.gate
    before = len(rig.arm.goals)
    # The table is everywhere: nothing may move.
    plain, gate._room_on_path = gate._room_on_path, lambda velocity: (True, False, False)  # type: ignore[method-assign]
    rig.ticks(90)
    gate._room_on_path = plain  # type: ignore[method-assign]
    rig.until("ready")
    assert rig.arm.goals[-1] == pytest.approx(READY, abs=0.01)
    speeds = np.abs(np.diff(np.array(rig.arm.goals[before + 10 :]), axis=0)) / DT_S
    assert speeds.max() <= CONFIG.ramp_velocity_dps * 1.001
    assert rig.run() == {"ok": True}
    rig.ticks(1)
    assert gate.top_speed > CONFIG.gate.max_velocity.array().max()
