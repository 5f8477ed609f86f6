"""Shared memory against real second processes: torn writes, killed writers, dying readers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest

from robot.errors import SegmentError
from robot.seqlock import SharedBlock, SlotRing, segment_path

SIZE = 4096

WRITER = """
import sys
from robot.seqlock import SharedBlock
block = SharedBlock.create(sys.argv[1], 4096)
count = block.sequence
print("ready", flush=True)
while True:  # each payload is one byte value all over, in a length of its own
    count += 1
    block.write(bytes([count % 251]) * (2048 + count % 2048))
"""


@pytest.fixture
def name() -> Iterator[str]:
    name = f"so101-test-{uuid.uuid4().hex}"
    yield name
    segment_path(name).unlink(missing_ok=True)


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_reads_back_what_was_written(name: str) -> None:
    with SharedBlock.create(name, 100) as writer, SharedBlock.attach(name) as reader:
        assert reader.read() is None
        for value in (b"", b"one", bytes(range(100))):
            writer.write(value)
            assert reader.read() == value


def test_reader_never_sees_a_torn_value_from_a_writer_at_full_speed(name: str) -> None:
    process = start(WRITER, name)
    try:
        with SharedBlock.attach(name) as reader:
            seen: set[int] = set()
            end_s = time.monotonic() + 1.5
            while time.monotonic() < end_s:
                value = reader.read()
                assert value is None or (value == value[:1] * len(value) and len(value) >= 2048)
                seen.add(reader.sequence)
            assert len(seen) > 100
    finally:
        kill(process)


def test_killed_writer_leaves_a_readable_value_and_the_next_one_adopts_it(name: str) -> None:
    reader = None
    for _ in range(6):
        process = start(WRITER, name)
        reader = reader or SharedBlock.attach(name)
        before = reader.sequence
        time.sleep(0.02)
        kill(process)  # anywhere in a write
        value = reader.read()
        assert value is not None
        assert value == value[:1] * len(value)
        assert reader.sequence > before
        with SharedBlock.create(name, SIZE) as successor:
            assert successor.sequence >= before
            adopted = successor.read()  # the same, or a newer one that was whole and not yet told
            assert adopted is not None
            assert adopted == adopted[:1] * len(adopted) == reader.read()
            successor.write(b"next")
            assert reader.read() == b"next"  # without attaching again
        assert not reader.replaced()
    assert reader is not None
    reader.close()


@pytest.mark.parametrize("damage", ["head", "sequence", "payload"])
def test_adopting_repairs_whatever_a_dying_writer_left(name: str, damage: str) -> None:
    with SharedBlock.create(name, SIZE) as writer:
        for value in (b"a" * 50, b"b" * 50, b"c" * 50):
            writer.write(value)
    stride = 4 * 8 + SIZE
    slot = 8 * 8 + 3 * stride
    with segment_path(name).open("r+b") as file:
        offset, data = {
            "head": (3 * 8, (2).to_bytes(8, "little")),  # died between slot and head
            "sequence": (slot, bytes(8)),  # died while writing the newest slot
            "payload": (slot + 32, b"x"),  # memory that does not match its sum
        }[damage]
        file.seek(offset)
        file.write(data)
    with SharedBlock.create(name, SIZE) as writer, SharedBlock.attach(name) as reader:
        assert reader.read() == (b"c" if damage == "head" else b"b") * 50
        writer.write(b"new")
        assert reader.read() == b"new"


def test_damaged_memory_is_an_error_and_not_an_endless_loop(name: str) -> None:
    with SharedBlock.create(name, 8) as writer, SharedBlock.attach(name) as reader:
        writer.write(b"12345678")
        with segment_path(name).open("r+b") as file:
            file.seek(8 * 8 + (4 * 8 + 8) + 32)
            file.write(b"9")
        with pytest.raises(SegmentError, match="damaged"):
            reader.read()


def test_second_live_writer_is_refused(name: str) -> None:
    process = start(WRITER, name)
    try:
        with pytest.raises(SegmentError, match="already has a writer"):
            SharedBlock.create(name, SIZE)
        os.kill(process.pid, signal.SIGSTOP)  # stopped is not dead
        with pytest.raises(SegmentError, match="already has a writer"):
            SharedBlock.create(name, SIZE)
    finally:
        kill(process)
    SharedBlock.create(name, SIZE).close()


def test_dying_reader_does_not_unlink_the_segment(name: str) -> None:
    with SharedBlock.create(name, 64) as writer:
        writer.write(b"still here")
        script = (
            "import sys; from robot.seqlock import SharedBlock; "
            "assert SharedBlock.attach(sys.argv[1]).read() == b'still here'"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, name], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        with SharedBlock.attach(name) as reader:
            assert reader.read() == b"still here"


def test_other_size_replaces_and_readers_can_tell(name: str) -> None:
    with SharedBlock.create(name, 64) as writer:
        writer.write(b"old")
        reader = SharedBlock.attach(name)
    with SharedBlock.create(name, 128):
        assert reader.replaced()
        with SharedBlock.attach(name) as fresh:
            assert fresh.read() is None
    reader.close()


def test_refuses_what_is_absent_foreign_or_too_large(name: str) -> None:
    with pytest.raises(SegmentError, match="start the process"):
        SharedBlock.attach(name)
    segment_path(name).write_bytes(b"something else entirely" * 10)
    with pytest.raises(SegmentError, match="not a segment"):
        SharedBlock.attach(name)
    with SharedBlock.create(name, 8) as writer, pytest.raises(SegmentError, match="9 bytes do not fit"):
        writer.write(b"123456789")


def test_no_room_is_an_error_when_the_segment_is_made(name: str) -> None:
    with pytest.raises(SegmentError, match="no room"):
        SharedBlock.create(name, 1 << 50)
    assert list(segment_path(name).parent.glob(f"{name}*")) == []


def test_ring_keeps_the_last_slots_and_no_more(name: str) -> None:
    writer = SlotRing.create(name, slots=3, slot_size=8)
    reader = SlotRing.attach(name)
    for count in range(1, 6):
        assert writer.write(b"n", str(count).encode()) == count
    assert [reader.read(sequence) for sequence in range(2, 7)] == [None, b"n3", b"n4", b"n5", None]
    writer.unlink()
    assert reader.replaced()
    for ring in (writer, reader):
        ring.close()
        ring.close()
