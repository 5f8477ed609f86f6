"""A gamepad as speeds and commands, read from the kernel's event devices.

Codes and what they mean follow the kernel's gamepad specification (Documentation/input/gamepad.rst): sticks
are ABS_X, ABS_Y, ABS_RX and ABS_RY with negative up and left, analogue triggers ABS_Z and ABS_RZ (some pads:
ABS_BRAKE and ABS_GAS), action pad by compass points. Which device it is, is told by what it can do, not by
its name. Of the package ``evdev`` only the device itself is used: it is installed by the extra ``gamepad``.
"""

from __future__ import annotations

import errno
import select
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from robot.errors import ConfigError

EV_KEY, EV_ABS = 0x01, 0x03
ABS_X, ABS_Y, ABS_Z, ABS_RX, ABS_RY, ABS_RZ = range(6)
ABS_GAS, ABS_BRAKE, ABS_HAT0X, ABS_HAT0Y = 0x09, 0x0A, 0x10, 0x11
BTN_SOUTH, BTN_EAST, BTN_NORTH, BTN_WEST = 0x130, 0x131, 0x133, 0x134
BTN_TL, BTN_TR, BTN_TL2, BTN_TR2 = 0x136, 0x137, 0x138, 0x139
BTN_SELECT, BTN_START, BTN_MODE = 0x13A, 0x13B, 0x13C
BTN_DPAD_UP, BTN_DPAD_DOWN, BTN_DPAD_LEFT, BTN_DPAD_RIGHT = range(0x220, 0x224)

DEAD_ZONE = 0.12
"""Share of a stick's way that means nothing: worn sticks rest up to a tenth off their middle."""
EXPO = 0.6
"""Share of the cubic curve: fine near the middle, and still all of the speed at the end."""
FULL_MPS = 0.15
FULL_PITCH_DPS = 50.0
FULL_ROLL_DPS = 70.0
FULL_GRIPPER_PPS = 90.0
POLL_S = 0.25

BUTTONS: dict[int, str] = {
    BTN_SOUTH: "next",
    BTN_WEST: "redo",
    BTN_NORTH: "success",
    BTN_EAST: "stop",
    BTN_START: "next",
    BTN_SELECT: "discard",
    BTN_MODE: "stop",
    BTN_TL: "take_over",
    BTN_TR: "hand_back",
}
"""Button -> command. East, where games cancel, and the middle stop the arm."""


class Device(Protocol):
    """What is used of ``evdev.InputDevice``."""

    name: str
    path: str

    def capabilities(self, *, absinfo: bool = True) -> Mapping[int, Iterable[Any]]:
        """Event types -> codes, with the range of each axis where asked for."""

    def fileno(self) -> int:
        """Descriptor to wait on."""

    def read(self) -> Iterable[Any]:
        """Events that have come; OSError when the device has gone."""

    def close(self) -> None:
        """Let go of it."""


def is_gamepad(device: Device) -> bool:
    """Whether it is one: a south button, which is what marks a gamepad, and a stick with two axes."""
    can = device.capabilities(absinfo=False)
    axes = set(can.get(EV_ABS, ()))
    return BTN_SOUTH in set(can.get(EV_KEY, ())) and {ABS_X, ABS_Y} <= axes


def find_gamepad() -> Device:
    """The first gamepad of this machine.

    Raises:
        ConfigError: the package that reads them is missing, there is none, or none may be read.
    """
    try:
        import evdev
    except ImportError as error:
        words = "--with gamepad needs the package evdev: pip install 'so101-deploy[gamepad]'"
        raise ConfigError(words) from error
    unreadable = 0
    for path in sorted(evdev.list_devices()):
        try:
            device: Device = evdev.InputDevice(path)
        except OSError:
            unreadable += 1
            continue
        if is_gamepad(device):
            return device
        device.close()
    rights = f" ({unreadable} devices may not be read)" if unreadable else ""
    raise ConfigError(
        f"no gamepad among /dev/input/event*{rights}: plug one in and press a button, or, where it is there, "
        "add yourself to its group with `sudo usermod -aG input $USER` and log in again"
    )


@dataclass(frozen=True, slots=True)
class _Range:
    low: float
    high: float

    def centred(self, value: float) -> float:
        """-1..1 for a stick."""
        return 2.0 * (value - self.low) / (self.high - self.low) - 1.0

    def share(self, value: float) -> float:
        """0..1 for a trigger."""
        return (value - self.low) / (self.high - self.low)


