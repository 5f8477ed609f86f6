"""A pseudo-terminal that looks like a USB adapter with emulated servos behind it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
import tty

from robot.errors import TwinError
from robot.twin.emulator import BusEmulator

_CHUNK = 4096
_TIOCGEXCL = 0x80045440  # Linux: is the exclusive flag set? Not in the termios module.
_TCGETS2 = 0x802C542A  # Linux: as tcgetattr, and speeds as numbers
_TERMIOS2 = struct.Struct("=4IB19s2I")


class PtyWire:
    """The master side of a pty, not blocking, with an emulator on it.

    The slave side is kept open here too: otherwise the master would read EIO between one client and the next.

    Attributes:
        path: what a client opens as its serial port, or could open until the adapter was unplugged.
    """

    def __init__(self, emulator: BusEmulator) -> None:
        self.emulator = emulator
        self.path = ""
        self._master = self._slave = -1
        self.plug_in()

    @property
    def plugged(self) -> bool:
        """Whether there is a port."""
        return self._master >= 0

    def plug_in(self) -> None:
        """Make a new port, under a name that the last one did not have; what was plugged in is unplugged.

        Raises:
            TwinError: this machine has none left; what was plugged in stays.
        """
        master, slave = _open_pair()
        if os.ttyname(slave) == self.path:  # the kernel gives free numbers again
            former = master, slave
            try:
                master, slave = _open_pair()
            finally:
                _close(*former)
        self.unplug()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._master, self._slave, self.path = master, slave, os.ttyname(slave)

    def unplug(self) -> None:
        """Take the port away: whoever has it open gets an I/O error. Safe to call twice."""
        if self.plugged:
            _close(self._master, self._slave)
        self._master = self._slave = -1
        self.emulator.hush()

    def fileno(self) -> int:
        """Descriptor to wait on for requests."""
        return self._master

    def receive(self, now_s: float) -> None:
        """Hand waiting request bytes to the emulator."""
        try:
            data = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return
        self.emulator.set_baud(self._baud())
        self.emulator.feed(data, now_s)

    def send_due(self, now_s: float) -> None:
        """Deliver the answers that are due. What nobody reads any more is lost, as on a wire."""
        due_s = self.emulator.next_due_s
        if due_s is None or due_s > now_s:
            return
        self.emulator.set_baud(self._baud())
        data = self.emulator.due(now_s)
        if data:
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, data)

    def _baud(self) -> int:
        """The speed to which the host has set the port, standard or not."""
        answer = fcntl.ioctl(self._slave, _TCGETS2, bytes(_TERMIOS2.size))
        return int(_TERMIOS2.unpack(answer)[-1])

    def free_dead_claim(self) -> None:
        """Give the port back after a client that claimed it was killed.

        The exclusive flag of a real port ends with its last user. Here the slave never closes, so a dead
        client's flag would lock everybody out. A living owner also holds a lock on the port: only where that
        is free is the flag taken away. Clients that set the flag and take no lock, as rustypot does, lose it
        too: only a search of all processes could tell them from dead ones, and servos would wait for it.
        """
        flag = struct.unpack("i", fcntl.ioctl(self._slave, _TIOCGEXCL, b"\0\0\0\0"))[0]
        if flag == 0:
            return
        try:
            fcntl.flock(self._slave, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        fcntl.ioctl(self._slave, termios.TIOCNXCL)
        fcntl.flock(self._slave, fcntl.LOCK_UN)


def _open_pair() -> tuple[int, int]:
    try:
        return os.openpty()
    except OSError as error:
        raise TwinError(f"no port for the twin: {error.strerror}; see /proc/sys/kernel/pty/max") from error


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
