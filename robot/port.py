"""The serial port under the bus: opened by the Feetech SDK, owned alone, waited for without spinning.

The SDK's ``PortHandler`` knows how to open the adapter and set its baud rate. Its own reading polls with a
zero timeout, which burns a core, and its ``clearPort`` flushes the wrong direction, so bytes are moved here
through the descriptor of the pyserial handle that it opened.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import termios
import time
from pathlib import Path

import scservo_sdk
import serial

from robot.errors import PortError

_CHUNK = 4096
_GONE = (OSError, termios.error, serial.SerialException)


class SerialPort:
    """An exclusively opened serial port.

    Args:
        path: device, best a stable one such as ``/dev/serial/by-id/usb-...``.
        baud: bits per second; STS3215 servos leave the factory with 1 000 000.

    Raises:
        PortError: the port is absent, not permitted, held by another process (its pid is named), or
            cannot be set to this baud rate.
    """

    def __init__(self, path: str, baud: int = 1_000_000) -> None:
        self.path = path
        self.baud = baud
        self._probe()
        self._handler = scservo_sdk.PortHandler(path)
        try:
            opened = self._handler.setBaudRate(baud)
        except _GONE as error:
            self._give_up()
            raise PortError(f"{path} cannot be opened at {baud} baud: {error}") from error
        if not opened:
            raise PortError(f"{path}: {baud} is no baud rate of these servos, which use 1000000")
        self._fd: int = self._handler.ser.fileno()
        try:
            self._claim()
        except BlockingIOError as error:
            self._give_up()
            raise self._busy() from error
        except _GONE as error:
            self._give_up()
            raise self._unplugged(error) from error
        if others(path):  # opened between the probe and the claim
            busy = self._busy()
            self.close()
            raise busy
        # FTDI adapters hold bytes back for 16 ms otherwise; CDC adapters (CH343) and ptys have no such timer
        # and say so with a ValueError.
        with contextlib.suppress(ValueError, *_GONE):
            self._handler.ser.set_low_latency_mode(True)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    @property
    def byte_s(self) -> float:
        """Time that one byte takes on the wire: eight bits, a start and a stop bit."""
        return 10.0 / self.baud

    def set_baud(self, baud: int) -> None:
        """Go on at another rate. Raises PortError where the adapter has no such rate, or is gone."""
        self._descriptor()
        try:
            self._handler.ser.baudrate = baud
        except ValueError as error:
            raise PortError(f"{self.path} cannot be set to {baud} baud: {error}") from error
        except _GONE as error:
            raise self._unplugged(error) from error
        self.baud = baud

    def discard_input(self) -> None:
        """Throw away what came since the last read: late answers to a question nobody asks any more."""
        try:
            termios.tcflush(self._descriptor(), termios.TCIFLUSH)
        except _GONE as error:
            raise self._unplugged(error) from error

    def write(self, data: bytes) -> None:
        """Send bytes."""
        fd = self._descriptor()
        try:
            while data:
                data = data[os.write(fd, data) :]
        except BlockingIOError as error:
            raise PortError(
                f"{self.path} takes no bytes: the adapter hangs, unplug it and plug it in again"
            ) from error
        except _GONE as error:
            raise self._unplugged(error) from error

    def read_until(self, deadline_s: float) -> bytes:
        """Sleep until bytes come and return them, or ``b""`` once the monotonic deadline has passed."""
        fd = self._descriptor()
        while True:
            wait_s = deadline_s - time.monotonic()
            events = self._poll.poll(max(wait_s, 0.0) * 1000.0)
            if not events:
                if wait_s <= 0.0:
                    return b""
                continue
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                continue
            except _GONE as error:
                raise self._unplugged(error) from error
            if not data:
                raise self._unplugged(None)
            return data

    def close(self) -> None:
        """Give the port back. Safe to call twice."""
        if self._fd < 0:
            return
        # A pty keeps the flag for as long as its other side lives, so it is taken back, not left to close().
        with contextlib.suppress(*_GONE):
            fcntl.ioctl(self._fd, termios.TIOCNXCL)
        self._fd = -1
        with contextlib.suppress(*_GONE):
            self._handler.closePort()

    def _descriptor(self) -> int:
        if self._fd < 0:
            raise PortError(f"{self.path} has been closed")
        return self._fd

    def _probe(self) -> None:
        """Find out why a port cannot be had, and touch nothing that another process is using."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise PortError(
                f"no port {self.path}: plug the adapter in; `so101 ports` lists what is there"
            ) from error
        except PermissionError as error:
            raise PortError(
                f"no permission to open {self.path}: `so101 ports --install` sets up udev and the serial "
                "group; log in again afterwards"
            ) from error
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise self._busy() from error
            raise PortError(f"{self.path} cannot be opened: {error.strerror}") from error
        try:
            if not os.isatty(fd):
                raise PortError(f"{self.path} is no serial port")
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self._busy() from error
        except OSError as error:
            raise PortError(f"{self.path} cannot be locked: {error.strerror}") from error
        finally:
            os.close(fd)
        # LeRobot and the vendor's SDK take no lock. To set the baud rate would throw away an answer that such
        # a program waits for, and it may drop its arm then.
        if others(self.path):
            raise self._busy()

    def _give_up(self) -> None:
        """Close what has been opened before the port was ours."""
        if self._handler.ser is not None:
            with contextlib.suppress(*_GONE):
                self._handler.closePort()

    def _claim(self) -> None:
        # TIOCEXCL keeps everybody but root from opening; the lock keeps root out too, where it asks for the
        # lock.
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.ioctl(self._fd, termios.TIOCEXCL)

    def _busy(self) -> PortError:
        who = ", ".join(f"pid {pid} ({name})" for pid, name in holders(self.path))
        return PortError(
            f"{self.path} is in use by {who or 'another process'}: stop it first, two masters collide"
        )

    def _unplugged(self, error: BaseException | None) -> PortError:
        why = f" ({error})" if error is not None else ""
        return PortError(f"{self.path} is gone{why}: plug the adapter in again")


