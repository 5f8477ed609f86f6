"""The dataset as the session has it, while something is still being done in the background."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from services.recording.keeper import Keeper


class Rig:
    """A keeper whose work is done when the test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.work: list[tuple[Callable[[], Any], Future[Any]]] = []
        self.done: list[str] = []
        writer = SimpleNamespace(
            total_episodes=3, recovered=(), failures=(),
            close=lambda: self.done.append("close"), drop_last=lambda: self.done.append("drop"),
        )  # fmt: skip

        def opened() -> Any:
            self.done.append("open")
            return writer

        self.keeper = Keeper(opened, self._spawn, lambda: self.now_s)

    def _spawn(self, call: Callable[[], Any]) -> Future[Any]:
        self.work.append((call, Future()))
        return self.work[-1][1]

    def finish(self) -> None:
        """What was begun is done, and is noticed."""
        for call, future in self.work:
            future.set_result(call())
        self.work.clear()
        self.keeper.poll(busy=False)


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.keeper.poll(busy=False)
    return made


def test_nothing_begins_while_an_episode_is_being_dropped(rig: Rig) -> None:
    assert rig.keeper.opening and not rig.keeper.ready
    rig.finish()
    assert rig.keeper.ready and rig.keeper.number == 3
    rig.keeper.drop_last()
    assert not rig.keeper.ready and rig.keeper.number == 2
    rig.finish()
    assert rig.keeper.ready and rig.done == ["open", "drop"]


def test_who_ends_while_the_dataset_is_opened_waits_for_it_and_closes_it_for_good(rig: Rig) -> None:
    rig.keeper.close()
    assert not rig.keeper.closed, "it is being opened"
    rig.finish()
    assert not rig.keeper.closed, "it is being closed"
    rig.finish()
    assert rig.keeper.closed and rig.done == ["open", "close"]
    rig.now_s += 60.0
    rig.keeper.poll(busy=False)
    assert rig.work == [] and rig.keeper.closed
