"""How many looks make a condition last, to the very look."""

from __future__ import annotations

import numpy as np
import pytest

from robot.joints import JOINTS, N_JOINTS
from robot.safety.lasting import Lasting

DT_S = 0.01
NEEDED = 20
WINDOW = 100
JOINT = 2
SINCE = np.arange(N_JOINTS) == JOINT
NOBODY = np.zeros(N_JOINTS, dtype=bool)


def held(since: Lasting, looks: int) -> list[bool]:
    """Whether the joint's condition has lasted long enough, look by look."""
    found = []
    for _ in range(looks):
        since.begin(())
        found.append(since.lasting("hot", SINCE, NEEDED * DT_S) == [JOINT])
    return found


def strained(since: Lasting, condition: bool) -> bool:
    since.begin(())
    return since.repeated("strain", SINCE if condition else NOBODY) == [JOINT]


@pytest.fixture
def since() -> Lasting:
    return Lasting(DT_S, WINDOW * DT_S)


def test_condition_lasts_from_its_twentieth_look_on(since: Lasting) -> None:
    assert held(since, 25) == [False] * (NEEDED - 1) + [True] * 6


def test_one_look_without_it_begins_anew(since: Lasting) -> None:
    held(since, NEEDED - 1)
    since.begin(())
    assert since.lasting("hot", NOBODY, NEEDED * DT_S) == []
    assert held(since, NEEDED) == [False] * (NEEDED - 1) + [True]


def test_a_joint_that_says_nothing_neither_counts_nor_begins_anew(since: Lasting) -> None:
    held(since, NEEDED - 1)
    for _ in range(50):
        since.begin((JOINTS[JOINT],))
        assert since.lasting("hot", SINCE, NEEDED * DT_S) == []
    assert held(since, 1) == [True]


def test_a_joint_of_which_it_is_not_known_neither_counts_nor_begins_anew(since: Lasting) -> None:
    held(since, NEEDED - 1)
    for condition in (SINCE, NOBODY):
        since.begin(())
        assert since.lasting("hot", condition, NEEDED * DT_S, judged=~SINCE) == []
    since.begin((JOINTS[JOINT],))
    assert since.lasting("hot", SINCE, NEEDED * DT_S, judged=SINCE) == []  # known of what it said before
    since.begin(())
    assert since.lasting("hot", SINCE, NEEDED * DT_S, judged=SINCE) == [JOINT]


@pytest.mark.parametrize("joint", [JOINT, None])
def test_what_is_forgotten_begins_anew(since: Lasting, joint: int | None) -> None:
    held(since, NEEDED)
    since.forget("warm", "hot", joint=joint)
    assert held(since, NEEDED) == [False] * (NEEDED - 1) + [True]


def test_only_the_joint_that_is_named_is_forgotten(since: Lasting) -> None:
    everybody = ~NOBODY
    for forgotten, left in ((JOINT, [0, 1, 3, 4, 5]), (None, [])):
        for _ in range(NEEDED):
            since.begin(())
            since.lasting("hot", everybody, NEEDED * DT_S)
        since.forget("hot", joint=forgotten)
        since.begin(())
        assert since.lasting("hot", everybody, NEEDED * DT_S) == left


def test_two_looks_are_the_least(since: Lasting) -> None:
    for wanted in ([], [JOINT]):
        since.begin(())
        assert since.lasting("hot", SINCE, 0.0) == wanted


@pytest.mark.parametrize(("pause", "counts"), [(0, True), (1, False)])
def test_two_strains_in_a_row_count_however_short_their_time(pause: int, counts: bool) -> None:
    since = Lasting(DT_S, 0.0)
    strained(since, condition=True)
    for _ in range(pause):
        strained(since, condition=False)
    assert strained(since, condition=True) == counts


@pytest.mark.parametrize(("pause", "counts"), [(0, True), (WINDOW - 2, True), (WINDOW - 1, False)])
def test_two_strains_count_within_their_time(since: Lasting, pause: int, counts: bool) -> None:
    assert not strained(since, condition=True)
    for _ in range(pause):
        assert not strained(since, condition=False)
    assert strained(since, condition=True) == counts


def test_strains_count_until_the_first_of_them_is_old(since: Lasting) -> None:
    strained(since, condition=True)
    assert [strained(since, condition=k == 0) for k in range(WINDOW)] == [True] * (WINDOW - 1) + [False]


def test_a_strain_that_is_forgotten_counts_no_longer(since: Lasting) -> None:
    strained(since, condition=True)
    since.forget("hot", "strain", joint=JOINT)
    assert not strained(since, condition=True)
    assert strained(since, condition=True)


def test_a_strain_in_the_very_first_look_is_one(since: Lasting) -> None:
    assert [strained(since, condition=True) for _ in range(3)] == [False, True, True]


def test_a_silent_joint_has_no_strain(since: Lasting) -> None:
    for _ in range(5):
        since.begin((JOINTS[JOINT],))
        assert since.repeated("strain", SINCE) == []
