from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.console import unattended
from services.console.arm import Arm
from services.console.client import ServiceClient
from services.console.episodes import Episodes
from services.console.unattended import MOST_SPOILED, Unattended
from tests.services.console_rig import FakeService, faked


class Script:
    """What the expert does with each episode, in its place."""

    def __init__(self, service: FakeService, deeds: list[Callable[[], None]]) -> None:
        self.service, self.deeds = service, deeds

    def perform(self, speed: float) -> bool:
        self.service.in_bowl = False
        self.deeds.pop(0)()
        return self.service.in_bowl

    def ended(self) -> bool:
        return self.service.mode != "running"

    def truth(self) -> dict[str, Any]:
        return {"cube_in_bowl": self.service.in_bowl}

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FakeService, ServiceClient]]:
    with faked() as found:
        yield found


@pytest.fixture
def player(
    running: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[FakeService, bool, list[str]]]:
    """Plays a script; the service, whether all episodes were made, and what was said."""
    service, client = running
    service.reset()
    monkeypatch.setattr(unattended, "PATIENCE_S", 0.05)

    def play(
        *deeds: Callable[[], None], wanted: int, corrections: bool = False
    ) -> tuple[FakeService, bool, list[str]]:
        script, said = Script(service, list(deeds)), list[str]()
        monkeypatch.setattr(unattended, "LiveScene", lambda *_: script)
        monkeypatch.setattr(unattended, "LiveExpert", lambda _: script)
        ended = threading.Event()
        arm = Arm(client, "teleop", ended)
        episodes = Episodes(arm, corrections=corrections, point=lambda: None, say=said.append)
        one = Unattended(
            arm, episodes, corrections=corrections, seed=0, wanted=wanted, ended=ended, say=said.append
        )
        return service, one.run(), said

    return play


def labels(service: FakeService) -> list[str]:
    return [body["label"] for path, body in service.calls if path == "/v1/recording/finish"]


def places(service: FakeService) -> list[Any]:
    return [body["cube"] for path, body in service.calls if path == "/v1/twin"]


def test_each_episode_has_a_place_of_its_own_and_the_label_that_is_true(player: Any, running: Any) -> None:
    service = running[0]
    good = lambda: setattr(service, "in_bowl", True)  # noqa: E731
    assert player(good, lambda: None, wanted=2)[1]
    assert labels(service) == ["success", "failure"]
    first = places(service)
    assert first[0] != first[1]
    begun = ["start", "twin", "teleop/start", "recording/next", "recording/finish", "teleop/stop"]
    assert service.posted() == [*begun, *begun[1:]], "started once: it is ready afterwards"
    service.calls.clear()
    player(good, wanted=1)
    assert places(service) == first[:1], "the same seed, the same episodes"


def test_an_arm_that_was_stopped_is_not_started_by_the_expert(player: Any, running: Any) -> None:
    def stopped() -> None:
        running[0].in_bowl, running[0].mode, running[0].source = True, "hold", None

    service, done, said = player(stopped, wanted=5)
    assert not done and service.posted().count("start") == 1
    assert "taken from it (mode hold)" in said[-1]


def test_what_the_recorder_had_to_stop_is_not_kept_and_not_tried_for_ever(player: Any, running: Any) -> None:
    def spoilt() -> None:
        running[0].recording |= {"state": "idle", "message": "the disk is too slow"}

    service, done, said = player(*[spoilt] * MOST_SPOILED, wanted=5)
    assert not done and labels(service) == []
    assert service.posted().count("recording/discard") == MOST_SPOILED
    assert "too slow" in said[-1] and "in a row" in said[-1]


@pytest.mark.parametrize(
    ("left", "thrown_away"),
    [
        ({"can_label": False, "last": None}, 0),  # a recorder that was started again
        ({"can_label": False, "last": {"reason": None}}, 0),  # the one before: this one had no rows
        ({"can_label": False, "last": {"reason": "the disk is too slow"}}, 1),
    ],
)
def test_only_what_is_left_of_this_episode_is_thrown_away(
    player: Any, running: Any, left: dict[str, Any], thrown_away: int
) -> None:
    def ended_early() -> None:
        running[0].recording |= {"state": "idle", "message": "it was stopped", **left}

    good = lambda: setattr(running[0], "in_bowl", True)  # noqa: E731
    service, done, said = player(ended_early, good, wanted=1)
    assert done and labels(service) == ["success"]
    assert service.posted().count("recording/discard") == thrown_away
    assert "not kept, it was stopped" in said[0]


def test_what_the_recorder_has_counted_is_enough(player: Any, running: Any) -> None:
    running[0].refuse["/v1/recording/next"] = ["all_recorded"]
    service, done, said = player(wanted=2)
    assert done and said == [] and labels(service) == []


def test_a_policy_that_gives_up_each_time_is_not_tried_for_ever(
    player: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unattended, "PASSING_S", 0.0)
    monkeypatch.setattr(unattended, "PATIENCE_S", 5.0)
    monkeypatch.setattr(
        Script, "truth", lambda self: self.service.end_pickup("failed") or {"cube_in_bowl": False}
    )
    service, done, said = player(wanted=1, corrections=True)
    assert not done and labels(service) == []
    assert len(said) == MOST_SPOILED and "the pickup failed (so it is)" in said[0]
    assert "the expert stops" in said[-1]


def test_a_policy_is_corrected_and_the_true_place_recorded(player: Any, running: Any) -> None:
    service, done, _ = player(lambda: setattr(running[0], "in_bowl", True), wanted=1, corrections=True)
    assert done and labels(service) == ["success"]
    order = ["start", "twin", "pickups", "recording/next", "teleop/take_over", "recording/finish"]
    assert service.posted() == [*order, "pickups/7/cancel"]
    (cube,) = places(service)
    told = dict(service.calls)["/v1/recording/next"]["pickup"]
    assert told == {"x_m": cube["x_m"], "y_m": cube["y_m"]}


def test_where_there_is_nothing_to_correct_nothing_is_kept(
    player: Any, running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = iter([True])
    monkeypatch.setattr(Script, "truth", lambda self: {"cube_in_bowl": next(finished, False)})
    service, done, said = player(lambda: setattr(running[0], "in_bowl", True), wanted=1, corrections=True)
    assert done and labels(service) == ["success"]
    assert said[0] == "nothing to correct: not kept"
    assert service.posted().count("recording/discard") == 1
