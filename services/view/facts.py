"""An episode in lines of text, as they stand beside its pictures."""

from __future__ import annotations

import numpy as np

from robot.recording import meta as layout
from robot.recording.reader import Dataset
from services.view.episode import BoolArray, Episode

_UNITS = {
    None: "not said by the dataset (LeRobot before 0.4.4 recorded -100..100, later versions degrees)",
    "degrees": "degrees, gripper 0..100 %",
    "m100_100": "-100..100 of the swept range, gripper 0..100 %",
}


def facts(dataset: Dataset, episode: Episode) -> list[tuple[str, str]]:
    """Name and text of each line, in the order in which they are shown."""
    lines = [
        ("length", f"{episode.frames} frames, {episode.frames / episode.fps:.1f} s at {episode.fps:g} Hz"),
        ("units", _UNITS[episode.units]),
    ]
    if episode.pickup_xy_m is not None:
        x_m, y_m = episode.pickup_xy_m[0]
        moved = " at first" if np.ptp(episode.pickup_xy_m, axis=0).max() > 0 else ""
        lines.append(("pickup", f"x {x_m:.3f} m, y {y_m:.3f} m{moved}"))
    if episode.intervention.any():
        lines.append(("a person drove", _share(episode.intervention)))
    if not episode.learned.all():
        lines.append(("not learned", _share(~episode.learned)))
    lines += _timing(episode)
    extra = dataset.info.get(layout.EXTRA_KEY, {})
    told = {"robot": dataset.info.get("robot_type"), **(extra if isinstance(extra, dict) else {})}
    lines += [
        (name.replace("_", " "), text if len(text := str(value)) <= 64 else f"{text[:64]}…")
        for name, value in told.items()
        if name != "units" and isinstance(value, str | int | float)
    ]
    return lines


def _share(frames: BoolArray) -> str:
    return f"{frames.sum()} frames, {100 * frames.mean():.0f} %"


def _timing(episode: Episode) -> list[tuple[str, str]]:
    lines = []
    if episode.row_gap_s is not None and episode.frames > 1:
        gaps_ms = 1e3 * episode.row_gap_s[1:]
        lines.append(("rows", f"{np.median(gaps_ms):.1f} ms apart, at most {gaps_ms.max():.1f}"))
    if episode.state_age_s is not None:
        lines.append(("age of states", _ages(episode.state_age_s)))
    for name, camera in episode.cameras.items():
        repeated = f", {camera.repeated.sum()} repeated" if camera.repeated.any() else ""
        lines.append((f"age of {name}", _ages(camera.age_s) + repeated))
    return lines


def _ages(age_s: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
    return f"{1e3 * np.median(age_s):.0f} ms, at most {1e3 * age_s.max():.0f}"
