"""The row log: what was appended is read again, up to the first record that is not whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robot.errors import DatasetError
from robot.recording import rows
from robot.recording.features import Feature
from robot.recording.rows import RowLayout, RowLog

FEATURES = (
    Feature("action", "float32", (6,)),
    Feature("held", "bool", (1,)),
    Feature("count", "int64", (1,)),
    Feature("timing.time_s", "float64", (1,)),
)
LAYOUT = RowLayout(FEATURES)


def row(frame: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(frame)
    return {
        "action": rng.normal(size=6).astype(np.float32),
        "held": np.array([frame % 3 == 0]),
        "count": np.array([-(2**40) + frame]),
        "timing.time_s": np.array([frame / 30]),
    }


def write(path: Path, frames: int) -> None:
    log = RowLog(path, LAYOUT)
    for frame in range(frames):
        log.append(row(frame))
    log.sync()
    log.close()
    assert log.rows == frames


def check(path: Path, frames: int) -> None:
    columns, found = LAYOUT.read(path)
    assert found == frames
    for feature in FEATURES:
        assert columns[feature.name].dtype == feature.dtype
        wanted = np.array([row(frame)[feature.name] for frame in range(frames)], feature.dtype)
        np.testing.assert_array_equal(columns[feature.name], wanted.reshape(-1, *feature.shape))


def test_records_have_no_gaps() -> None:
    assert LAYOUT.record_bytes == 4 + 24 + 1 + 8 + 8 + 4


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.integers(0, 12), cut=st.integers(0, 100), flip=st.none() | st.integers(0, 2000))
def test_the_log_ends_where_it_was_cut_or_spoiled(
    tmp_path_factory: pytest.TempPathFactory, frames: int, cut: int, flip: int | None
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.bin"
    write(path, frames)
    content = bytearray(path.read_bytes())
    content = content[: max(0, len(content) - cut)]
    whole = len(content) // LAYOUT.record_bytes
    if flip is not None and flip < len(content):
        content[flip] ^= 0x40
        whole = min(whole, flip // LAYOUT.record_bytes)
    path.write_bytes(content)
    check(path, whole)


def test_an_absent_log_has_no_rows(tmp_path: Path) -> None:
    check(tmp_path / "rows.bin", 0)


def test_a_record_at_another_place_is_not_believed(tmp_path: Path) -> None:
    write(tmp_path / "rows.bin", 4)
    content = (tmp_path / "rows.bin").read_bytes()
    size = LAYOUT.record_bytes
    (tmp_path / "rows.bin").write_bytes(content[: 2 * size] + content[3 * size :])
    check(tmp_path / "rows.bin", 2)


def test_a_record_for_which_there_is_no_room_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.bin"
    log = RowLog(path, LAYOUT)
    log.append(row(0))
    room = [10, 0]
    write_some = rows.os.write

    def full(file: int, content: bytes) -> int:
        left = room.pop(0)
        if not left:
            raise OSError(28, "No space left on device")
        return write_some(file, content[:left])

    with monkeypatch.context() as patch:
        patch.setattr(rows.os, "write", full)
        with pytest.raises(DatasetError, match=r"rows\.bin cannot be written.*No space left"):
            log.append(row(1))
    assert path.stat().st_size == LAYOUT.record_bytes
    log.append(row(1))
    log.close()
    log.close()
    check(path, 2)
