from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from robot.config import BowlConfig
from services.evidence import ArmSample, EvidenceConfig, GripperEvidence

BOWL = BowlConfig(x_m=0.20, y_m=0.22, radius_m=0.06)
DT = 1 / 60
OVER_BOWL = (0.20, 0.22, 0.12)
PICKUP = (0.25, 0.0)

# One phase: seconds, tool, gripper goal, gripper opening, load, speed of the fastest joint.
Phase = tuple[float, tuple[float, float, float], float, float, float, float]

APPROACH: Phase = (1.5, (*PICKUP, 0.10), 60.0, 60.0, 1.0, 60.0)
GRASP: Phase = (0.5, (*PICKUP, 0.015), 5.0, 27.0, -20.0, 5.0)
LIFT: Phase = (0.8, (*PICKUP, 0.09), 5.0, 27.0, -18.0, 40.0)
CARRY: Phase = (0.8, (0.22, 0.10, 0.13), 5.0, 27.0, -18.0, 60.0)
HOVER: Phase = (0.4, OVER_BOWL, 5.0, 27.0, -18.0, 10.0)
RELEASE: Phase = (0.4, OVER_BOWL, 60.0, 55.0, 2.0, 3.0)
RETREAT: Phase = (0.8, (0.20, 0.05, 0.15), 60.0, 60.0, 1.0, 60.0)
STILL: Phase = (1.0, OVER_BOWL, 60.0, 60.0, 0.5, 0.0)


def play(*phases: Phase) -> Iterator[ArmSample]:
    time_s = 100.0
    for seconds, tool, goal, opening, load, speed in phases:
        for _ in range(round(seconds / DT)):
            time_s += DT
            yield ArmSample(time_s, tool, opening, goal, load, speed)


def watch(*phases: Phase, config: EvidenceConfig | None = None) -> GripperEvidence:
    evidence = GripperEvidence(BOWL, config or EvidenceConfig())
    for sample in play(*phases):
        evidence.update(sample)
    return evidence


def test_a_whole_pickup_succeeds_and_ends_once_the_tool_has_retreated() -> None:
    before = watch(APPROACH, GRASP, LIFT, CARRY, HOVER, RELEASE)
    assert before.released_in_bowl and not before.ended
    after = watch(APPROACH, GRASP, LIFT, CARRY, HOVER, RELEASE, RETREAT)
    assert after.ended and not after.timed_out
    assert after.verdict().succeeded


def test_standing_still_after_the_release_ends_the_run_too() -> None:
    assert watch(APPROACH, GRASP, LIFT, CARRY, HOVER, RELEASE, STILL).ended


def test_fidgeting_over_the_bowl_ends_the_run_after_a_while() -> None:
    fidget: Phase = (2.6, OVER_BOWL, 60.0, 60.0, 0.5, 20.0)
    evidence = watch(APPROACH, GRASP, LIFT, CARRY, HOVER, RELEASE)
    assert not evidence.ended
    assert watch(APPROACH, GRASP, LIFT, CARRY, HOVER, RELEASE, fidget).ended


def test_standing_still_before_the_release_does_not_end_it() -> None:
    assert not watch(APPROACH, (2.0, OVER_BOWL, 5.0, 27.0, -18.0, 0.0)).ended


def test_closing_on_nothing_is_no_grasp() -> None:
    empty: Phase = (1.2, (*PICKUP, 0.09), 2.0, 2.2, -2.0, 40.0)
    assert watch(APPROACH, empty, RELEASE, RETREAT).verdict().reason == "nothing_grasped"


def test_the_lag_of_the_closing_gripper_is_no_grasp() -> None:
    closing: Phase = (0.13, (*PICKUP, 0.09), 2.0, 30.0, -40.0, 40.0)
    empty: Phase = (1.0, (*PICKUP, 0.09), 2.0, 2.2, -2.0, 40.0)
    evidence = watch(*([APPROACH, closing, empty] * 4))
    assert not evidence.grasped


def test_a_stiff_gripper_without_load_is_no_grasp() -> None:
    stuck: Phase = (2.0, (*PICKUP, 0.09), 5.0, 27.0, 0.5, 40.0)
    assert not watch(APPROACH, stuck).grasped


