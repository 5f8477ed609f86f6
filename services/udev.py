"""udev rules and the serial group: who may open the adapters, by which lasting names, and who keeps off.

Installing is idempotent and never opens a port to everybody: devices belong to the serial group with mode
0660, and whoever sits at the machine gets access through logind's ``uaccess``.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from robot.adapters import CHIPS
from robot.errors import ConfigError

RULES_PATH = Path("etc/udev/rules.d/70-so101.rules")
"""After 60-serial.rules, which finds serial numbers, and before 73-seat-late.rules, which acts on uaccess."""

GROUPS = ("dialout", "uucp")
"""Groups that own serial ports: Debian, Ubuntu, Raspberry Pi OS and Fedora have the first, Arch the other."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What has to be done, and how.

    Attributes:
        rules: path of the rules file.
        text: what it shall hold.
        group: the serial group.
        user: who shall be in it.
        commands: to run after the file was written, one argument list each.
        write: whether the file is absent or differs.
    """

    rules: Path
    text: str
    group: str
    user: str
    commands: tuple[tuple[str, ...], ...]
    write: bool

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return not self.write and not self.commands


def plan(root: Path = Path("/"), user: str | None = None) -> Installation:
    """Look at the machine and say what an installation would change. Changes nothing.

    Args:
        root: where the machine's files lie; ``/`` but for tests and images.
        user: who shall be in the serial group; by default whoever called sudo, else who runs this.

    Raises:
        ConfigError: there is no serial group, or whoever runs this has no name here.
    """
    user = user or os.environ.get("SUDO_USER") or _own_name()
    groups = _groups(root)
    group = next((name for name in GROUPS if name in groups), None)
    if group is None:
        raise ConfigError(
            f"this machine has no group {' or '.join(GROUPS)}: `sudo groupadd dialout` makes one"
        )
    rules, text = root / RULES_PATH, rules_text(group)
    try:
        write = rules.read_text(encoding="utf-8") != text
    except OSError:
        write = True
    commands: list[tuple[str, ...]] = []
    if write:
        commands += [
            ("udevadm", "control", "--reload-rules"),
            ("udevadm", "trigger", "--subsystem-match=tty"),
        ]
    if user not in groups[group] and user != "root":
        commands.append(("usermod", "--append", "--groups", group, user))
    return Installation(rules, text, group, user, tuple(commands), write)


def install(installation: Installation, *, run: bool = True) -> None:
    """Carry it out. Needs root where ``root`` was ``/``.

    Args:
        installation: what :func:`plan` said.
        run: whether to run the commands, which act on this machine whatever its root is.

    Raises:
        ConfigError: the file cannot be written, or a command failed; the message says which.
    """
    for command in installation.commands if run else ():
        if shutil.which(command[0]) is None:  # found out before anything is changed
            raise ConfigError(f"this machine has no {command[0]}: is it a container? Install on its host")
    if installation.write:
        try:
            installation.rules.parent.mkdir(parents=True, exist_ok=True)
            temporary = installation.rules.with_suffix(".tmp")
            temporary.write_text(installation.text, encoding="utf-8")
            temporary.chmod(0o644)
            temporary.replace(installation.rules)
        except OSError as error:
            raise ConfigError(f"{installation.rules} cannot be written: {error.strerror}") from error
    for command in installation.commands if run else ():
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip()
            raise ConfigError(f"`{' '.join(command)}` failed: {said}") from error


def rules_text(group: str) -> str:
    """The rules file, for adapters of the chips that servo boards are built with."""
    lines = [
        "# Serial adapters of SO-101 arms. Written by `so101 ports --install`.",
        "# ModemManager would send AT commands to the servos: it is told to keep off the whole adapter.",
    ]
    lines += [
        f'SUBSYSTEM=="usb", ENV{{DEVTYPE}}=="usb_device", ATTR{{idVendor}}=="{vendor:04x}", '
        f'ATTR{{idProduct}}=="{product:04x}", ENV{{ID_MM_DEVICE_IGNORE}}="1"'
        for vendor, product in CHIPS
    ]
    lines += ["", 'SUBSYSTEM!="tty", GOTO="so101_end"']
    lines += [
        f'SUBSYSTEMS=="usb", ATTRS{{idVendor}}=="{vendor:04x}", ATTRS{{idProduct}}=="{product:04x}", '
        f'ENV{{SO101_CHIP}}="{chip}"'
        for (vendor, product), chip in CHIPS.items()
    ]
    lines += [
        'ENV{SO101_CHIP}!="?*", GOTO="so101_end"',
        f'GROUP="{group}", MODE="0660", TAG+="uaccess"',
        'ENV{ID_MM_DEVICE_IGNORE}="1", ENV{ID_MM_PORT_IGNORE}="1"',
        "# A name that lasts: by serial number, or by the socket where the chip has no number (CH340).",
        'ENV{ID_SERIAL_SHORT}=="?*", SYMLINK+="so101/$env{ID_SERIAL_SHORT}"',
        'ENV{ID_SERIAL_SHORT}!="?*", ENV{ID_PATH}=="?*", SYMLINK+="so101/$env{ID_PATH}"',
        'LABEL="so101_end"',
    ]
    return "\n".join(lines) + "\n"


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise ConfigError(
            f"user {os.geteuid()} has no name on this machine: is it a container? Do this on its host"
        ) from error


def _groups(root: Path) -> dict[str, set[str]]:
    """Group -> members, those whose first group it is among them."""
    if root == Path("/"):
        members = {entry.gr_name: set(entry.gr_mem) for entry in grp.getgrall()}
        by_gid = {entry.gr_gid: entry.gr_name for entry in grp.getgrall()}
        for person in pwd.getpwall():
            if person.pw_gid in by_gid:
                members[by_gid[person.pw_gid]].add(person.pw_name)
        return members
    try:
        lines = (root / "etc/group").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{root} holds no machine: {root / 'etc/group'} cannot be read") from error
    fields = [line.split(":") for line in lines if line.count(":") == 3]
    return {name: set(filter(None, members.split(","))) for name, _, _, members in fields}
