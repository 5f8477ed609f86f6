"""The one door to the servos' EEPROM, for set-up and calibration. The running path never imports this."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from robot.bus import REGISTER_AT, FeetechBus
from robot.errors import BusError, PortError, ServoError
from robot.registers import REGISTERS, Area

BAUD_RATES = (1_000_000, 500_000, 250_000, 128_000, 115_200, 76_800, 57_600, 38_400, 19_200)
"""Rates that a servo may have been left at, the likely one first. Feetech's SDK and LeRobot's table disagree
about the last three codes, so all rates that either names are here.
"""

ONE_MEGABAUD = 0
"""Code of 1 000 000 baud in the baud register."""

_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class SetupBus(FeetechBus):
    """A bus that may also write EEPROM, register by register, torque off, unlocked only meanwhile,
    verified.
    """

    def __enter__(self) -> SetupBus:
        return self

    def set_baud(self, baud: int) -> None:
        """Speak at another rate from now on; the servos keep theirs. Raises PortError."""
        self._port.set_baud(baud)

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
        self._verify(id_after, name, value)
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
        with undisturbed():
            self._put(servo_id, "lock", 0)
            with contextlib.suppress(
                ServoError
            ):  # it may answer at the old rate, the new one, or not legibly
                self.write(servo_id, "baud_rate", ONE_MEGABAUD)
            self.set_baud(BAUD_RATES[0])
            if not self.answers(servo_id):
                self.set_baud(baud)
            self._lock_again(servo_id)
        self._verify(servo_id, "baud_rate", ONE_MEGABAUD)
        return True

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
        """Write, and believe a servo that took it without a word: one with response level 0 never answers,
        one whose id changes may answer under either.
        """
        try:
            self.write(servo_id, name, value)
        except ServoError:
            if self.read(servo_id if id_after is None else id_after, name) != value:
                raise

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
    """Ctrl-C, and its relatives, wait until the servo is locked again: some milliseconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
