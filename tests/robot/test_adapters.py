from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from robot.adapters import find_adapters, given_adapters, stable_names


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """Two adapters: one has a serial number, the other is known by its socket alone."""
    for folder in ("serial/by-id", "serial/by-path"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("ttyACM0", "ttyUSB0"):
        (tmp_path / name).touch()
    (tmp_path / "serial/by-id/usb-1a86_USB_58FD0-if00").symlink_to("../../ttyACM0")
    (tmp_path / "serial/by-path/pci-0-usb-1").symlink_to("../../ttyACM0")
    (tmp_path / "serial/by-path/pci-0-usb-2").symlink_to("../../ttyUSB0")
    return tmp_path


def test_names_that_last_are_found(dev: Path) -> None:
    names = stable_names(dev)
    assert names[str(dev / "ttyACM0")].endswith("by-id/usb-1a86_USB_58FD0-if00")
    assert names[str(dev / "ttyUSB0")].endswith("by-path/pci-0-usb-2")


def test_usb_adapters_are_listed_known_chips_first(dev: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def port(name: str, vid: int | None, pid: int | None, serial: str | None) -> SimpleNamespace:
        return SimpleNamespace(device=str(dev / name), vid=vid, pid=pid, serial_number=serial)

    listed = [
        port("ttyS0", None, None, None),
        port("ttyACM9", 0x2341, 0x43, "uno"),
        port("ttyUSB0", 0x1A86, 0x7523, ""),
        port("ttyACM0", 0x1A86, 0x55D3, "58FD0"),
    ]
    monkeypatch.setattr("robot.adapters.list_ports.comports", lambda: listed)
    found = find_adapters(dev)
    assert [adapter.chip for adapter in found] == ["CH343", "CH340", None]
    assert [Path(adapter.stable).parent.name for adapter in found[:2]] == ["by-id", "by-path"]
    assert [adapter.serial for adapter in found] == ["58FD0", None, "uno"]
    assert found[2].stable == found[2].device


def test_a_named_port_keeps_a_lasting_name(dev: Path) -> None:
    link = str(dev / "serial/by-id/usb-1a86_USB_58FD0-if00")
    by_device, by_link, other = given_adapters([str(dev / "ttyACM0"), link, os.devnull], dev)
    assert by_device.stable == by_link.stable == link
    assert by_link.device == str(dev / "ttyACM0")
    assert other.stable == os.devnull
