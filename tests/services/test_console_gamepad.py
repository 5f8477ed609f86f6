from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from robot.errors import ConfigError
from services.console import gamepad as pads
from services.console.gamepad import Gamepad, find_gamepad, is_gamepad, shaped


@dataclass
class Event:
    type: int
    code: int
    value: int


@dataclass
class Axis:
    min: int
    max: int


XBOX = {code: Axis(-32768, 32767) for code in (pads.ABS_X, pads.ABS_Y, pads.ABS_RX, pads.ABS_RY)}
XBOX |= {code: Axis(0, 255) for code in (pads.ABS_Z, pads.ABS_RZ)}
XBOX[pads.ABS_HAT0Y] = Axis(-1, 1)
BLUETOOTH = {code: Axis(0, 65535) for code in (pads.ABS_X, pads.ABS_Y, pads.ABS_Z, pads.ABS_RZ)}
BLUETOOTH |= {code: Axis(0, 1023) for code in (pads.ABS_GAS, pads.ABS_BRAKE)}
BUTTONS = [pads.BTN_SOUTH, pads.BTN_EAST, pads.BTN_WEST, pads.BTN_NORTH]


class ScriptedPad:
    """An event device on a pipe."""

    name, path = "scripted", "/dev/input/event9"

    def __init__(self, axes: dict[int, Axis], buttons: list[int] = BUTTONS) -> None:
        self.axes, self.buttons = axes, buttons
        self.events: list[Event] = []
        self.gone = self.closed = False
        self.ends = os.pipe()

    def capabilities(self, *, absinfo: bool = True) -> dict[int, list[Any]]:
        axes: list[Any] = list(self.axes.items()) if absinfo else list(self.axes)
        return {pads.EV_KEY: self.buttons, pads.EV_ABS: axes}

    def fileno(self) -> int:
        return self.ends[0]

    def read(self) -> list[Event]:
        os.read(self.ends[0], 4096)
        if self.gone:
            raise OSError(errno.ENODEV, "No such device")
        events, self.events = self.events, []
        return events

    def happen(self, *events: Event) -> None:
        self.events += events
        os.write(self.ends[1], b"x")

    def close(self) -> None:
        self.closed = True


class Hands:
    """A gamepad that is read, and what came of it."""

    def __init__(self, pad: ScriptedPad) -> None:
        self.pad = pad
        self.commands: list[str] = []
        self.lost: list[str] = []
        self.taken = threading.Event()
        self.gamepad = Gamepad(pad, self._command, self._lose)

    def _command(self, name: str) -> None:
        self.commands.append(name)
        self.taken.set()

    def _lose(self, words: str) -> None:
        self.lost.append(words)
        self.taken.set()

    def move(self, **axes: float) -> dict[str, float]:
        """Bring axes to shares of their range (0..1), and press Start so that all of it has been read."""
        for name, share in axes.items():
            code = getattr(pads, name)
            known = self.pad.axes[code]
            value = round(known.min + share * (known.max - known.min))
            self.pad.happen(Event(pads.EV_ABS, code, value))
        self.press(pads.BTN_START)
        return self.gamepad.speeds()

    def press(self, button: int) -> None:
        self.taken.clear()
        self.pad.happen(Event(pads.EV_KEY, button, 1), Event(pads.EV_KEY, button, 0))
        assert self.taken.wait(5.0)


@pytest.fixture(params=[XBOX], ids=["usb"])
def hands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hands]:
    monkeypatch.setattr(pads, "POLL_S", 0.02)
    made = Hands(ScriptedPad(request.param))
    with made.gamepad:
        yield made
    assert made.pad.closed