def test_squeezing_on_the_table_without_lifting_is_no_grasp() -> None:
    assert not watch(APPROACH, (5.0, (*PICKUP, 0.02), 5.0, 27.0, -20.0, 0.0)).grasped


def test_a_flicker_of_the_load_reading_is_forgiven() -> None:
    flicker: Phase = (0.05, (*PICKUP, 0.09), 5.0, 27.0, 0.0, 40.0)
    held: Phase = (0.25, (*PICKUP, 0.09), 5.0, 27.0, -18.0, 40.0)
    assert watch(APPROACH, GRASP, held, flicker, held).grasped


def test_slipping_out_on_the_way_is_dropped() -> None:
    slipped: Phase = (1.0, (0.22, 0.10, 0.13), 2.0, 2.0, -1.0, 60.0)
    evidence = watch(APPROACH, GRASP, LIFT, slipped, RELEASE, RETREAT)
    assert evidence.verdict().reason == "dropped"
    assert not evidence.ended


def test_opening_beside_the_bowl_is_not_a_release_into_it() -> None:
    beside: Phase = (0.5, (0.20, 0.15, 0.12), 60.0, 55.0, 2.0, 3.0)
    assert watch(APPROACH, GRASP, LIFT, CARRY, beside, RETREAT).verdict().reason == "not_released_over_bowl"


def test_a_second_try_after_a_drop_can_succeed() -> None:
    slipped: Phase = (1.0, (0.22, 0.10, 0.13), 2.0, 2.0, -1.0, 60.0)
    evidence = watch(APPROACH, GRASP, LIFT, slipped, APPROACH, GRASP, LIFT, CARRY, HOVER, RELEASE, RETREAT)
    assert evidence.verdict().succeeded and evidence.ended


@pytest.mark.parametrize(
    ("phases", "reason"),
    [
        ((APPROACH,), "timeout"),
        ((APPROACH, GRASP, LIFT, CARRY), "still_holding"),
        ((), "nothing_grasped"),
    ],
)
def test_the_time_limit_names_how_far_it_came(phases: tuple[Phase, ...], reason: str) -> None:
    config = EvidenceConfig(limit_s=3.0)
    last = phases[-1] if phases else None
    wait = () if last is None else ((3.5, *last[1:]),)
    evidence = watch(*phases, *wait, config=config)  # type: ignore[arg-type]
    assert evidence.timed_out == bool(phases)
    assert evidence.verdict().reason == reason


def test_samples_that_are_not_finite_or_old_are_left_out() -> None:
    evidence = watch(APPROACH, GRASP, LIFT)
    assert evidence.holding
    elapsed = evidence.elapsed_s
    evidence.update(ArmSample(float("nan"), OVER_BOWL, 90.0, 90.0, 0.0, 0.0))
    evidence.update(ArmSample(1e6, (float("nan"), 0.0, 0.0), 90.0, 90.0, 0.0, 0.0))
    evidence.update(ArmSample(1.0, OVER_BOWL, 90.0, 90.0, 0.0, 0.0))
    assert evidence.holding and evidence.elapsed_s == elapsed


def test_the_time_of_a_person_who_corrects_is_not_the_policys() -> None:
    evidence = GripperEvidence(BOWL, EvidenceConfig(limit_s=5.0))
    for sample in play((10.0, (*PICKUP, 0.10), 60.0, 60.0, 1.0, 60.0)):
        evidence.update(replace(sample, by_person=102.0 < sample.time_s <= 106.0))
        if evidence.timed_out:
            break
    assert evidence.by_person_s == pytest.approx(4.0, abs=2 * DT)
    assert evidence.elapsed_s == pytest.approx(9.0, abs=2 * DT) and evidence.timed_out
    assert evidence.verdict().reason == "timeout"


def test_what_a_person_puts_into_the_bowl_is_in_the_bowl() -> None:
    evidence = GripperEvidence(BOWL, EvidenceConfig(limit_s=1.0))
    for sample in play(APPROACH, GRASP, LIFT, CARRY, HOVER, RELEASE, RETREAT):
        evidence.update(replace(sample, by_person=sample.time_s > 100.5))
    assert evidence.ended and not evidence.timed_out and evidence.verdict().succeeded
