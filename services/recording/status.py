"""The recorder's status as it is published for the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.recording.session import Session

RATE_TOLERANCE = 0.1
"""Share by which a camera's rate may differ from the configured one before it is worth a word."""


def status(session: Session, cameras: Mapping[str, float], now_s: float) -> dict[str, Any]:
    """The session in JSON.

    Args:
        session: the session.
        cameras: camera name -> configured rate.
        now_s: monotonic time.
    """
    options, episode, keeper = session.options, session.episode, session.keeper
    return {
        "state": session.state,
        "message": session.message,
        "out": str(options.out),
        "task": options.task if episode is None else episode.about.task,
        "episode": keeper.number if episode is None else episode.number,
        "frames": 0 if episode is None else episode.take.length,
        "seconds": 0.0 if episode is None else round(episode.seconds, 2),
        "label": None if episode is None else episode.label,
        "can_label": session.can_label,
        "fps": round(session.rate, 1),
        "fps_wanted": options.fps,
        "waiting": 0 if episode is None else episode.take.waiting,
        "cameras": {name: _camera(session, name, fps) for name, fps in cameras.items()},
        "free_gb": None if session.free_gb is None else round(session.free_gb, 1),
        "last": session.last,
        "kept": session.kept,
        "episodes": options.episodes,
        "committed": keeper.committed,
        "recovered": keeper.recovered,
        "end_to_start_ms": session.end_to_start_ms,
        "next_in_s": None if session.again_s is None else max(0.0, round(session.again_s - now_s, 1)),
        "pickup": options.model_dump(mode="json")["pickup"],
        "corrections": options.corrections,
    }


def _camera(session: Session, name: str, wanted: float) -> dict[str, Any]:
    age_s, fps = session.aligner.age_s(name), session.aligner.fps_of(name)
    off = fps > 0 and abs(fps - wanted) > RATE_TOLERANCE * wanted
    return {
        "age_ms": None if age_s is None else round(max(0.0, 1e3 * age_s), 1),
        "fps": round(fps, 1),
        "repeated": 0 if session.episode is None else session.episode.repeated[name],
        "note": f"{fps:.1f} pictures a second instead of {wanted:g}" if off else None,
    }
