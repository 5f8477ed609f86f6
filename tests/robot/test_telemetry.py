"""Telemetry between real processes."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest

from robot.errors import SegmentError
from robot.frame_ring import FrameRing
from robot.seqlock import segment_path
from robot.telemetry import RING_SLOTS, TELEMETRY, TelemetryRing, empty_record

WRITER = """
import sys
from robot.telemetry import TelemetryRing, empty_record
ring, record, tick = TelemetryRing.create(sys.argv[1]), empty_record(), 0
print("ready", flush=True)
while True:
    tick += 1
    record["tick"] = tick
    record["position"] = tick
    record["goal"] = tick
    ring.append(record)
"""


@pytest.fixture
def name() -> Iterator[str]:
    name = f"so101-test-{uuid.uuid4().hex}"
    yield name
    segment_path(name).unlink(missing_ok=True)


@pytest.fixture
def writer(name: str) -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-c", WRITER, name], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield name
        process.kill()


def test_telemetry_is_whole_and_ordered_under_a_fast_writer(writer: str) -> None:
    ring = TelemetryRing.attach(writer)
    tick, total = 0, 0
    end_s = time.monotonic() + 1.0
    while time.monotonic() < end_s:
        records = ring.since(tick)
        ticks = [int(record["tick"]) for record in records]
        assert ticks == list(range(ticks[0], ticks[0] + len(ticks))) if ticks else True
        assert all((record["position"] == record["tick"]).all() for record in records)
        assert all((record["goal"] == record["tick"]).all() for record in records)
        tick = ticks[-1] if ticks else tick
        total += len(ticks)
    assert total > 100
    ring.close()


def test_since_goes_back_as_far_as_the_ring(name: str) -> None:
    writer, record = TelemetryRing.create(name), empty_record()
    reader = TelemetryRing.attach(name)
    assert reader.newest() is None
    assert reader.since(0) == []
    count = RING_SLOTS + 100
    for tick in range(1, count + 1):
        record["tick"] = 2 * tick  # every other tick was missed
        writer.append(record)
    newest = reader.newest()
    assert newest is not None
    assert newest["tick"] == 2 * count
    assert len(reader.since(0)) == RING_SLOTS
    assert [int(r["tick"]) for r in reader.since(2 * count - 5)] == [2 * count - 4, 2 * count - 2, 2 * count]
    assert reader.since(2 * count) == []
    writer.close()
    reader.close()


def test_ring_lasts_five_seconds_at_the_fastest_usual_rate() -> None:
    assert RING_SLOTS / 200 > 5.0
    assert TELEMETRY.itemsize < 1024


def test_other_versions_of_the_record_are_refused(name: str) -> None:
    frames = FrameRing.create(name, 4, 6)
    with pytest.raises(SegmentError, match="another version"):
        TelemetryRing.attach(name)
    frames.close()
