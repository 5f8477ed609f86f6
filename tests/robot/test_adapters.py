from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from robot.adapters import find_adapters, given_adapters, stable_names


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What udev makes of an adapter with a serial number, of two boards without, and of one by its make
    alone.
    """
    links = {
        "by-id/usb-1a86_USB_58FD0-if00": "ttyACM0",
        "by-path/pci-0-usb-1": "ttyACM0",
        "by-id/usb-1a86_USB_Serial-if00-port0": "ttyUSB0",  # of the two, the one that came last has it
        "by-path/pci-0-usb-2": "ttyUSB0",
        "by-path/pci-0-usb-3": "ttyUSB1",
        "by-id/usb-FTDI_UART-if00-port0": "ttyUSB2",
    }
    for link, name in links.items():
        path = tmp_path / "serial" / link
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(f"../../{name}")
        (tmp_path / name).touch()

    def port(name: str, vid: int | None, pid: int | None, serial: str | None) -> SimpleNamespace:
        return SimpleNamespace(device=str(tmp_path / name), vid=vid, pid=pid, serial_number=serial)

    listed = [
        port("ttyS0", None, None, None),
        port("ttyACM9", 0x2341, 0x43, "uno"),
        port("ttyUSB1", 0x1A86, 0x7523, None),
        port("ttyUSB0", 0x1A86, 0x7523, ""),
        port("ttyACM0", 0x1A86, 0x55D3, "58FD0"),
    ]
    monkeypatch.setattr("robot.adapters.list_ports.comports", lambda: listed)
    return tmp_path


def test_names_that_last_are_found(dev: Path) -> None:
    names = stable_names(dev)
    assert names[str(dev / "ttyACM0")].endswith("by-id/usb-1a86_USB_58FD0-if00")
    assert names[str(dev / "ttyUSB0")].endswith("by-path/pci-0-usb-2")
    assert names[str(dev / "ttyUSB1")].endswith("by-path/pci-0-usb-3")
    assert names[str(dev / "ttyUSB2")].endswith("by-id/usb-FTDI_UART-if00-port0")


def test_usb_adapters_are_listed_known_chips_first(dev: Path) -> None:
    found = find_adapters(dev)
    assert [adapter.chip for adapter in found] == ["CH343", "CH340", "CH340", None]
    assert [Path(adapter.stable).parent.name for adapter in found[:3]] == ["by-id", "by-path", "by-path"]
    assert [adapter.serial for adapter in found] == ["58FD0", None, None, "uno"]
    assert found[3].stable == found[3].device


def test_a_named_port_keeps_a_lasting_name(dev: Path) -> None:
    link = str(dev / "serial/by-id/usb-1a86_USB_58FD0-if00")
    by_device, by_link, other = given_adapters([str(dev / "ttyACM0"), link, os.devnull], dev)
    assert by_device.stable == by_link.stable == link
    assert by_link.device == str(dev / "ttyACM0")
    assert other.stable == os.devnull
