from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inference.source import ChunkMessage, PolicySource, pack_chunk, pack_pause, unpack_chunk
from robot.errors import CommandError, ConfigError
from robot.mailbox import MailboxClient
from robot.seams import ArmState
from tests.inference.toy import driven_arm

STATE = ArmState(0.0, *(np.zeros(6) for _ in range(6)), np.zeros(6, np.uint8))  # type: ignore[arg-type]


@given(
    st.integers(0, 2**64 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(0.1, 1000),
    hnp.arrays(np.float32, st.tuples(st.integers(1, 100), st.just(6)), elements=st.floats(width=32)),
)
def test_a_datagram_carries_a_chunk_unchanged(run: int, tick: int, fps: float, actions: np.ndarray) -> None:
    back = unpack_chunk(pack_chunk(ChunkMessage(run, tick, fps, actions)))
    assert (back.run_id, back.tick, back.fps) == (run, tick, fps)
    np.testing.assert_array_equal(back.actions, actions)


@given(st.binary(max_size=400))
def test_noise_is_refused(payload: bytes) -> None:
    with pytest.raises(CommandError):
        unpack_chunk(payload)


@given(st.integers(0, 39), st.integers(1, 255))
def test_a_damaged_header_never_gives_another_shape(position: int, change: int) -> None:
    payload = bytearray(pack_chunk(ChunkMessage(1, 2, 30.0, np.ones((5, 6), np.float32))))
    payload[position] ^= change
    try:
        message = unpack_chunk(bytes(payload))
    except CommandError:
        return
    assert message.actions.shape == (5, 6)


def source_at(path: Path, **arguments: object) -> PolicySource:
    return PolicySource(path, {"run_id": 7, "mode": "ensemble", "m": 0.0, **arguments}, driven_arm())


def chunk(tick: int, value: float, run_id: int = 7, steps: int = 4) -> bytes:
    return pack_chunk(ChunkMessage(run_id, tick, 30.0, np.full((steps, 6), value, np.float32)))


def test_chunks_become_targets(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    source, client = source_at(path), MailboxClient(path)
    assert source.target(100, STATE) is None
    assert source.chunk_age_ticks == -1
    client.send(chunk(100, 10.0))
    client.send(chunk(101, 20.0))
    np.testing.assert_allclose(source.target(102, STATE), 15.0)
    assert source.chunk_age_ticks == 1
    # 4 steps at 30 per second are 7 ticks at 60: 100..106 and 101..107
    np.testing.assert_allclose(source.target(107, STATE), 20.0)
    assert source.target(108, STATE) is None
    assert source.counters.taken == 2
    source.close()
    assert not path.exists()


def test_a_pause_forgets_what_came_before_and_ends_with_the_next_chunk(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    source, client = source_at(path), MailboxClient(path)
    client.send(chunk(100, 10.0, steps=40))
    np.testing.assert_allclose(source.target(101, STATE), 10.0)
    client.send(pack_pause(8, 101))  # of another run
    np.testing.assert_allclose(source.target(102, STATE), 10.0)
    client.send(pack_pause(7, 102))
    assert source.target(103, STATE) is None
    assert source.chunk_age_ticks == -1
    client.send(chunk(104, 30.0))
    np.testing.assert_allclose(source.target(105, STATE), 30.0)
    source.close()


def test_what_is_not_for_this_run_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    source, client = source_at(path), MailboxClient(path)
    client.send(chunk(100, 10.0, run_id=6))
    client.send(b"hello")
    client.send(chunk(105, 10.0))  # from the future
    client.send(chunk(50, 10.0))  # over
    broken = np.full((4, 6), 1.0, np.float32)
    broken[2, 2] = np.nan
    client.send(pack_chunk(ChunkMessage(7, 100, 30.0, broken)))
    assert source.target(100, STATE) is None
    assert (source.counters.taken, source.counters.dropped, source.counters.foreign) == (0, 3, 2)
    source.close()


def test_a_flood_costs_a_bounded_time_per_tick(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    source, client = source_at(path), MailboxClient(path)
    sent = 0
    try:
        for _ in range(10_000):
            client.send(chunk(0, 1.0))
            sent += 1
    except CommandError:
        pass  # the queue is full
    source.target(0, STATE)
    assert 0 < source.counters.taken <= 8 < sent
    source.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "run_id"),
        ({"run_id": "7"}, "run_id"),
        ({"run_id": 7, "mode": "fast"}, "mode"),
        ({"run_id": 7, "m": float("nan")}, "m:"),
        ({"run_id": 7, "actions": 3}, "actions"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PolicySource(tmp_path / "c.sock", arguments, driven_arm())
    assert not (tmp_path / "c.sock").exists()
