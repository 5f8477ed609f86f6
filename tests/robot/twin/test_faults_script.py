from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from robot.errors import ConfigError
from robot.registers import REGISTERS
from robot.twin.adapters import PortKind
from robot.twin.bus_faults import BusFaults
from robot.twin.camera_faults import CameraKind
from robot.twin.faults import BusKind, FaultEvent, ServoKind, load_faults, parse_fault
from robot.twin.world import World


def test_script_is_read_in_the_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- {at_s: 9, kind: unmute, servo_id: 4}\n- {at_s: 5.0, kind: mute, servo_id: 4}\n")
    assert [event.kind for event in load_faults(path)] == ["mute", "unmute"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {kind: melt}", "kind"),
        ("- {kind: mute}", "needs servo_id"),
        ("- {kind: mute, servo_id: 4, wen: 3}", "wen"),
        ("- {kind: mute, servo_id: 4, at_s: .nan}", "at_s"),
        ("- {kind: supply, voltage_v: 0}", "voltage_v"),
        ("kind: mute", "list"),
        ("- [", "fault script"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_faults(path)


def test_absent_script(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no fault script"):
        load_faults(tmp_path / "none.yaml")


def test_events_do_what_they_say() -> None:
    bank, faults = World().follower, BusFaults()
    for raw in (
        {"kind": "mute", "servo_id": 2},
        {"kind": "lose", "servo_id": 1, "count": 3},
        {"kind": "corrupt", "servo_id": 1},
        {"kind": "garbage", "count": 5},
        {"kind": "delay", "delay_ms": 30},
        {"kind": "heat", "servo_id": 3, "temperature_c": 85},
        {"kind": "supply", "voltage_v": 5.5},
    ):
        parse_fault(raw).apply(bank, faults)
    assert faults.muted == {2}
    assert faults.lose == {1: 3}
    assert faults.corrupt == {1: 1}
    assert len(faults.garbage) == 5
    assert faults.garbage.startswith(b"\xff\xff")
    assert faults.delay_s == 0.03
    assert bank.temperature_c[2] == 85
    assert (bank.supply_v == 5.5).all()
    assert not bank.idle
    FaultEvent(kind="unmute", servo_id=2).apply(bank, faults)
    assert faults.muted == set()


def test_reboot_turns_torque_off() -> None:
    bank = World().follower
    torque = REGISTERS["torque_enable"].address
    bank.write(4, torque, b"\x01")
    FaultEvent(kind="reboot", servo_id=4).apply(bank, BusFaults())
    assert bank.read(4, torque, 1) == b"\x00"


def test_the_lowest_supply_can_be_read() -> None:
    world = World()
    parse_fault({"kind": "supply", "voltage_v": 3.0}).apply(world.follower, BusFaults())
    for _ in range(20):
        world.step()
    assert world.follower.read(1, REGISTERS["present_voltage"].address, 1) == b"\x1e"


def test_no_such_servo() -> None:
    with pytest.raises(ConfigError, match="no servo 9"):
        FaultEvent(kind="heat", servo_id=9).apply(World().follower, BusFaults())


def test_the_manual_names_every_kind_and_its_example_can_be_played(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "twin.md").read_text(encoding="utf-8")
    table = text[text.index("| kind | with |") : text.index("## Tasks")]
    rows = table.strip().splitlines()
    named = {kind for row in rows for kind in re.findall(r"`(\w+)`", row.split("|")[1])}
    known = {kind for alias in (BusKind, ServoKind, PortKind, CameraKind) for kind in get_args(alias)}
    assert named == known
    path = tmp_path / "faults.yaml"
    path.write_text(text[text.index("```yaml") + 7 :].split("```")[0])
    events = load_faults(path)
    assert [event.on for event in events if isinstance(event, FaultEvent) and event.kind == "stuck"] == [
        True,
        False,
    ]