def holders(path: str) -> list[tuple[int, str]]:
    """Pid and name of the other processes that own a port: those that locked it, else those that have it
    open.
    """
    try:
        inode = Path(path).stat().st_ino
    except OSError:
        return []
    pids = (_lockers(inode) - {os.getpid()}) or others(path)
    return [(pid, _name(pid)) for pid in sorted(pids)]


def others(path: str) -> set[int]:
    """Pids of the other processes that have a port open, as far as we may see them.

    What holds the far end of a pseudo-terminal, as the twin does, is not its user but what it leads to.
    """
    real_path = os.path.realpath(path)
    return {pid for pid in _openers(real_path) if pid != os.getpid() and not _is_far_end(pid, real_path)}


def _lockers(inode: int) -> set[int]:
    pids: set[int] = set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if "FLOCK" in fields and "->" not in fields and fields[-3].endswith(f":{inode}"):
                pids.add(int(fields[-4]))
    return {pid for pid in pids if pid > 0}


def _openers(real_path: str) -> set[int]:
    pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    return {pid for pid in pids if real_path in _open_files(pid).values()}


def _is_far_end(pid: int, real_path: str) -> bool:
    """Whether a process has the master of this pseudo-terminal; the kernel tells its number in fdinfo."""
    if not real_path.startswith("/dev/pts/"):
        return False
    for fd, target in _open_files(pid).items():
        if Path(target).name == "ptmx":
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
                if ["tty-index:", Path(real_path).name] in [line.split() for line in lines]:
                    return True
    return False


def _open_files(pid: int) -> dict[str, str]:
    """Descriptor -> what it leads to; empty for a process that is not ours to see, or ends meanwhile."""
    files: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                files[link.name] = str(link.readlink())
    return files


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "unknown"
