"""The register files of emulated servos: what RAM holds, what EEPROM keeps, and who may write which.

No firmware behaviour is in here: a file neither acts on what is written nor knows what a joint does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot.errors import ConfigError
from robot.registers import FILE_SIZE, REGISTERS, STATE_BLOCK_ADDRESS, Area, decode_signed, encode_signed

FACTORY = {"p_gain": 32, "return_delay": 250}
"""Where a servo fresh from the factory differs from the register table, which is a configured follower's."""

_FIRST_MEASURED = STATE_BLOCK_ADDRESS
_END_MEASURED = REGISTERS["present_current"].end


class RegisterFiles:
    """RAM and EEPROM of ``n`` servos, by slot (the order in which they were given, whatever their ids).

    Args:
        eeprom: one mapping of register name to value for each servo, over the table's defaults.
    """

    def __init__(self, eeprom: Sequence[dict[str, int]]) -> None:
        self.n = len(eeprom)
        self.ram = np.zeros((self.n, FILE_SIZE), dtype=np.uint8)
        """What reads see."""
        self._eeprom = np.zeros((self.n, FILE_SIZE), dtype=np.uint8)
        self.registered: dict[int, tuple[int, bytes]] = {}
        """Slot -> address and data of a write that waits for its action."""
        for slot, values in enumerate(eeprom):
            for name, register in REGISTERS.items():
                self._store(self._eeprom, slot, name, values.get(name, register.default))
            self.boot(slot)

    def get(self, slot: int, name: str) -> int:
        """Value of one register, with its sign."""
        register = REGISTERS[name]
        word = int.from_bytes(self.ram[slot, register.address : register.end].tobytes(), "little")
        return word if register.sign_bit is None else decode_signed(word, register.sign_bit)

    def put(self, slot: int, name: str, word: int, *, keep: bool = False) -> None:
        """Set one register to an encoded word, in EEPROM too where it is to be kept."""
        self._store(self.ram, slot, name, word)
        if keep:
            self._store(self._eeprom, slot, name, word)

    def write(self, slot: int, address: int, data: bytes) -> set[str]:
        """Write as the bus does: read-only bytes are skipped, EEPROM is kept while ``lock`` is 0.

        Returns:
            Names of the registers that the bytes reached, read-only ones among them.
        """
        unlocked = self.get(slot, "lock") == 0
        touched = [r for r in REGISTERS.values() if r.address < address + len(data) and r.end > address]
        for register in touched:
            if register.area in (Area.READ_ONLY, Area.FACTORY):
                continue
            low, high = max(register.address, address), min(register.end, address + len(data))
            chunk = np.frombuffer(data[low - address : high - address], dtype=np.uint8)
            self.ram[slot, low:high] = chunk
            if register.area is Area.EEPROM and unlocked:
                self._eeprom[slot, low:high] = chunk
        return {register.name for register in touched}

    def boot(self, slot: int) -> None:
        """RAM falls back to what EEPROM keeps, nothing waits; the torque limit is the greatest torque."""
        self.registered.pop(slot, None)
        self.ram[slot] = self._eeprom[slot]
        self.put(slot, "torque_limit", self.get(slot, "max_torque"))

    def reset(self, slot: int) -> None:
        """EEPROM as it left the factory, the id kept. Takes effect with the next boot."""
        for name, register in REGISTERS.items():
            if name != "id":
                self._store(self._eeprom, slot, name, FACTORY.get(name, register.default))

    def force(self, slot: int, name: str, value: int) -> None:
        """Set any register from outside, whatever the bus may: EEPROM and identity are kept.

        Raises:
            ConfigError: there is no such register, it is measured anew at every reading, or cannot hold the
                value.
        """
        register = REGISTERS.get(name)
        if register is None:
            raise ConfigError(f"there is no register {name!r}; there are {', '.join(REGISTERS)}")
        if _FIRST_MEASURED <= register.address < _END_MEASURED:
            raise ConfigError(f"{name} is measured: use the kinds heat, glitch, supply or encoder")
        try:
            word = value if register.sign_bit is None else encode_signed(value, register.sign_bit)
            self.put(slot, name, word, keep=register.area is not Area.RAM)
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"{name} has {register.size} byte(s) and cannot hold {value}") from error

    @staticmethod
    def _store(
        files: np.ndarray[tuple[int, int], np.dtype[np.uint8]], slot: int, name: str, word: int
    ) -> None:
        register = REGISTERS[name]
        data = word.to_bytes(register.size, "little")
        files[slot, register.address : register.end] = np.frombuffer(data, np.uint8)
