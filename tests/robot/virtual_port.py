"""A serial port on emulated servos in virtual time: waits are computed, not measured."""

from __future__ import annotations

import math
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest

from robot.twin.emulator import BusEmulator
from robot.twin.servo import ServoBank
from robot.twin.world import World


class VirtualPort:
    """Takes the place of :class:`robot.port.SerialPort`; time passes only where somebody waits.

    Attributes:
        late_s: how much later than a wire would the host gets what servos have said: it says how things were.
        lose: the next answers that are lost.
    """

    def __init__(self) -> None:
        self.bank: ServoBank = World().follower
        self.bank.reset_pose(np.zeros(6))
        self.emulator = BusEmulator(self.bank)
        self.faults = self.emulator.faults
        self.now_s = 1000.0
        self.byte_s = 1e-5
        self.path = "/dev/virtual"
        self.late_s = 0.0
        self.requests: list[bytes] = []
        self._on_the_way: deque[tuple[float, bytes]] = deque()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let buses that are opened from now on use this port and its time."""
        clock = SimpleNamespace(monotonic=lambda: self.now_s)
        monkeypatch.setattr("robot.bus.SerialPort", lambda path, baud: self)
        monkeypatch.setattr("robot.bus.time", clock)
        monkeypatch.setattr("robot.servo_arm.time", clock)

    def write(self, data: bytes) -> None:
        self.requests.append(data)
        self.emulator.feed(data, self.now_s)

    def read_until(self, deadline_s: float) -> bytes:
        while True:
            self._say()
            arrives_s = self._on_the_way[0][0] if self._on_the_way else math.inf
            if arrives_s <= self.now_s:
                return self._on_the_way.popleft()[1]
            due_s = self.emulator.next_due_s
            next_s = min(arrives_s, math.inf if due_s is None else due_s)
            if next_s > deadline_s:
                self.now_s = max(self.now_s, deadline_s)
                return b""
            self.now_s = max(self.now_s, next_s)

    def discard_input(self) -> None:
        self._say()
        while self._on_the_way and self._on_the_way[0][0] <= self.now_s:
            self._on_the_way.popleft()

    def sleep_until(self, time_s: float) -> None:
        """Time in which nobody reads, but servos go on speaking."""
        while (due_s := self.emulator.next_due_s) is not None and due_s <= time_s:
            self.now_s = max(self.now_s, due_s)
            self._say()
        self.now_s = max(self.now_s, time_s)

    def close(self) -> None:
        """Nothing to give back."""

    def _say(self) -> None:
        """Servos say what is due, as things are now; the host hears of it later."""
        said = self.emulator.due(self.now_s)
        if said:
            self._on_the_way.append((self.now_s + self.late_s, said))
