"""Which emulated servos are on the bus: who has power, who hears, at what speed, under what id."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robot.registers import BAUD_BY_CODE, REGISTERS
from robot.twin.register_files import RegisterFiles

_ID = REGISTERS["id"].address
_BAUD = REGISTERS["baud_rate"].address
_SPEED_OF_CODE = np.array(BAUD_BY_CODE + (0,) * (256 - len(BAUD_BY_CODE)))
"""Bits per second by register value; a servo with another code hears nothing at all."""


class Roster:
    """Who is on the bus, from registers, cables and servos that have gone deaf.

    Answers are kept until :meth:`recount`: the emulator asks for each packet.

    Attributes:
        powered: whose cables are connected, by slot.
        deaf: who neither hears nor answers until its power is cycled; what it does it goes on doing.
    """

    def __init__(self, files: RegisterFiles) -> None:
        self._files = files
        self.powered = np.ones(files.n, dtype=bool)
        self.deaf = np.zeros(files.n, dtype=bool)
        self._hearing: dict[int | None, dict[int, int]] = {}
        self._slots: dict[int, list[int]] = {}

    def recount(self) -> None:
        """Somebody came, went, or has another id or speed."""
        self._hearing.clear()
        self._slots.clear()

    def hearing(self, baud: int | None = None) -> Mapping[int, int]:
        """Slot -> id of those who hear, in the order of the joints, at this speed or at any."""
        found = self._hearing.get(baud)
        if found is None:
            ram, hears = self._files.ram, self.powered & ~self.deaf
            if baud is not None:
                hears &= _SPEED_OF_CODE[ram[:, _BAUD]] == baud
            found = self._hearing[baud] = {
                slot: int(ram[slot, _ID]) for slot in np.flatnonzero(hears).tolist()
            }
        return found

    def slots(self, servo_id: int) -> list[int]:
        """Indices of the connected servos with this id, deaf ones too. Raises KeyError if none has it."""
        if servo_id not in self._slots:
            at = np.flatnonzero(self.powered & (self._files.ram[:, _ID] == servo_id))
            self._slots[servo_id] = at.tolist()
        found = self._slots[servo_id]
        if not found:
            raise KeyError(servo_id)
        return found