def test_sticks_triggers_and_pad_move_what_they_should(hands: Hands) -> None:
    assert hands.gamepad.speeds() == {}
    forward = hands.move(ABS_Y=0.0, ABS_X=0.5)
    assert forward == pytest.approx({"vx_mps": pads.FULL_MPS}, abs=1e-3)
    assert hands.move(ABS_Y=0.5, ABS_X=0.0)["vy_mps"] == pytest.approx(pads.FULL_MPS)
    up = hands.move(ABS_X=0.5, ABS_RY=0.0, ABS_RX=1.0)
    assert up == pytest.approx({"vz_mps": pads.FULL_MPS, "roll_dps": pads.FULL_ROLL_DPS})
    assert hands.move(ABS_RY=0.5, ABS_RX=0.5, ABS_RZ=1.0) == {"gripper_pps": pads.FULL_GRIPPER_PPS}
    assert hands.move(ABS_RZ=0.0, ABS_Z=1.0) == {"gripper_pps": -pads.FULL_GRIPPER_PPS}
    assert hands.move(ABS_Z=0.0, ABS_HAT0Y=0.0) == {"pitch_dps": -pads.FULL_PITCH_DPS}


@pytest.mark.parametrize("hands", [BLUETOOTH], ids=["bluetooth"], indirect=True)
def test_a_pad_with_its_right_stick_on_z_closes_no_gripper_by_it(hands: Hands) -> None:
    assert hands.move(ABS_Z=0.5, ABS_RZ=0.5) == {}
    assert hands.move(ABS_RZ=0.0) == pytest.approx({"vz_mps": pads.FULL_MPS})
    assert hands.move(ABS_RZ=0.5, ABS_GAS=1.0) == {"gripper_pps": pads.FULL_GRIPPER_PPS}


def test_a_stick_that_rests_off_its_middle_moves_nothing_and_the_rest_is_monotone() -> None:
    assert shaped(0.12) == shaped(-0.1) == 0.0
    values = [shaped(share / 100) for share in range(-100, 101)]
    assert values == sorted(values)
    assert values[0] == -1.0 and values[-1] == 1.0
    assert 0.0 < shaped(0.5) < 0.3, "fine near the middle"


def test_buttons_are_commands(hands: Hands) -> None:
    for button in (pads.BTN_SOUTH, pads.BTN_WEST, pads.BTN_EAST, pads.BTN_TL, pads.BTN_TR):
        hands.press(button)
    assert hands.commands == ["next", "redo", "stop", "take_over", "hand_back"]


def test_a_pad_that_is_unplugged_halts_and_says_so(hands: Hands) -> None:
    assert hands.move(ABS_Y=0.0)
    hands.taken.clear()
    hands.pad.gone = True
    hands.pad.happen()
    assert hands.taken.wait(5.0)
    assert hands.gamepad.speeds() == {}, "the stick was at its end when the pad went"
    assert "scripted is gone" in hands.lost[0]


def test_a_gamepad_is_told_by_what_it_can_do() -> None:
    assert is_gamepad(ScriptedPad(XBOX))
    assert not is_gamepad(ScriptedPad(XBOX, [0x120])), "a joystick"
    assert not is_gamepad(ScriptedPad({}, BUTTONS)), "buttons without sticks"


class ScriptedEvdev:
    """The package, with these devices; ``None`` may not be opened."""

    def __init__(self, **devices: ScriptedPad | None) -> None:
        self.devices = devices

    def list_devices(self) -> list[str]:
        return list(self.devices)

    def InputDevice(self, path: str) -> ScriptedPad:
        device = self.devices[path]
        if device is None:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return device


def test_the_gamepad_is_found_among_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    mouse, pad = ScriptedPad({}, [0x110]), ScriptedPad(XBOX)
    monkeypatch.setitem(sys.modules, "evdev", ScriptedEvdev(a=mouse, b=None, c=pad))
    assert find_gamepad() is pad
    assert mouse.closed and not pad.closed


def test_without_a_gamepad_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = sys.modules
    monkeypatch.setitem(modules, "evdev", ScriptedEvdev(a=None))
    with pytest.raises(ConfigError, match=r"1 devices may not be read.*usermod -aG input"):
        find_gamepad()
    monkeypatch.setitem(modules, "evdev", None)
    with pytest.raises(ConfigError, match=r"so101-deploy\[gamepad\]"):
        find_gamepad()
