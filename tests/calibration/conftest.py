from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from robot.eeprom import SetupBus

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "robot"))
from served_bus import ServedBus


@pytest.fixture
def served() -> Iterator[ServedBus]:
    bus = ServedBus()
    yield bus
    bus.unplug()


@pytest.fixture
def bus(served: ServedBus) -> Iterator[SetupBus]:
    with SetupBus(served.path, margin_s=0.05) as bus:
        yield bus
