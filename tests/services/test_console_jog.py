from __future__ import annotations

import numpy as np
import pytest

from services.console.jog import AXES, KEYS, RELEASE_S, SPEEDS, TAP_S, KeyJog

DT = 0.02


def driven(
    presses: list[tuple[float, str]], end_s: float, jog: KeyJog | None = None
) -> dict[str, np.ndarray]:
    """Speeds of each axis at 50 Hz, while keys are pressed at their times."""
    jog = jog or KeyJog()
    left, speeds = sorted(presses), []
    for step in range(round(end_s / DT)):
        now_s = step * DT
        while left and left[0][0] <= now_s:
            at_s, key = left.pop(0)
            assert jog.press(key, at_s)
        speeds.append(jog.speeds(now_s, DT))
    return {axis.field: np.array([one.get(axis.field, 0.0) for one in speeds]) for axis in AXES}


def held(key: str, seconds: float, wait_s: float, every_s: float) -> list[tuple[float, str]]:
    """What a terminal sends for a key that is held."""
    return [(0.0, key), *((float(at_s), key) for at_s in np.arange(wait_s, seconds, every_s))]


@pytest.mark.parametrize("key", sorted(KEYS))
def test_a_tap_is_its_step_and_no_more(key: str) -> None:
    field, sign = KEYS[key]
    step = next(axis.step for axis in AXES if axis.field == field)
    speeds = driven([(0.0, key)], 2.0)
    assert speeds.pop(field).sum() * DT == pytest.approx(sign * step)
    assert not any(other.any() for other in speeds.values())


def test_taps_add_up() -> None:
    speeds = driven([(0.0, "w"), (0.2, "w"), (0.45, "w"), (0.5, "r")], 3.0)
    assert speeds["vx_mps"].sum() * DT == pytest.approx(0.030)
    assert speeds["vz_mps"].sum() * DT == pytest.approx(0.010)


@pytest.mark.parametrize(("wait_s", "every_s"), [(0.25, 0.033), (0.5, 0.033), (0.66, 0.04), (0.5, 0.092)])
def test_a_held_key_never_pauses_and_never_leaps(wait_s: float, every_s: float) -> None:
    end_s = 2.5
    speeds = driven(held("s", end_s, wait_s, every_s), end_s + 1.0)["vx_mps"]
    while_held = -speeds[: round(end_s / DT)]
    assert (while_held > 0.0).all(), "a pause between the press and the first repeat"
    assert np.diff(while_held).max() < 0.02, "m/s from one step to the next"
    assert while_held[-1] == pytest.approx(0.12)
    still = round((end_s + RELEASE_S) / DT) + 1
    assert not speeds[still:].any(), "it goes on after the key was let go"


def test_the_other_way_ends_what_was_left() -> None:
    speeds = driven([(0.0, "o"), (0.1, "c")], 2.0)["gripper_pps"]
    assert (speeds[:5] > 0).all() and (speeds[5:6] < 0).all()
    assert speeds[5:].sum() * DT == pytest.approx(-5.0)


def test_speed_is_chosen_among_few_and_slows_a_held_key() -> None:
    jog = KeyJog()
    for _ in range(9):
        assert jog.press("-", 0.0)
    assert jog.factor == SPEEDS[0]
    slow = driven(held("w", 2.0, 0.5, 0.033), 2.0, jog)["vx_mps"]
    assert slow.max() == pytest.approx(0.12 * SPEEDS[0])
    for _ in range(9):
        jog.press("+", 0.0)
    assert jog.factor == SPEEDS[-1]


def test_release_forgets_a_tap_and_a_held_key() -> None:
    jog = KeyJog()
    for at_s in (0.0, 0.05, 0.1):
        jog.press("w", at_s)
    jog.press("r", 0.1)
    jog.release()
    assert jog.speeds(0.12, DT) == {}
    assert not jog.press("q", 0.2), "not a key of the jog"
    assert TAP_S > 0.66, "longer than the wait for the first repeat"
