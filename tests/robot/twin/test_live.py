"""The live twin's control side, without its process: what no input may do is end the loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot.errors import ConfigError
from robot.mailbox import MAX_PAYLOAD
from robot.twin.faults import parse_fault
from robot.twin.live import LiveTwin
from robot.twin.world import World


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[LiveTwin]:
    twin = LiveTwin(World(), tmp_path, [])
    yield twin
    twin.close()


@pytest.mark.parametrize(
    "payload",
    [
        b'{"op": "place_cube", "x_m": 1' + b"0" * 400 + b', "y_m": 0}',
        b'{"op": "leader", "user": [1' + b"0" * 400 + b", 0, 0, 0, 0, 0]}",
        b'{"op": "fault", "kind": "supply", "voltage_v": 0}',
        # Escaped as JSON, what a refusal quotes is longer than the command was.
        json.dumps({"op": "\u00e9" * 30_000}, ensure_ascii=False).encode(),
        json.dumps({"op": "place_cube", "\u00e9" * 30_000: 0}, ensure_ascii=False).encode(),
    ],
)
def test_commands_that_cannot_be_are_answered_with_a_refusal(twin: LiveTwin, payload: bytes) -> None:
    before = twin.world.render_state()
    answer = twin._answer(payload)
    assert len(answer) <= MAX_PAYLOAD
    refusal = json.loads(answer)
    assert refusal["ok"] is False
    assert refusal["message"]
    assert (twin.world.render_state() == before).all()


def test_a_script_that_names_an_absent_servo_is_refused_before_the_start(tmp_path: Path) -> None:
    events = [parse_fault({"kind": "mute", "servo_id": servo_id}) for servo_id in (1, 9)]
    with pytest.raises(ConfigError, match="mute: no servo 9 on the follower's bus"):
        LiveTwin(World(), tmp_path, events)
    assert not list(tmp_path.iterdir())


def test_a_scripted_fault_of_a_servo_that_was_renamed_is_said_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World()
    twin = LiveTwin(world, tmp_path, [parse_fault({"kind": "mute", "servo_id": 6})])
    world.follower.write(6, 5, b"\x09")
    twin._apply_scripted(twin._faults.pop())
    twin.close()
    assert "fault at 0 s left out: mute: no servo 6" in capsys.readouterr().err