def shaped(deflection: float) -> float:
    """A stick's deflection, -1..1, without the dead zone and softer near the middle."""
    size = abs(deflection)
    if size <= DEAD_ZONE:
        return 0.0
    size = min(1.0, (size - DEAD_ZONE) / (1.0 - DEAD_ZONE))
    return float((1.0 if deflection > 0 else -1.0) * ((1.0 - EXPO) * size + EXPO * size**3))


class Gamepad:
    """Reads a gamepad in a thread of its own.

    Args:
        device: the gamepad; closed at the end.
        on_command: called in that thread with ``next``, ``redo``, ``stop``... (see ``BUTTONS``).
        on_lost: called once when it has gone, with what to do about it.
    """

    def __init__(
        self, device: Device, on_command: Callable[[str], None], on_lost: Callable[[str], None]
    ) -> None:
        self._device, self._on_command, self._on_lost = device, on_command, on_lost
        self._ranges = {
            code: _Range(info.min, info.max)
            for code, info in device.capabilities(absinfo=True).get(EV_ABS, ())
            if info.max > info.min
        }
        # Older drivers, and Xbox pads by Bluetooth, have the right stick where others have the triggers.
        plain = {ABS_RX, ABS_RY} <= self._ranges.keys()
        self._right = (ABS_RX, ABS_RY) if plain else (ABS_Z, ABS_RZ)
        self._triggers = ((ABS_Z, ABS_BRAKE), (ABS_RZ, ABS_GAS)) if plain else ((ABS_BRAKE,), (ABS_GAS,))
        self._axes: dict[int, float] = {}
        self._held: set[int] = set()
        self._end = threading.Event()
        self.lost = False
        self._thread = threading.Thread(target=self._run, name="gamepad", daemon=True)

    def __enter__(self) -> Gamepad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._device.close()

    def speeds(self) -> dict[str, float]:
        """Fields of a jog intent; empty when all sticks rest or the gamepad is gone.

        Left stick: forward, back, left, right. Right stick: up, down and roll. Triggers: left closes the
        gripper, right opens it. Directional pad, up and down: pitch.
        """
        if self.lost:
            return {}
        wanted = {
            "vx_mps": -FULL_MPS * shaped(self._stick(ABS_Y)),
            "vy_mps": -FULL_MPS * shaped(self._stick(ABS_X)),
            "vz_mps": -FULL_MPS * shaped(self._stick(self._right[1])),
            "roll_dps": FULL_ROLL_DPS * shaped(self._stick(self._right[0])),
            "pitch_dps": FULL_PITCH_DPS * self._pad(),
            "gripper_pps": FULL_GRIPPER_PPS
            * (self._trigger(self._triggers[1], BTN_TR2) - self._trigger(self._triggers[0], BTN_TL2)),
        }
        return {field: value for field, value in wanted.items() if value}

    def _stick(self, code: int) -> float:
        known = self._ranges.get(code)
        return 0.0 if known is None or code not in self._axes else known.centred(self._axes[code])

    def _trigger(self, axes: tuple[int, ...], button: int) -> float:
        for axis in axes:
            if axis in self._ranges and axis in self._axes:
                return max(0.0, shaped(self._ranges[axis].share(self._axes[axis])))
        return float(button in self._held)

    def _pad(self) -> float:
        if self._axes.get(ABS_HAT0Y):
            return self._axes[ABS_HAT0Y]
        return float(BTN_DPAD_DOWN in self._held) - float(BTN_DPAD_UP in self._held)

    def _run(self) -> None:
        while not self._end.is_set():
            ready, _, _ = select.select([self._device], [], [], POLL_S)
            try:
                for event in self._device.read() if ready else ():
                    self._take(event)
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    continue
                self.lost = True
                self._on_lost(f"the gamepad {self._device.name} is gone: plug it in and start anew")
                return

    def _take(self, event: Any) -> None:
        if event.type == EV_ABS:
            self._axes[event.code] = float(event.value)
        elif event.type == EV_KEY and event.value == 1:
            self._held.add(event.code)
            if event.code in BUTTONS:
                self._on_command(BUTTONS[event.code])
        elif event.type == EV_KEY and event.value == 0:
            self._held.discard(event.code)
