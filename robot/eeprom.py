"""The one door to the servos' EEPROM, for set-up and calibration. The running path never imports this."""

from __future__ import annotations

from robot.bus import REGISTER_AT, FeetechBus
from robot.errors import BusError, ServoError
from robot.registers import REGISTERS, Area


class SetupBus(FeetechBus):
    """A bus that may also write EEPROM, register by register, torque off, unlocked only meanwhile,
    verified.
    """

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
            ValueError: the value does not fit the register.
        """
        register = REGISTERS[name]
        if register.area is not Area.EEPROM:
            raise BusError(f"{name} is {register.area.value}, not EEPROM")
        if name == "baud_rate":
            raise BusError("the servos stay at 1000000 baud: everything that speaks to an SO-101 expects it")
        if self.read(servo_id, name) == value:
            return False
        if self.read(servo_id, "torque_enable") != 0:
            raise BusError(f"{self.describe(servo_id)} is energised: release it before its EEPROM is written")
        id_after = value if name == "id" else servo_id
        if id_after != servo_id and self._answers(id_after):
            raise BusError(f"id {id_after} is taken on {self.path}: connect one servo at a time")
        self.write(servo_id, "lock", 0)
        try:
            self.write(servo_id, name, value)
        finally:
            self._lock_again(servo_id, id_after)
        found = self.read(id_after, name)
        if found != value:
            raise ServoError(
                f"{self.describe(id_after)} on {self.path} did not keep {name} = {value}, it reads {found}: "
                "try again, and replace the servo if that does not help",
                servo_id=id_after,
                joint=self.joints.get(id_after),
            )
        return True

    def _answers(self, servo_id: int) -> bool:
        try:
            self.ping(servo_id)
        except ServoError:
            return False
        return True

    def _lock_again(self, *servo_ids: int) -> None:
        """Lock under whichever id the servo now has; an unlocked EEPROM is how servos lose their settings."""
        for servo_id in dict.fromkeys(reversed(servo_ids)):
            if self._answers(servo_id):
                self.write(servo_id, "lock", 1)
                return
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
