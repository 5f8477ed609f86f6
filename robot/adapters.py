"""Serial adapters of this machine, under the names that they keep."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports

CHIPS: dict[tuple[int, int], str] = {
    (0x1A86, 0x55D3): "CH343",
    (0x1A86, 0x7523): "CH340",
    (0x1A86, 0x55D4): "CH9102",
    (0x0403, 0x6001): "FT232R",
    (0x0403, 0x6015): "FT231X",
    (0x10C4, 0xEA60): "CP210x",
}
"""USB vendor and product id -> chip, of adapters that servo boards are built with. The first two are on the
boards sold with SO-101 kits.
"""

DEV = Path("/dev")


@dataclass(frozen=True, slots=True)
class Adapter:
    """One serial port.

    Attributes:
        device: its name for now, for instance ``/dev/ttyACM0``.
        stable: a name that it keeps when it is plugged in again; the device itself where there is none.
        chip: what it is built with, ``None`` where we do not know it.
        serial: serial number of the adapter, ``None`` where it has none, as CH340 have not.
    """

    device: str
    stable: str
    chip: str | None = None
    serial: str | None = None


def find_adapters(dev: Path = DEV) -> list[Adapter]:
    """USB serial adapters that are plugged in, those of known chips first, without opening any."""
    stable = stable_names(dev)
    found = [
        Adapter(
            device=port.device,
            stable=stable.get(os.path.realpath(port.device), port.device),
            chip=CHIPS.get((port.vid, port.pid)),
            serial=port.serial_number or None,
        )
        for port in list_ports.comports()
        if port.vid is not None
    ]
    return sorted(found, key=lambda adapter: (adapter.chip is None, adapter.stable))


def given_adapters(paths: Iterable[str], dev: Path = DEV) -> list[Adapter]:
    """Ports that somebody named, pseudo-terminals too, which no list has; a lasting name is kept."""
    known = stable_names(dev)
    adapters = []
    for path in paths:
        device = os.path.realpath(path)
        adapters.append(Adapter(device, path if path != device else known.get(device, path)))
    return adapters


def stable_names(dev: Path = DEV) -> dict[str, str]:
    """Device -> the name that leads to it by serial number, or by the socket where it has no number.

    udev names an adapter without a number by its make alone (``by-id/usb-1a86_USB_Serial-if00-port0``). Two
    boards share such a name, so it is taken only where there is nothing else.
    """
    numbered = {os.path.realpath(port.device) for port in list_ports.comports() if port.serial_number}
    by_id, by_path = (_links(dev / "serial" / folder) for folder in ("by-id", "by-path"))
    return by_id | by_path | {device: link for device, link in by_id.items() if device in numbered}


def _links(folder: Path) -> dict[str, str]:
    """Device -> link to it."""
    return {os.path.realpath(link): str(link) for link in sorted(folder.glob("*"))}
