"""Servos that die, strain, heat up, reboot, jam or lie, injected while the arm moves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot.bus import FeetechBus
from robot.joints import JOINTS
from robot.registers import MODEL_STS3215
from robot.telemetry import MODES
from robot.twin.client import TwinProcess
from tests.rig import CONFIG, FOLDER, Rig

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

WRIST, ELBOW, LIFT, GRIPPER = 4, 3, 2, 6


@pytest.fixture
def moving(rig: Rig) -> Iterator[Rig]:
    """An arm in the middle of a policy's run."""
    rig.start()
    rig.wave(20.0)
    with rig.heartbeats():
        yield rig


def test_a_servo_that_dies_in_motion_stops_the_others_and_is_named(
    moving: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:
    applied_s = twin.fault("mute", servo_id=WRIST)["applied_s"]
    reaction = moving.stopped(applied_s)
    measured["latched_ms"], measured["last goal_ms"] = round(reaction.latched_ms), round(reaction.still_ms)
    assert reaction.codes["servo_lost"] == "wrist_flex"
    # The reading under way may still be good: its tick, and the one in which the servo is missed.
    assert reaction.ticks <= 2, reaction
    assert moving.ask(op="clear_faults")["code"] == "fault_active"
    twin.fault("unmute", servo_id=WRIST)
    time.sleep(1.5)
    # The servo that is back is told to hold as the others were; nothing else comes by itself.
    late = moving.goals_since(applied_s + 0.1)
    assert moving.mode == "fault" and [goal["servo_id"] for goal in late] in ([], [WRIST])


def test_a_silent_servo_is_named_while_the_arm_starts_and_parks(rig: Rig, twin: TwinProcess) -> None:
    rig.park()
    for op in ({"op": "start"}, {"op": "stop", "level": "park"}):
        if op["op"] == "stop":
            rig.start()
        assert rig.ask(**op) == {"ok": True}
        rig.until_mode("parking" if op["op"] == "stop" else "starting")
        time.sleep(0.2)  # on its way
        reaction = rig.stopped(twin.fault("mute", servo_id=LIFT)["applied_s"])
        assert reaction.codes["servo_lost"] == "shoulder_lift"
        assert reaction.ticks <= 2, reaction
        twin.fault("unmute", servo_id=LIFT)
        rig.until(lambda: not rig.status()["faults"][0]["active"], 5.0, "settled fault")


def test_an_overloaded_joint_is_given_way_and_gets_its_force_back_when_cleared(
    moving: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:

    def lag_deg() -> float:
        return float(abs(moving.newest()["goal"][2] - moving.newest()["position"][2]))

    moving.until(lambda: lag_deg() > 3.0, 3.0, "speed")
    applied_s = twin.fault("overload", servo_id=ELBOW)["applied_s"]
    reaction = moving.stopped(applied_s)
    measured["latched_ms"] = round(reaction.latched_ms)
    assert reaction.codes["overload"] == "elbow_flex"
    before = moving.newest()
    first = next(r for r in moving.records() if r["time_s"] > applied_s and MODES[int(r["mode"])] == "fault")
    # Its goal came to where it was, and stays there although it sags.
    assert abs(first["goal"][2] - first["position"][2]) < 1.5 and before["goal"][2] == first["goal"][2]
    assert moving.ask(op="clear_faults") == {"ok": True}, moving.status()
    time.sleep(0.3)
    after = moving.newest()
    assert after["status"][2] == 0  # the servo has its force again
    sag = np.abs(after["position"] - before["position"]).max()
    measured["sag_deg"] = round(float(sag), 1)
    assert sag < 5.0  # and the arm did not fall for it


def test_an_overloaded_servo_that_is_deaf_needs_its_power_cycled(moving: Rig, twin: TwinProcess) -> None:
    reaction = moving.stopped(twin.fault("overload_deaf", servo_id=ELBOW)["applied_s"])
    assert "elbow_flex" in reaction.codes.values()
    answer = moving.ask(op="clear_faults")
    assert not answer["ok"] and "power" in answer["message"]
    twin.fault("power_cycle")
    # Servos that lost their power are limp, which is a fault of its own once it is noticed.
    moving.until(lambda: moving.ask(op="clear_faults")["ok"] and moving.mode == "off", 5.0, "limp arm")
    moving.start()


def test_one_wild_temperature_trips_nothing(moving: Rig, twin: TwinProcess) -> None:
    since = int(moving.newest()["tick"])
    for servo_id in (1, 3, 5):
        twin.fault("glitch", servo_id=servo_id, temperature_c=88.0, count=1)
        time.sleep(0.2)
    read_c = np.array([record["temperature_c"] for record in moving.records(since)]).max(axis=0)
    assert (read_c[[0, 2, 4]] > 80.0).all()  # they were read
    assert moving.mode == "running" and moving.codes == {}


def test_a_warm_arm_slows_down_and_a_hot_one_parks_before_it_lets_go(
    moving: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:
    twin.fault("heat", servo_id=LIFT, temperature_c=62.0)
    moving.until(lambda: moving.codes == {"warm": "shoulder_lift"}, 3.0, "warning")
    assert moving.mode == "running"
    applied_s = twin.fault("heat", servo_id=LIFT, temperature_c=67.0)["applied_s"]
    moving.until(lambda: moving.mode == "parking", 3.0, "parking")
    since = moving.records()
    began = next(r for r in since if r["time_s"] > applied_s and MODES[int(r["mode"])] == "parking")
    measured["parks after_ms"] = round(1e3 * (float(began["time_s"]) - applied_s))
    moving.until(lambda: moving.status()["reason"] == "parked", 20.0, "release")
    last_goal_s = max(goal["time_s"] for goal in moving.goals_since(applied_s))
    park = moving.newest()["position"]
    assert np.abs(park[:5] - CONFIG.park_pose.array()[:5]).max() < 12.0  # it came down before it let go
    assert last_goal_s > applied_s + 0.5
    twin.fault("heat", servo_id=LIFT, temperature_c=28.0)


def test_a_low_supply_forbids_torque_and_holds_an_arm_that_moves(
    rig: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:
    rig.park()
    low_s = twin.fault("supply", voltage_v=3.6)["applied_s"]
    rig.until(lambda: "voltage_low" in rig.codes, 3.0, "fault")
    assert not rig.ask(op="start")["ok"]
    assert rig.goals_since(low_s) == []
    twin.fault("supply", voltage_v=7.4)
    rig.start()
    rig.wave(5.0)
    reaction = rig.stopped(twin.fault("supply", voltage_v=5.2)["applied_s"])
    measured["latched_ms"] = round(reaction.latched_ms)
    assert "voltage_low" in reaction.codes
    twin.fault("supply", voltage_v=7.4)


def test_a_high_supply_holds_an_arm_that_moves(
    moving: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:
    reaction = moving.stopped(twin.fault("supply", voltage_v=9.5)["applied_s"])
    measured["latched_ms"], measured["last goal_ms"] = round(reaction.latched_ms), round(reaction.still_ms)
    moving.until(lambda: "voltage_high" in moving.codes, 2.0, "fault")  # the servos' own alarm came first
    assert moving.ask(op="clear_faults")["code"] == "fault_active"
    twin.fault("supply", voltage_v=7.4)


def test_a_servo_that_rebooted_is_not_driven_again_by_itself(
    moving: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:
    applied_s = twin.fault("reboot", servo_id=ELBOW)["applied_s"]
    reaction = moving.stopped(applied_s, settle_s=0.6)
    measured["latched_ms"], measured["last goal_ms"] = round(reaction.latched_ms), round(reaction.still_ms)
    assert reaction.codes["servo_rebooted"] == "elbow_flex"
    assert moving.goals_since(applied_s + 0.4) == []
    moving.end()
    with FeetechBus(twin.follower) as bus:
        torque = [bus.read(servo_id, "torque_enable") for servo_id in range(1, 7)]
    assert torque == [1, 1, 0, 1, 1, 1]  # the others hold; nobody energised the one that fell back


def test_a_jammed_joint_is_named_and_nothing_pushes_on(
    moving: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:
    applied_s = twin.fault("stuck", servo_id=LIFT, on=True)["applied_s"]
    try:
        reaction = moving.stopped(applied_s)
        measured["latched_ms"] = round(reaction.latched_ms)
        said = {reaction.codes.get(code) for code in ("following_error", "stalled", "overload")}
        assert "shoulder_lift" in said, reaction
        time.sleep(0.5)
        record = moving.newest()
        assert abs(record["goal"][1] - record["position"][1]) < 6.0  # its goal came to where it is
    finally:
        twin.fault("stuck", servo_id=LIFT, on=False)


def test_an_encoder_that_jumps_once_is_overheard_and_one_that_stays_off_stops_the_arm(
    moving: Rig, twin: TwinProcess, measured: dict[str, Any]
) -> None:
    twin.fault("encoder", servo_id=1, ticks=900, count=1)
    time.sleep(0.4)
    assert moving.mode == "running" and moving.codes == {}
    assert np.abs(np.diff([r["position"][0] for r in moving.records()[-40:]])).max() < 20.0
    applied_s = twin.fault("encoder", servo_id=1, ticks=900, count=40)["applied_s"]
    reaction = moving.stopped(applied_s)
    measured["latched_ms"] = round(reaction.latched_ms)
    assert "encoder_jump" in reaction.codes and reaction.codes["encoder_jump"] == JOINTS[0]


def test_a_gripper_that_strains_while_it_closes_holds_on_and_stops_nothing(
    rig: Rig, twin: TwinProcess
) -> None:
    rig.start()
    rig.begin()
    closing = np.tile(rig.newest()["position"], (150, 1))
    closing[:, 5] = 0.0
    twin.fault("stuck", servo_id=GRIPPER, on=True)
    try:
        rig.send_chunk(closing)
        time.sleep(0.5)
        twin.fault("overload", servo_id=GRIPPER)
        time.sleep(0.8)
        assert rig.mode == "running", rig.status()
        assert rig.codes == {"gripper_strained": "gripper"}
    finally:
        twin.fault("stuck", servo_id=GRIPPER, on=False)
        # A grasp gets its force back with its next torque, and its strain is remembered for a while.
        rig.ask(op="stop", level="release")
        rig.until_mode("off")
        rig.end()


def event(kind: str, **values: Any) -> dict[str, Any]:
    return {"kind": kind, **values}


def undo_double_id(twin: TwinProcess) -> None:
    """The one of the two that is plugged alone gets its own id back."""
    twin.plug("follower", [JOINTS[4]])
    twin.fault("duplicate", servo_id=4, value=5)
    twin.plug("follower", None)


LIFT_OFFSET = json.loads((FOLDER / CONFIG.calibration).read_text())["shoulder_lift"]["homing_offset"]
WRONG_ARMS: list[tuple[dict[str, Any], Callable[[TwinProcess], Any], tuple[str, str]]] = [
    # what is wrong, how it is undone, and what is said of it
    (event("duplicate", servo_id=5, value=4), undo_double_id, ("wrist_flex", "setup-motors")),
    (
        event("model", servo_id=ELBOW, value=2825),
        lambda twin: twin.fault("model", servo_id=ELBOW, value=MODEL_STS3215),
        ("elbow_flex", "STS3215"),
    ),
    (
        event("register", servo_id=LIFT, name="homing_offset", value=77),
        lambda twin: twin.fault("register", servo_id=LIFT, name="homing_offset", value=LIFT_OFFSET),
        ("shoulder_lift", "calibrate arm"),
    ),
    (
        event("register", servo_id=GRIPPER, name="operating_mode", value=1),
        lambda twin: twin.fault("register", servo_id=GRIPPER, name="operating_mode", value=0),
        ("gripper", "setup-motors"),
    ),
]


@pytest.mark.parametrize(("wrong", "undo", "says"), WRONG_ARMS, ids=["double id", "model", "offset", "mode"])
def test_an_arm_that_is_not_the_one_it_should_be_is_not_energised(
    tmp_path: Path,
    stack: Rig,
    twin: TwinProcess,
    wrong: dict[str, Any],
    undo: Callable[[TwinProcess], Any],
    says: tuple[str, str],
) -> None:
    if stack.process is not None:
        stack.end()  # the port is this test's
    twin.reset()
    since_s = time.monotonic()
    rig = Rig(tmp_path, twin)
    try:
        twin.fault(**wrong)
        rig.launch()
        rig.until_mode("fault")
        (fault,) = rig.status()["faults"]
        assert all(word in fault["message"] + fault["remedy"] for word in says), fault
        assert rig.ask(op="start")["code"] == "fault_latched"
        assert rig.goals_since(since_s) == []
    finally:
        rig.close()
        undo(twin)
