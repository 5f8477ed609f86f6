"""Commands through the socket: whatever comes is answered, and the bus is not asked too often."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from robot.mailbox import MAX_PAYLOAD, Mailbox

from controller_rig import Rig, lost  # isort: skip


class Posted(Mailbox):
    """A mailbox whose letters a test writes and whose answers it reads; the socket is real but unused."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.letters: list[bytes] = []
        self.answers: list[dict[str, Any]] = []

    def drain(self, limit: int = 32) -> list[tuple[bytes, str | None]]:
        taken, self.letters = self.letters[:limit], self.letters[limit:]
        return [(payload, "somebody") for payload in taken]

    def reply(self, address: str | None, payload: bytes) -> bool:
        assert len(payload) <= MAX_PAYLOAD
        self.answers.append(json.loads(payload))
        return True


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Posted]:
    mailbox = Posted(tmp_path / "controller.sock")
    yield mailbox
    mailbox.close()


def letter(**command: Any) -> bytes:
    return json.dumps(command, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "payload",
    [
        letter(op="\x7f" * 20_000),
        letter(op="stop", level="é" * 25_000),
        letter(op="start", **{"é" * 25_000: 1}),
        letter(op="end_run", run_id="é" * 25_000),
        letter(op="run", run_id=1, source="é" * 25_000, args={}, max_duration_s=1.0),
        letter(op=[[["é" * 9_000]] * 2]),
        b'{"op":"start","x":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"op":' + b"9" * 4_000 + b"}",
        b'{"op":' + b"9" * 60_000 + b".5e999}",
        b"\xff" * 60_000,
        b'{"op":"\\ud800"}',
    ],
)
def test_malformed_datagram_is_answered_and_the_loop_goes_on(mailbox: Posted, payload: bytes) -> None:
    rig = Rig(mailbox=mailbox).go("ready")
    mailbox.letters.append(payload)
    rig.ticks(1)
    assert [answer["ok"] for answer in mailbox.answers] == [False]
    assert rig.mode == "ready"


def counted(rig: Rig, name: str) -> list[str]:
    """Calls of one of the arm's questions, from now on."""
    calls: list[str] = []
    plain = getattr(rig.arm, name)

    def spy() -> Any:
        calls.append(name)
        return plain()

    setattr(rig.arm, name, spy)
    return calls


def test_flood_of_commands_that_use_the_bus_asks_it_once_and_keeps_no_stop_waiting(mailbox: Posted) -> None:
    rig = Rig(mailbox=mailbox).go("hold")
    rig.ticks(1)
    asked = counted(rig, "limp_joints")
    mailbox.letters += [letter(op="clear_faults")] * 20 + [letter(op="stop", level="release")] * 5
    rig.controller.tick()
    assert len(asked) <= 2  # and maybe the loop's own look
    assert rig.arm.calls.count("release") == 1
    rig.ticks(2)
    assert [answer["ok"] for answer in mailbox.answers] == [True] * 25


def test_commands_that_use_the_bus_in_turns_are_spread_over_ticks(mailbox: Posted) -> None:
    rig = Rig(mailbox=mailbox).go("hold")
    mailbox.letters += [letter(op="stop", level="release"), letter(op="start")] * 4
    rig.controller.tick()
    assert len(mailbox.answers) == 2
    rig.ticks(10)
    assert len(mailbox.answers) == 8


def test_repeated_command_is_carried_out_again_after_another_one(mailbox: Posted) -> None:
    rig = Rig(mailbox=mailbox).go("ready")
    mailbox.letters += [letter(op="start"), letter(op="stop", level="hold"), letter(op="start")]
    rig.ticks(2)
    assert rig.mode in ("starting", "ready")  # and not in hold
    assert [answer["ok"] for answer in mailbox.answers] == [True] * 3


def test_refusal_is_repeated_with_its_reason(mailbox: Posted) -> None:
    rig = Rig(mailbox=mailbox).go("ready")
    rig.arm.read_error = lost(0)
    rig.ticks(3)
    mailbox.letters += [letter(op="clear_faults")] * 3
    rig.ticks(1)
    assert [answer["code"] for answer in mailbox.answers] == ["fault_active"] * 3
