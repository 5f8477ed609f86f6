"""Intents are checked strictly: what is no intent never reaches the arm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robot.errors import CommandError
from robot.mailbox import Mailbox
from robot.teleop.intents import (
    FARTHEST_M,
    MAX_GRIPPER_PPS,
    MAX_JOG_MPS,
    MAX_JOINT_RATE,
    MAX_TURN_DPS,
    Goto,
    GripperTo,
    Jog,
    JointRates,
    Pose,
    TeleopClient,
    parse_intent,
    read_intent,
)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"kind": "dance"},
        {"kind": "jog", "vx": 0.1},
        {"kind": "jog", "vx_mps": "0.1"},
        {"kind": "jog", "vx_mps": True},
        {"kind": "jog", "vx_mps": float("nan")},
        {"kind": "jog", "vx_mps": float("inf")},
        {"kind": "joints", "rates": [1.0] * 5},
        {"kind": "joints", "rates": [1.0] * 7},
        {"kind": "joints"},
        {"kind": "goto"},
        {"kind": "goto", "x_m": "here"},
        {"kind": "gripper"},
        {"kind": "pose", "position": [0.0, 0.0, 0.0, 0.0, 0.0, None]},
        {"kind": "halt", "now": True},
        {"kind": ["jog"]},
    ],
)
def test_what_is_no_intent_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(CommandError) as refused:
        parse_intent(value)
    assert refused.value.code == "malformed"
    with pytest.raises(CommandError):
        read_intent(json.dumps(value).encode())


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"\xff\xfe", b"[" * 5000, b'{"kind":"jog","vx_mps":1e999}', b'{"kind":"\\ud800"}', b"7"],
)
def test_bytes_that_are_no_intent_are_refused_in_a_short_sentence(payload: bytes) -> None:
    with pytest.raises(CommandError) as refused:
        read_intent(payload)
    assert len(str(refused.value)) <= 200


def test_numbers_that_are_too_large_are_capped() -> None:
    assert parse_intent({"kind": "jog", "vx_mps": -9, "pitch_dps": 1e6, "gripper_pps": 1e6}) == Jog(
        vx_mps=-MAX_JOG_MPS, pitch_dps=MAX_TURN_DPS, gripper_pps=MAX_GRIPPER_PPS
    )
    assert parse_intent({"kind": "joints", "rates": [1e9, 0, 0, 0, 0, -1e9]}) == JointRates(
        rates=(MAX_JOINT_RATE, 0, 0, 0, 0, -MAX_JOINT_RATE)
    )
    assert parse_intent({"kind": "goto", "z_m": 40}) == Goto(z_m=FARTHEST_M)
    assert parse_intent({"kind": "gripper", "gripper_pct": 140}) == GripperTo(gripper_pct=100)
    assert parse_intent({"kind": "pose", "position": [0, 0, 0, 0, 0, 9e9]}) == Pose(
        position=(0, 0, 0, 0, 0, 360)
    )


def test_client_sends_what_the_other_end_reads_and_nothing_else(tmp_path: Path) -> None:
    client = TeleopClient(tmp_path / "teleop.sock")
    with pytest.raises(CommandError) as refused:
        client.send({"kind": "halt"})
    assert refused.value.code == "unreachable"
    mailbox = Mailbox(tmp_path / "teleop.sock")
    with pytest.raises(CommandError):
        client.send({"kind": "jog", "vx_mps": None})
    client.send({"kind": "jog", "vy_mps": 0.05})
    assert [read_intent(payload) for payload, _ in mailbox.drain()] == [Jog(vy_mps=0.05)]
    mailbox.close()
