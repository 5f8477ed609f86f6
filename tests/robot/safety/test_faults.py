"""Latching, severity and clearing."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot.errors import CommandError
from robot.safety.faults import FaultBook, Finding, Severity


def finding(code: str = "overload", severity: Severity = Severity.HOLD, joint: str | None = None) -> Finding:
    return Finding(code, severity, joint, f"{code} happened", "mend it")


def test_order_of_severity() -> None:
    assert [severity.label for severity in sorted(Severity)] == ["warn", "slow", "hold", "park", "release"]


@given(st.lists(st.sampled_from(Severity), min_size=1))
def test_most_severe_wins(severities: list[Severity]) -> None:
    book = FaultBook()
    for index, severity in enumerate(severities):
        book.raise_(finding(f"code{index}", severity), 0.0)
    assert book.worst == max(severities)
    assert book.stops() == (max(severities) >= Severity.HOLD)


def test_fault_outlives_its_cause_until_it_is_cleared() -> None:
    book = FaultBook()
    assert book.raise_(finding(), 1.0)
    assert not book.raise_(finding(), 2.0)  # the same one
    with pytest.raises(CommandError, match=r"overload happened \(mend it\)") as failure:
        book.clear()
    assert failure.value.code == "fault_active"
    assert book.settle("overload")
    (fault,) = book
    assert (fault.active, fault.raised_s) == (False, 1.0)
    assert book.stops()
    book.clear()
    assert list(book) == []
    assert book.worst is None


def test_fault_that_returns_is_new() -> None:
    book = FaultBook()
    book.raise_(finding(), 1.0)
    book.settle("overload")
    assert book.raise_(finding(), 5.0)
    (fault,) = book
    assert (fault.id, fault.active, fault.raised_s) == (2, True, 5.0)


def test_fault_only_becomes_more_severe() -> None:
    book = FaultBook()
    book.raise_(finding(severity=Severity.SLOW), 0.0)
    assert book.raise_(finding(severity=Severity.PARK), 1.0)
    book.settle("overload")
    book.raise_(finding(severity=Severity.SLOW), 2.0)
    assert book.worst == Severity.PARK


def test_joints_have_faults_of_their_own() -> None:
    book = FaultBook()
    book.raise_(finding(joint="elbow_flex"), 0.0)
    book.raise_(finding(joint="gripper"), 0.0)
    book.settle("overload", "gripper")
    assert [fault.active for fault in book] == [True, False]


def test_warning_goes_with_its_cause_and_blocks_nothing() -> None:
    book = FaultBook()
    book.raise_(finding("gripper_strained", Severity.WARN), 0.0)
    book.raise_(finding(), 0.0)
    book.settle("overload")
    book.clear()
    assert [fault.finding.code for fault in book] == ["gripper_strained"]
    book.settle("gripper_strained")
    assert list(book) == []


def test_what_only_slows_the_arm_is_latched_but_keeps_nothing_from_being_cleared() -> None:
    book = FaultBook()
    book.raise_(finding("warm", Severity.SLOW), 0.0)
    book.raise_(finding(), 0.0)
    book.settle("overload")
    book.clear()
    assert not book.stops()
    assert [(fault.finding.code, fault.active) for fault in book] == [("warm", True)]
    book.settle("warm")
    assert book.worst == Severity.SLOW
    book.clear()
    assert list(book) == []


def test_update_settles_only_what_the_supervisor_looks_for() -> None:
    book = FaultBook()
    looked_for = frozenset({"a", "b"})
    book.raise_(finding("other"), 0.0)
    assert book.update([finding("a"), finding("b")], looked_for, 1.0)
    assert not book.update([finding("a"), finding("b")], looked_for, 2.0)
    assert book.update([finding("b")], looked_for, 3.0)
    assert {fault.finding.code: fault.active for fault in book} == {"other": True, "a": False, "b": True}


def test_milder_finding_of_an_active_fault_is_no_news() -> None:
    book = FaultBook()
    book.raise_(finding(severity=Severity.PARK), 1.0)
    assert not book.raise_(finding(severity=Severity.SLOW), 2.0)
    (fault,) = book
    assert (fault.id, fault.finding.severity, fault.raised_s) == (1, Severity.PARK, 1.0)


def test_settling_what_is_not_there_or_settled_already_changes_nothing() -> None:
    book = FaultBook()
    assert not book.settle("overload")
    book.raise_(finding(), 1.0)
    assert book.settle("overload")
    assert not book.settle("overload")
    assert not book.update([], frozenset({"overload"}), 2.0)


def test_findings_and_faults_cannot_be_changed() -> None:
    book = FaultBook()
    book.raise_(finding(), 1.0)
    (fault,) = book
    for thing, name in ((fault, "active"), (fault.finding, "severity")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, False)
