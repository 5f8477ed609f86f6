"""A page that needs nothing but a browser: videos and numbers of episodes are in the file itself.

Whatever a dataset says (tasks, names, findings) is foreign: it stands in a JSON block in which no ``<`` is
left, and the script puts it on the page as text.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.recording.features import IMAGE_PREFIX
from robot.recording.reader import Dataset
from services.view.chunks import Predictions
from services.view.episode import BoolArray, Episode
from services.view.facts import facts
from services.view.footage import Footage, footage

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Picture:
    """One camera's part of the page: its footage, or why there is none."""

    camera: str
    footage: Footage | None
    problem: str | None


@dataclass(frozen=True)
class Shown:
    """One episode as it goes onto the page."""

    episode: Episode
    pictures: tuple[Picture, ...]
    predictions: Predictions | None
    facts: tuple[tuple[str, str], ...]

    @property
    def size_bytes(self) -> int:
        """About what it adds to the page."""
        videos = sum(len(picture.footage.mp4) for picture in self.pictures if picture.footage is not None)
        chunks = 0 if self.predictions is None else self.predictions.chunks.nbytes
        return (videos + chunks + 2 * self.episode.action.nbytes) * 4 // 3


def show(dataset: Dataset, episode: Episode, predictions: Predictions | None = None) -> Shown:
    """Gather what the page shows of an episode. A video that cannot be read is named on it instead."""
    pictures = tuple(_picture(dataset, episode, camera) for camera in dataset.cameras)
    lines = facts(dataset, episode)
    for picture in pictures:
        if picture.footage is not None and picture.footage.anew:
            lines.append((picture.camera, "encoded anew for this page"))
    if predictions is not None:
        lines.append(("policy", f"{predictions.policy}, a chunk every {_frames(predictions.every)}"))
        if predictions.resized:
            lines.append(("policy's pictures", f"{', '.join(predictions.resized)} brought to its size"))
    return Shown(episode, pictures, predictions, tuple(lines))


def render(title: str, shown: Sequence[Shown], findings: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page.

    Args:
        title: name of the dataset.
        shown: its episodes, at least one.
        findings: what ``so101 dataset check`` found: ``code``, ``episode`` (``None``: the whole dataset),
            ``message``, ``remedy`` and ``severity`` of each.
    """
    first = shown[0].episode
    data = {
        "fps": first.fps,
        "joints": [{"name": joint.name, "unit": joint.unit} for joint in first.joints],
        "episodes": [_episode(each) for each in shown],
        "findings": [dict(finding) for finding in findings],
    }
    videos = [
        f'<script type="text/plain" id="{_video_id(each.episode, index)}">'
        f"{base64.b64encode(picture.footage.mp4).decode()}</script>"
        for each in shown
        for index, picture in enumerate(each.pictures)
        if picture.footage is not None
    ]
    script = [(_HERE / name).read_text(encoding="utf-8") for name in ("plot.js", "page.js")]
    parts = {
        "title": escape(title),
        "style": (_HERE / "page.css").read_text(encoding="utf-8"),
        "data": _embedded(data),
        "videos": "\n".join(videos),
        "script": "\n".join(script),
    }
    template = (_HERE / "page.html").read_text(encoding="utf-8")
    # One pass over the template: what is filled in is not looked at again.
    return re.sub(r"<!--(\w+)-->", lambda found: parts[found[1]], template)


def _picture(dataset: Dataset, episode: Episode, camera: str) -> Picture:
    key = f"{IMAGE_PREFIX}{camera}"
    span = dataset.episode(episode.number).videos.get(key)
    if span is None:
        return Picture(camera, None, "the table of episodes names no video")
    path = span.slot.path(dataset.root, str(dataset.info["video_path"]), key)
    try:
        found = footage(path, start_s=span.from_s, count=episode.frames, fps=episode.fps)
    except DatasetError as error:
        return Picture(camera, None, str(error))
    return Picture(camera, found, None)


def _episode(shown: Shown) -> dict[str, Any]:
    episode, predictions = shown.episode, shown.predictions
    policy = None
    if predictions is not None:
        policy = {
            "every": predictions.every,
            "steps": predictions.chunks.shape[1],
            "chunks": _floats(predictions.chunks),
            "error": _floats(predictions.error),
        }
    return {
        "number": episode.number,
        "frames": episode.frames,
        "task": episode.task,
        "label": episode.label,
        "facts": shown.facts,
        "state": _floats(episode.state),
        "action": _floats(episode.action),
        "person": _runs(episode.intervention),
        "unlearned": _runs(~episode.learned),
        "timing": {
            "state_age_s": None if episode.state_age_s is None else _floats(episode.state_age_s),
            "cameras": {
                name: {
                    "age_s": _floats(camera.age_s),
                    "repeated": np.flatnonzero(camera.repeated).tolist(),
                }
                for name, camera in episode.cameras.items()
            },
        },
        "cameras": [
            {
                "name": picture.camera,
                "problem": picture.problem,
                "video": None if picture.footage is None else _video_id(episode, index),
                "codec": None if picture.footage is None else picture.footage.codec,
            }
            for index, picture in enumerate(shown.pictures)
        ],
        "policy": policy,
    }


def _video_id(episode: Episode, index: int) -> str:
    return f"video-{episode.number}-{index}"


def _floats(values: NDArray[np.float32]) -> str:
    """Little-endian float32, base64; JSON has no NaN and is three times as long."""
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def _runs(frames: BoolArray) -> list[tuple[int, int]]:
    """First frame and one past the last of each run that is set."""
    edges = np.flatnonzero(np.diff(frames.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _embedded(data: Any) -> str:
    """JSON that cannot end the element it stands in, nor open a comment in it."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def _frames(count: int) -> str:
    return "frame" if count == 1 else f"{count} frames"
