"""``so101 record --teleop leader`` from start to end, as its benchmark runs it: cameras that play files."""

from __future__ import annotations

import pytest

from services.bench import record
from services.bench.record import RecordOptions, bench_record

pytestmark = [pytest.mark.live, pytest.mark.slow]


def test_what_a_leader_leads_is_recorded_whole_and_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "lerobot_python", lambda asked: None)
    monkeypatch.setattr(record, "WIDTH_PX", 320)
    monkeypatch.setattr(record, "HEIGHT_PX", 240)
    result = bench_record(RecordOptions(minutes=0.1, episode_s=3.0), None)
    assert (result["episodes"], result["rows"], result["rows_short"]) == (2, 180, 0)
    assert result["frames_lost"] == 0
    assert result["lag_ms"] is not None, "the follower followed"
    assert result["end_to_start_ms"] is not None, "one episode came after the other"
    assert result["peers"] == {}
