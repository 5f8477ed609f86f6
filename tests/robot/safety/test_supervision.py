"""What counts as a fault, and what is only a bad reading."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from robot.joints import GRIPPER, JOINTS
from robot.safety.faults import Finding
from robot.safety.limits import SUPPLIES, SupervisionLimits, supply
from robot.safety.supervision import Supervisor
from robot.seams import ArmState

DT_S = 1 / 60


def state(**changes: Any) -> ArmState:
    """A healthy arm, but for ``joint=(index, value)`` changes by field."""
    fields = {
        "position": np.zeros(6),
        "velocity": np.zeros(6),
        "load_pct": np.zeros(6),
        "current_ma": np.zeros(6),
        "voltage_v": np.full(6, 7.4),
        "temperature_c": np.full(6, 35.0),
        "status": np.zeros(6, np.uint8),
    }
    for name, (joint, value) in changes.items():
        fields[name][joint] = value
    return ArmState(time_s=0.0, **fields)


def looks(states: list[ArmState], goal: Any = None) -> list[list[Finding]]:
    supervisor = Supervisor(SupervisionLimits(), DT_S)
    return [supervisor.look(one, goal) for one in states]


def codes(found: list[Finding]) -> set[tuple[str, str | None]]:
    return {finding.key for finding in found}


def first(found: list[list[Finding]], code: str) -> int | None:
    return next((i for i, one in enumerate(found) if any(f.code == code for f in one)), None)


def test_healthy_arm_has_no_findings() -> None:
    assert not any(looks([state()] * 300, np.zeros(6)))


def test_isolated_temperature_glitches_do_not_trip() -> None:
    random = np.random.default_rng(0)
    readings = []
    for _ in range(3000):
        temperature = random.integers(34, 39)
        if random.random() < 0.2:  # a fifth of all readings is wrong, some of them in pairs
            temperature = random.integers(72, 93)
        readings.append(state(temperature_c=(2, float(temperature))))
    assert not any(looks(readings))


def test_lasting_heat_is_slow_first_and_then_parks() -> None:
    rising = [state(temperature_c=(3, 55.0 + 0.05 * i)) for i in range(400)]
    found = looks(rising)
    warm, overheated = first(found, "warm"), first(found, "overheated")
    assert warm is not None
    assert overheated is not None
    assert 100 < warm <= 135 < 200 <= overheated <= 235
    assert [f.severity.label for f in found[warm]] == ["slow"]
    assert codes(found[-1]) == {("warm", JOINTS[3]), ("overheated", JOINTS[3])}


@pytest.mark.parametrize(
    ("volts", "code", "severity"),
    [(5.0, "voltage_low", "hold"), (6.0, "voltage_sag", "warn"), (8.8, "voltage_high", "hold")],
)
def test_lasting_voltage_is_found_and_a_dip_is_not(volts: float, code: str, severity: str) -> None:
    dip = [state(voltage_v=(4, volts))] * 10 + [state()] * 5
    assert not any(looks(dip * 5))
    found = looks([state(voltage_v=(4, volts))] * 20)[-1]
    assert [(f.code, f.severity.label, f.joint) for f in found] == [(code, severity, None)]
    assert JOINTS[4] in found[0].message


@pytest.mark.parametrize(
    ("joint", "bit", "code", "severity"),
    [
        (1, 1, "voltage_alarm", "hold"),
        (1, 2, "encoder_error", "hold"),
        (1, 8, "over_current", "hold"),
        (1, 32, "overload", "hold"),
        (5, 8, "gripper_strained", "warn"),
        (5, 32, "gripper_strained", "warn"),
        (5, 2, "encoder_error", "hold"),
    ],
)
def test_status_bits_that_last(joint: int, bit: int, code: str, severity: str) -> None:
    found = looks([state(status=(joint, bit))] * 60)
    assert not found[0]
    assert [(f.code, f.severity.label, f.joint) for f in found[-1]] == [(code, severity, JOINTS[joint])]


def test_heat_bit_counts_as_overheating() -> None:
    assert codes(looks([state(status=(0, 4))] * 40)[-1]) == {("overheated", JOINTS[0])}


def test_following_error_must_last_half_a_second_without_a_break() -> None:
    goal = np.zeros(6)
    behind = state(position=(2, -15.0))
    found = looks([behind] * 40, goal)
    at = first(found, "following_error")
    assert at is not None
    assert 25 <= at <= 35
    broken = ([behind] * 25 + [state()]) * 10
    assert not any(looks(broken, goal))
    assert not any(looks([behind] * 100, None))  # torque off: nothing to follow


def test_closed_gripper_that_holds_something_is_no_following_error() -> None:
    assert not any(looks([state(position=(5, 40.0))] * 100, np.zeros(6)))


def test_every_code_is_announced() -> None:
    worst = state()
    worst.status[:] = 0xFF
    worst.temperature_c[:] = 90.0
    worst.voltage_v[:3] = 1.0
    worst.voltage_v[3:] = 12.0
    worst.load_pct[:] = 100.0
    worst.current_ma[:] = [2000.0, 3000.0, 0, 0, 0, 0]
    found = looks([worst] * 70, np.array([90.0, 90, 90, 90, 90, -90]))[-1]
    assert {f.code for f in found} <= Supervisor.CODES
    assert {f.code for f in found} >= Supervisor.CODES - {"voltage_sag"}


@pytest.mark.parametrize(("bit", "code"), [(8, "over_current"), (32, "overload")])
def test_strain_that_is_reported_for_moments_only_is_found(bit: int, code: str) -> None:
    moments = ([state(status=(1, bit))] + [state()] * 60) * 3
    found = looks(moments)
    assert not any(found[:61])
    assert codes(found[61]) == {(code, JOINTS[1])}
    assert codes(found[-1]) == {(code, JOINTS[1])}
    rare = ([state(status=(1, bit))] + [state()] * 320) * 4
    assert not any(looks(rare))
    over = looks([state(status=(1, bit))] * 5 + [state()] * 320)
    assert not over[-1]


def test_strain_of_two_joints_once_each_is_nothing() -> None:
    assert not any(looks([state(status=(1, 32)), state(status=(2, 32))] + [state()] * 9))


@pytest.mark.parametrize("speed_dps", [60.0, 150.0, 240.0, 300.0])
def test_joint_that_lags_behind_a_fast_sweep_and_its_stop_is_no_fault(speed_dps: float) -> None:
    supervisor = Supervisor(SupervisionLimits(), DT_S)
    sweep = np.minimum(np.arange(600) * DT_S, 2.0) * speed_dps
    delayed = np.concatenate([np.zeros(7), sweep])[:600]  # 0.12 s, as measured on the twin
    for goal, position in zip(sweep, delayed, strict=True):
        assert not supervisor.look(state(position=(0, position)), np.array([goal, 0, 0, 0, 0, 0]))


def test_joint_that_is_blocked_in_a_fast_sweep_is_found_soon() -> None:
    supervisor = Supervisor(SupervisionLimits(), DT_S)
    found = [
        supervisor.look(state(position=(0, 0.0)), np.array([240.0 * i * DT_S, 0, 0, 0, 0, 0]))
        for i in range(60)
    ]
    at = first(found, "following_error")
    assert at is not None
    assert at < 50


def test_joint_that_is_missing_keeps_what_was_known_of_it_and_nothing_new_counts() -> None:
    glitch = state(temperature_c=(2, 90.0))
    supervisor = Supervisor(SupervisionLimits(), DT_S)
    supervisor.look(glitch, np.zeros(6))
    for _ in range(100):  # it fell silent just after a wrong reading
        assert not supervisor.look(glitch, np.full(6, 30.0) * [0, 0, 1, 0, 0, 0], (JOINTS[2],))
    supervisor = Supervisor(SupervisionLimits(), DT_S)
    for _ in range(40):
        supervisor.look(glitch, None)
    assert ("overheated", JOINTS[2]) in codes(supervisor.look(glitch, None, (JOINTS[2],)))


def test_joint_whose_place_is_not_known_is_judged_by_all_but_its_motion() -> None:
    away, jumped = np.array([0, 0, 40.0, 0, 0, 0]), (JOINTS[2],)
    pushing = state(load_pct=(2, 90.0), temperature_c=(2, 90.0))
    supervisor = Supervisor(SupervisionLimits(), DT_S)
    for _ in range(100):
        found = codes(supervisor.look(pushing, away, (), jumped))
    assert found == {("overheated", JOINTS[2]), ("warm", JOINTS[2])}
    for _ in range(100):
        found = codes(supervisor.look(pushing, away))
    assert found >= {("following_error", JOINTS[2]), ("stalled", JOINTS[2])}
    assert codes(supervisor.look(state(), np.zeros(6), (), jumped)) >= {("following_error", JOINTS[2])}


def test_others_are_watched_while_a_joint_is_missing() -> None:
    supervisor = Supervisor(SupervisionLimits(), DT_S)
    for _ in range(40):
        found = supervisor.look(state(temperature_c=(1, 90.0)), None, (JOINTS[2],))
    assert ("overheated", JOINTS[1]) in codes(found)


# -- supplies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nominal_v", "healthy", "sags", "low", "high"),
    [
        (5.0, (4.9, 4.7, 5.2), (4.4,), (4.1, 3.9), (7.4,)),
        (7.4, (7.4, 6.6, 8.4), (6.0,), (5.4, 4.9), (8.6, 12.0)),
        (12.0, (12.0, 11.1, 12.6), (10.0,), (8.9, 7.4), (14.0,)),
        (6.0, (6.0, 5.5), (5.2,), (4.9,), (7.4,)),
    ],
)
def test_each_supply_has_its_own_thresholds(
    nominal_v: float, healthy: tuple[float, ...], sags: tuple[float, ...], low: tuple[float, ...],
    high: tuple[float, ...],
) -> None:  # fmt: skip
    def said(volts: float) -> list[str]:
        supervisor = Supervisor(SupervisionLimits(supply_v=nominal_v), DT_S)
        reading = state()
        reading.voltage_v[:] = volts
        return [f.code for f in [supervisor.look(reading, None) for _ in range(30)][-1]]

    assert [said(volts) for volts in healthy] == [[]] * len(healthy)
    assert [said(volts) for volts in sags] == [["voltage_sag"]] * len(sags)
    assert [said(volts) for volts in low] == [["voltage_low"]] * len(low)
    assert [said(volts) for volts in high] == [["voltage_high"]] * len(high)


@pytest.mark.parametrize("nominal_v", [4.0, 5.0, 6.0, 7.4, 8.4, 11.1, 12.0])
def test_thresholds_are_in_order_and_never_below_what_the_servos_need(nominal_v: float) -> None:
    row = supply(nominal_v)
    assert 4.0 < row.low_v < row.sag_v
    assert row.high_v > row.nominal_v
    assert row in SUPPLIES or nominal_v not in {known.nominal_v for known in SUPPLIES}


# -- current and stall -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("joint", "current_ma", "code", "severity"),
    [(1, 1700.0, "current_high", "warn"), (1, 2700.0, "over_current", "hold"),
     (5, 900.0, "current_high", "warn"), (5, 1400.0, "over_current", "hold")],
)  # fmt: skip
def test_current_that_lasts(joint: int, current_ma: float, code: str, severity: str) -> None:
    opening = np.array([0.0, 0, 0, 0, 0, 50.0])  # a gripper that opens holds nothing
    surge = state(current_ma=(joint, current_ma))
    assert not any(looks(([surge] * 20 + [state()] * 3) * 5, opening))
    found = looks([surge] * 70, opening)[-1]
    assert [(f.code, f.severity.label, f.joint) for f in found] == [(code, severity, JOINTS[joint])]


def test_current_of_a_gripper_that_closes_is_its_grasp_and_as_it_opens_a_fault() -> None:
    for goal_pct, expected in ((0.0, {"gripper_strained"}), (80.0, {"over_current"})):
        surge = state(current_ma=(GRIPPER, 1400.0), position=(GRIPPER, 40.0))
        goal = np.array([0.0, 0, 0, 0, 0, goal_pct])
        found = [f for one in looks([surge] * 70, goal) for f in one]
        assert expected <= {f.code for f in found} <= {*expected, "current_high"}


def pushing(joint: int, load_pct: float, away: float, speed: float = 0.0) -> tuple[ArmState, Any]:
    goal = np.zeros(6)
    goal[joint] = away
    return state(load_pct=(joint, load_pct), velocity=(joint, speed)), goal


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_joint_that_pushes_and_does_not_move_has_stalled(sign: float) -> None:
    reading, goal = pushing(2, -60.0 * sign, 8.0 * sign)
    found = looks([reading] * 120, goal)
    at = first(found, "stalled")
    assert at is not None
    assert 55 <= at <= 65
    assert [(f.severity.label, f.joint) for f in found[at]] == [("hold", JOINTS[2])]


@pytest.mark.parametrize(
    ("load_pct", "away", "speed"),
    [(39.0, 8.5, 0.0), (100.0, 10.0, 60.0), (90.0, 2.0, 0.0), (45.0, 11.0, 0.0)],
    ids=["stretched out on 5 V", "moving", "at its goal", "stretched out with a load"],
)
def test_work_is_no_stall(load_pct: float, away: float, speed: float) -> None:
    reading, goal = pushing(1, load_pct, away, speed)
    assert not any(looks([reading] * 300, goal))


def test_squeezing_gripper_has_not_stalled_and_one_that_cannot_open_has() -> None:
    squeezes, goal = pushing(GRIPPER, 50.0, -30.0)
    assert not any(looks([squeezes] * 300, goal))
    sticks, goal = pushing(GRIPPER, 40.0, 30.0)
    assert codes(looks([sticks] * 120, goal)[-1]) == {("stalled", JOINTS[GRIPPER])}


def test_limits_cannot_be_changed() -> None:
    limits = SupervisionLimits()
    for values in (limits.stall_load_pct, limits.current_high_ma, limits.over_current_ma):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 9000.0
    for frozen, name in ((limits, "stall_s"), (SUPPLIES[0], "low_v")):
        with pytest.raises(AttributeError):
            setattr(frozen, name, 0.0)


# -- the gripper's strain ----------------------------------------------------------------------------------


def strain(supervisor: Supervisor, goal_pct: float, ticks: int = 10, bit: int = 32) -> set[Any]:
    goal = np.array([0.0, 0, 0, 0, 0, goal_pct])
    reading = state(status=(GRIPPER, bit), position=(GRIPPER, 40.0))
    return {(f.code, f.severity.label) for _ in range(ticks) for f in supervisor.look(reading, goal)}


@pytest.mark.parametrize("bit", [8, 32])
def test_strain_while_closing_is_a_grasp_and_elsewhere_a_fault(bit: int) -> None:
    code = {8: "over_current", 32: "overload"}[bit]
    for goal_pct, expected in (
        (0.0, ("gripper_strained", "warn")),
        (39.5, (code, "hold")),
        (40.0, (code, "hold")),
        (80.0, (code, "hold")),
    ):
        assert strain(Supervisor(SupervisionLimits(), DT_S), goal_pct, bit=bit) == {expected}


def test_grasp_stays_one_while_it_is_opened_again() -> None:
    supervisor = Supervisor(SupervisionLimits(), DT_S)
    assert strain(supervisor, 0.0) == {("gripper_strained", "warn")}
    assert strain(supervisor, 80.0) == {("gripper_strained", "warn")}  # the bit stays until torque is cycled
    for _ in range(400):
        supervisor.look(state(position=(GRIPPER, 40.0)), np.array([0.0, 0, 0, 0, 0, 80.0]))
    assert strain(supervisor, 80.0) == {("overload", "hold")}


def test_overload_that_was_released_is_forgotten_and_a_new_one_is_not() -> None:
    supervisor = Supervisor(SupervisionLimits(), DT_S)
    for _ in range(5):
        found = supervisor.look(state(status=(1, 32)), np.zeros(6))
    assert codes(found) == {("overload", JOINTS[1])}
    supervisor.forget_strain(JOINTS[1])
    assert not supervisor.look(state(), np.zeros(6))
    supervisor.look(state(status=(1, 32)), np.zeros(6))
    assert codes(supervisor.look(state(status=(1, 32)), np.zeros(6))) == {("overload", JOINTS[1])}
