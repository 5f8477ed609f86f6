"""The live twin's control side, without its process: what no input may do is end the loop."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot.errors import ConfigError
from robot.mailbox import MAX_PAYLOAD, to_json
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
        b'{"op": "leader", "user": [1e307, 0, 0, 0, 0, 0]}',
        b'{"op": "hand", "arm": "leader", "user": [1e307, 0, 0, 0, 0, 0]}',
        b'{"op": "place_board", "position_m": [0, 0, 0], "before": 99}',
        b'{"op": "reset", "seed": -1}',
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
    twin.world.step()
    twin.world.leader.read(1, 56, 15)


@pytest.mark.parametrize("kind", ["rename", "replug"])
def test_a_machine_without_another_port_leaves_what_there_is(
    twin: LiveTwin, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> tuple[int, int]:
        raise OSError(errno.ENOSPC, "out of pty devices")

    before = twin.wires["follower"].path
    if kind == "replug":
        twin._apply(parse_fault({"kind": "unplug"}))
    monkeypatch.setattr(os, "openpty", none_left)
    refusal = json.loads(twin._answer(to_json({"op": "fault", "kind": kind})))
    assert (refusal["ok"], refusal["code"]) == (False, "refused")
    assert "out of pty devices" in refusal["message"]
    assert twin.wires["follower"].plugged == (kind == "rename")
    assert twin.wires["follower"].path == before
    twin._apply_scripted(parse_fault({"kind": kind}))  # said, and lives on


def test_a_script_may_name_an_id_that_an_earlier_event_gives(tmp_path: Path) -> None:
    script = [{"servo_id": 3, "value": 9}, {"servo_id": 9, "value": 3}]
    events = [parse_fault({"kind": "duplicate", **event}) for event in script]
    events.insert(1, parse_fault({"kind": "register", "servo_id": 9, "name": "acceleration", "value": 7}))
    twin = LiveTwin(World(), tmp_path, events)
    for event in events:
        twin._apply(event)
    assert twin.banks["follower"].ids == (1, 2, 3, 4, 5, 6)
    twin.close()
    with pytest.raises(ConfigError, match="no servo 9 on the leader's bus"):
        LiveTwin(World(), tmp_path, [events[0], events[1].model_copy(update={"arm": "leader"})])


def test_what_an_unreliable_bus_spoils_depends_on_seed_and_arm(tmp_path: Path) -> None:
    def fates(twin: LiveTwin, arm: str) -> list[bytes]:
        faults = twin.wires[arm].emulator.faults
        faults.lose_share = 0.5
        return [faults.on_the_way(1, b"x") for _ in range(64)]

    first, other = (LiveTwin(World(), tmp_path / str(seed), [], seed) for seed in (1, 2))
    follower, leader = fates(first, "follower"), fates(first, "leader")
    assert follower != leader
    assert fates(other, "follower") != follower
    other._answer(to_json({"op": "reset", "seed": 1}))
    assert (fates(other, "follower"), fates(other, "leader")) == (follower, leader)
    first.close()
    other.close()


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
