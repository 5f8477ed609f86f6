"""Judges whether a port can be had and keeps its name, and what the machine knows of serial adapters."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from robot.adapters import stable_names
from robot.errors import PortError, So101Error
from robot.port import SerialPort, holders
from services import udev
from services.doctor.report import Scope

_SYS_TTY = Path("/sys/class/tty")


def check_port(scope: Scope, path: str) -> bool:
    """Whether the port can be opened by us alone; why not, otherwise. It is closed again."""
    try:
        SerialPort(path).close()
    except PortError as error:
        _refused(scope, path, error)
        scope.measured("port", False, f"{path} cannot be opened")
        return False
    scope.measured("port", True, path, device=os.path.realpath(path))
    _check_name(scope, path)
    return True


def _refused(scope: Scope, path: str, error: PortError) -> None:
    owners = holders(path)
    if isinstance(error.__cause__, FileNotFoundError):
        remedy = "plug the adapter in; `so101 ports` lists what is there"
        scope.find("port_missing", f"there is no port {path}", remedy)
    elif isinstance(error.__cause__, PermissionError):
        remedy = "`so101 ports --install` sets up udev and the serial group; log in again afterwards"
        scope.find("port_permission", f"no permission to read and write {path}", remedy)
    elif Path(path).exists() and not Path(path).is_char_device():
        scope.find("port_missing", f"{path} is no serial port", "`so101 ports` lists what is there")
    elif owners:
        who = ", ".join(f"pid {pid} ({name})" for pid, name in owners)
        remedy = f"stop {who} first: two masters on one bus collide"
        scope.find("port_busy", f"{path} is in use by {who}", remedy)
    else:
        scope.find("port_failed", str(error), "unplug the adapter and plug it in again; try another cable")


def _check_name(scope: Scope, path: str) -> None:
    """A name such as /dev/ttyACM0 goes to whoever is plugged in first."""
    better = stable_names().get(path)
    if better is not None:
        message = f"{path} may be another adapter after the next plug or boot"
        scope.advise("port_name", message, f"use {better}")


def is_usb(path: str) -> bool:
    """Whether a port is an adapter of this machine, and no pseudo-terminal as the twin's."""
    return os.path.realpath(path).startswith("/dev/tty")


def latency_timer_ms(path: str) -> int | None:
    """What an FTDI adapter waits before it hands bytes on; ``None`` for adapters without such a timer."""
    file = _SYS_TTY / Path(os.path.realpath(path)).name / "device" / "latency_timer"
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text(encoding="ascii"))
    return None


def check_rules(scope: Scope) -> None:
    """Whether udev rules and serial group are as `so101 ports --install` leaves them; advice."""
    try:
        planned = udev.plan()
    except So101Error as error:
        scope.advise("udev", str(error), "put that right, then `so101 ports --install`")
        return
    scope.measured("udev rules", planned.done, "installed" if planned.done else "not as installed by us")
    if planned.write:
        message = f"{planned.rules} is not there or differs: ModemManager may talk to the servos"
        scope.advise("udev", message, "`so101 ports --install`")
    if any(command[0] == "usermod" for command in planned.commands):
        message = f"{planned.user} is not in the group {planned.group}"
        scope.advise("serial_group", message, "`so101 ports --install`; log in again afterwards")
