"""Emulated servos behind a real pty, for tests of whatever opens a serial port."""

from __future__ import annotations

import select
import threading
import time

import numpy as np

from robot.twin.emulator import BusEmulator
from robot.twin.servo import ServoBank
from robot.twin.wire import PtyWire
from robot.twin.world import World, WorldConfig


class ServedBus:
    """The follower's servos without physics, behind a pty, served by a thread."""

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.bank: ServoBank = World(config).follower
        self.bank.reset_pose(np.zeros(6))
        self.wire = PtyWire(BusEmulator(self.bank))
        self.faults = self.wire.emulator.faults
        self.path = self.wire.path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            due = self.wire.emulator.next_due_s
            wait_s = 0.02 if due is None else max(0.0, due - time.monotonic())
            ready, _, _ = select.select([self.wire], [], [], wait_s)
            if ready:
                self.wire.receive(time.monotonic())
            self.wire.send_due(time.monotonic())

    def unplug(self) -> None:
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join()
            self.wire.unplug()
