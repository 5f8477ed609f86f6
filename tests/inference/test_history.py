from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.history import ObservationHistory
from robot.seams import Observation


def seen(tick: int) -> Observation:
    """An observation that knows its tick."""
    image = np.full((2, 2, 3), tick % 256, np.uint8)
    return Observation(tick, np.full(6, tick, np.float32), np.zeros(2, np.float32), {"wrist": image})


def test_steps_are_as_far_apart_as_the_policys_and_the_first_is_repeated() -> None:
    history = ObservationHistory.at_rate(3, fps=10.0, control_hz=60.0)
    shown = [history.add(seen(tick)).state[:, 0].tolist() for tick in range(0, 31, 2)]
    assert shown[0] == [0, 0, 0]
    assert shown[4] == [0, 2, 8]
    assert shown[-1] == [18, 24, 30]
    again = history.add(seen(32))
    assert again.images["wrist"].shape == (3, 2, 2, 3) and again.images["wrist"][:, 0, 0, 0].tolist() == [
        20, 26, 32,
    ]  # fmt: skip
    history.forget()
    assert history.add(seen(34)).state[:, 0].tolist() == [34, 34, 34]


def test_one_step_is_shown_as_it_is() -> None:
    observation = seen(5)
    assert ObservationHistory(1, 6).add(observation) is observation


@settings(max_examples=50)
@given(st.lists(st.integers(5, 8), min_size=1, max_size=40), st.integers(2, 4))
def test_uneven_observations_are_off_by_no_more_than_half_their_distance(gaps: list[int], steps: int) -> None:
    history = ObservationHistory(steps, 6)
    ticks = np.cumsum([100, *gaps]).tolist()
    for tick in ticks:
        shown = history.add(seen(tick)).state[:, 0]
    assert len(history._kept) <= steps + 2
    wanted = np.maximum(ticks[-1] - 6 * np.arange(steps - 1, -1, -1), ticks[0])
    assert shown[-1] == ticks[-1] and np.abs(shown - wanted).max() <= 4
    assert (np.diff(shown) >= 0).all()
