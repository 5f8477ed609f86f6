from __future__ import annotations

from collections.abc import Iterator

import pytest
from served_bus import ServedBus

from robot.calibration_file import Calibration, parse_calibration
from robot.twin.world import twin_calibration


@pytest.fixture
def served() -> Iterator[ServedBus]:
    bus = ServedBus()
    yield bus
    bus.unplug()


@pytest.fixture
def calibration() -> Calibration:
    return parse_calibration(twin_calibration(), "twin_calibration.json")
