"""The one door to the servos' EEPROM, for set-up and calibration. The running path never imports this."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from robot.bus import REGISTER_AT, FeetechBus, decode
from robot.errors import BusError, PortError, ServoError
from robot.joints import SERVO_IDS
from robot.registers import REGISTERS, Area

BAUD_RATES = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400, 19_200)
"""Rates that a servo may have been left at, the likely one first. Feetech's SDK and LeRobot's table disagree
about the last three codes, so all rates that either names are here.
"""

ONE_MEGABAUD = 0
"""Code of 1 000 000 baud in the baud register."""

WRITES = 2
"""A write that was lost, unseen or behind a late answer, is sent once more."""

_TORQUE = REGISTERS["torque_enable"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SetupBus(FeetechBus):
    """A bus that may also write EEPROM, register by register, torque off, unlocked only meanwhile,
    verified.
    """

    def __enter__(self) -> SetupBus:
        return self

    def set_baud(self, baud: int) -> None:
        """Speak at another rate from now on; the servos keep theirs. Raises PortError."""
        self._port.set_baud(baud)

    def try_baud(self, baud: int) -> bool:
        """As :meth:`set_baud`; ``False`` where the adapter has no such rate. Raises PortError: it is gone."""
        try:
            self.set_baud(baud)
        except PortError as error:
            if isinstance(error.__cause__, ValueError):
                return False
            raise
        return True

    def write_eeprom(self, servo_id: int, name: str, value: int) -> bool:
        """Write one EEPROM register if it does not hold that value already (EEPROM wears out).

        Args:
            servo_id: the servo; after writing ``id`` it answers to the new one.
            name: register, see :mod:`robot.registers`.
            value: decoded, so negative where the register is signed.

        Returns:
            Whether anything had to be written.

        Raises:
            BusError: the register is not in EEPROM, would change the baud rate, or the servo's torque is on.
            ServoError: the servo does not answer, or does not keep the value.
            PortError: the port is gone; where the servo was open at that moment, the message says so.
            ValueError: the value does not fit the register.
        """
        register = REGISTERS[name]
        if register.area is not Area.EEPROM:
            raise BusError(f"{name} is {register.area.value}, not EEPROM")
        if name == "baud_rate":
            raise BusError("the servos stay at 1000000 baud: everything that speaks to an SO-101 expects it")
        if self.read(servo_id, name) == value:
            return False
        self._refuse_energised(servo_id)
        id_after = value if name == "id" else servo_id
        if id_after != servo_id and self.answers(id_after):
            raise BusError(f"id {id_after} is taken on {self.path}: connect one servo at a time")
        with self._unlocked(servo_id, id_after):
            self._put(servo_id, name, value, id_after)
        return True

    def lock(self, servo_id: int) -> bool:
        """Close a servo's EEPROM if it is open, as LeRobot leaves it where torque is off; read back.

        Returns:
            Whether it was open.

        Raises:
            ServoError: the servo does not answer, or stays open.
            PortError: the port is gone.
        """
        if self.read(servo_id, "lock") == 1:
            return False
        self._put(servo_id, "lock", 1)
        return True

    def to_one_megabaud(self, servo_id: int, baud: int) -> bool:
        """Bring a servo from another rate to 1 000 000 baud, and this bus with it. For set-up alone.

        Args:
            servo_id: the only servo on the bus.
            baud: the rate at which it answers, and at which this bus speaks now.

        Returns:
            Whether it had another rate.

        Raises:
            BusError, ServoError, PortError: as :meth:`write_eeprom`.
        """
        if baud == BAUD_RATES[0] and self.read(servo_id, "baud_rate") == ONE_MEGABAUD:
            return False
        self._refuse_energised(servo_id)
        with self._unlocked(servo_id, servo_id):
            # It may answer at the old rate, the new one, or not legibly.
            with contextlib.suppress(ServoError):
                self.write(servo_id, "baud_rate", ONE_MEGABAUD)
            self.set_baud(BAUD_RATES[0])
            if not self.answers(servo_id):
                self.set_baud(baud)
        self._verify(servo_id, "baud_rate", ONE_MEGABAUD)
        return True

    def release(self, servo_ids: Sequence[int] = tuple(SERVO_IDS.values())) -> None:
        """Torque off at once, read back; an arm falls unless somebody holds it.

        Raises:
            ServoError: joints that stay energised, or cannot be asked; all others are limp.
            PortError: the port is gone.
        """
        driven: list[int] = []
        missing: tuple[int, ...] = ()
        for _ in range(WRITES):
            self.sync_write("torque_enable", dict.fromkeys(servo_ids, 0))
            reply = self.sync_read(servo_ids, _TORQUE.address, _TORQUE.size)
            driven = [i for i in servo_ids if i in reply.replies and decode(_TORQUE, reply.replies[i].data)]
            missing = reply.missing
            if not driven and not missing:
                return
        if not driven:
            raise self.silent(missing)
        names = ", ".join(map(self.describe, driven))
        raise ServoError(
            f"{names} on {self.path} will not be released: hold the arm and switch its supply off",
            servo_id=driven[0],
            joint=self.joints.get(driven[0]),
        )

    def answers(self, servo_id: int) -> bool:
        """Whether a servo is there. Raises PortError."""
        try:
            self.ping(servo_id)
        except ServoError:
            return False
        return True

    def _refuse_energised(self, servo_id: int) -> None:
        if self.read(servo_id, "torque_enable") != 0:
            raise BusError(f"{self.describe(servo_id)} is energised: release it before its EEPROM is written")

    @contextlib.contextmanager
    def _unlocked(self, servo_id: int, id_after: int) -> Iterator[None]:
        with undisturbed():
            try:
                self._put(servo_id, "lock", 0)
                yield
            finally:
                self._lock_again(servo_id, id_after)

    def _put(self, servo_id: int, name: str, value: int, id_after: int | None = None) -> None:
        """Write until the register reads so. The answer to a write is no proof: a servo with response level 0
        gives none, one whose id changes may give it under either, and a late one looks like the right one.
        """
        where = servo_id if id_after is None else id_after
        for _ in range(WRITES):
            with contextlib.suppress(ServoError):
                self.write(servo_id, name, value)
            if self.read(where, name) == value:
                return
        self._verify(where, name, value)

    def _verify(self, servo_id: int, name: str, value: int) -> None:
        found = self.read(servo_id, name)
        if found != value:
            raise ServoError(
                f"{self.describe(servo_id)} on {self.path} did not keep {name} = {value}, it reads {found}: "
                "try again, and replace the servo if that does not help",
                servo_id=servo_id,
                joint=self.joints.get(servo_id),
            )

    def _lock_again(self, *servo_ids: int) -> None:
        """Lock under whichever id the servo now has; an unlocked EEPROM is how servos lose their settings."""
        try:
            for servo_id in dict.fromkeys(reversed(servo_ids)):
                if self.answers(servo_id):
                    self._put(servo_id, "lock", 1)
                    return
        except PortError as error:
            raise PortError(
                f"{error}. {self.describe(servo_ids[-1])} could not be locked again: its EEPROM stays open "
                "until it loses power or this command is run once more"
            ) from error
        raise self.silent(servo_ids[-1:])

    def _guard(self, address: int, data: bytes) -> None:
        """Everything but what is read-only; single writes to EEPROM outside :meth:`write_eeprom` do not
        persist.
        """
        for where in range(address, address + len(data)):
            register = REGISTER_AT.get(where)
            if register is None or register.area in (Area.READ_ONLY, Area.FACTORY):
                name = "no register" if register is None else f"{register.name}, {register.area.value}"
                raise BusError(f"address {where} is {name}")


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C, and its relatives, wait until the servo is locked again: some milliseconds.

    Their handlers are put off, as a mask would hold the main thread's alone, and Python runs in it what any
    other thread was sent. They always act afterwards, so that nothing goes on which was to end; an error of
    the block, which says what the servos hold, is then the ``__context__`` of the KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    before: dict[signal.Signals, Any] = {}
    try:
        for number in _SIGNALS:
            before[number] = signal.signal(number, lambda number, _: waiting.append(number))
        yield
    finally:
        for number, handler in reversed(before.items()):
            signal.signal(number, handler)
        for waited in dict.fromkeys(waiting):
            signal.raise_signal(waited)
