"""Whether pictures are of the same moment as the joints beside them.

What a camera sees of the arm changes as fast as joints move. So the change from picture to picture is
compared with the speed of the joints, for each shift of the pictures against the rows: where the two are
most alike is by how much the pictures are late. Real cameras are some 0.1 s late, the twin's one or two
frames.

A camera that sees the arm from outside shows each joint's speed by a factor of its own, found from all
episodes together. A wrist camera sees much or little change at the same speed, as it is near or far from
things. For it only the rise and fall within a second is compared, on a logarithmic scale, where such
factors drop out.

A claim needs evidence: that one episode's pictures fit far better at another shift than that of the
others, or than any that is possible; of all of a camera's, that its episodes agree on one which fits better
than any that is possible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot.recording.check.findings import DELETE, Report
from robot.recording.check.videos import View
from robot.seams import FloatArray

WINDOW_S = 1.0
"""Shifts that are tried, either way."""
EARLY_S = 0.1
"""Pictures may seem so much early: three frames, for joints that were read late and the estimate's error."""
LATE_S = 0.3
"""Cameras are up to 0.13 s late, and 0.2 s is what the policy worker bears; three frames for the estimate."""
APART_S = 0.12
"""By how much one episode must differ from the others."""
OUTSIDE = 0.8
"""Correlation with the speeds of the joints from which a camera sees the arm from outside: the twin's
overhead camera has 0.98, its wrist camera 0.5."""
FAIR = 0.45
"""Likeness of one episode at its best shift from which it has a voice: a wrist camera has 0.4 to 0.7."""
EVIDENCE = 0.4
"""By how much more alike, on Fisher's scale (atanh of the correlation), one shift must be than others. On the
twin's unshifted wrist cameras chance gives up to 0.3, a shift of 0.3 s 0.4 and more, from outside 1.0 and
more."""
EVIDENCE_TOGETHER = 0.1
"""The same of a camera, as the median of the episodes that agree: 0.2 and more on the twin's shifted wrist
cameras, up to 0.04 where all that fits is that motion repeats itself."""
LEAST_VOICES = 3
AGREE_S = 0.07
AGREE_SHARE = 0.75
LEAST_FRAMES = 40


@dataclass(frozen=True)
class Curve:
    """How alike pictures and joints of one episode are, at each shift in frames; positive is late."""

    episode: int
    shifts: FloatArray
    scores: FloatArray

    @property
    def best(self) -> float:
        """The shift at which they are most alike."""
        return float(self.shifts[self.scores.argmax()])

    @property
    def peak(self) -> float:
        """How alike they are there."""
        return float(self.scores.max())

    def evidence(self, low: float, high: float) -> float:
        """By how much more alike they are at the best shift than at any from ``low`` to ``high``."""
        inside = (self.shifts >= low) & (self.shifts <= high)
        if not inside.any():
            return 0.0
        scores = np.clip([float(self.scores[inside].max()), self.peak], 0.0, 0.9999)
        return float(np.diff(np.arctanh(scores))[0])


def check_sync(
    views: Sequence[View], states: Mapping[int, FloatArray], fps: float, report: Report
) -> dict[tuple[str, int], int]:
    """Look at all cameras; ``states`` are by episode, shape (frames, 6).

    Returns:
        By how many frames pictures are late, by camera and episode, where they are said to be out of step.
    """
    late: dict[tuple[str, int], int] = {}
    for camera in sorted({view.camera for view in views}):
        mine = [v for v in views if v.camera == camera and v.episode.index in states]
        mine = [v for v in mine if len(v.change) >= LEAST_FRAMES]
        if mine:
            changes, joints = [v.change for v in mine], [states[v.episode.index] for v in mine]
            found = curves([v.episode.index for v in mine], changes, joints, fps)
            late |= {(camera, c.episode): round(c.best) for c in _judge(camera, found, fps, report)}
    return late


def curves(
    episodes: Sequence[int], changes: Sequence[FloatArray], states: Sequence[FloatArray], fps: float
) -> list[Curve]:
    """Likeness at each shift.

    Args:
        episodes: their numbers.
        changes: change from picture to picture of each, shape (frames - 1,).
        states: joints of each, shape (frames, 6).
        fps: frames a second.
    """
    speeds = [_speeds(state) for state in states]
    widest = [min(round(WINDOW_S * fps), len(change) // 4) for change in changes]
    weights, score = _weights(changes, speeds, min(widest))
    found = []
    for episode, change, speed, most in zip(episodes, changes, speeds, widest, strict=True):
        seen, moved = change, speed @ weights
        if score < OUTSIDE:
            seen, moved = (_rise_and_fall(values, fps) for values in (change, speed.sum(axis=1)))
        shifts = range(-most, most + 1)
        scores = [_correlation(*_pair(seen, moved, shift, most)) for shift in shifts]
        found.append(Curve(episode, np.array(shifts, dtype=np.float64), np.array(scores)))
    return found


def _judge(camera: str, found: list[Curve], fps: float, report: Report) -> list[Curve]:
    """Say what is out of step; the curves of those episodes."""
    low, high = -EARLY_S * fps, LATE_S * fps
    voices = [curve for curve in found if curve.peak >= FAIR]
    usual = float(np.median([curve.best for curve in voices])) if voices else 0.0
    alike = [curve for curve in voices if abs(curve.best - usual) <= AGREE_S * fps]
    agreed = len(alike) >= max(LEAST_VOICES, AGREE_SHARE * len(found))
    if agreed and not low <= usual <= high:
        # Motion that repeats itself is as like at a shift by its period, in all episodes.
        if np.median([curve.evidence(low, high) for curve in alike]) < EVIDENCE_TOGETHER:
            return []
        message = f"the pictures of camera {camera} are {_words(usual / fps)} the joints, in {len(alike)} of "
        message += f"{len(found)} episodes"
        remedy = "record anew, or leave the episodes out: a policy learns to act on what it will not see"
        report.find("video_shifted", message, remedy, camera=camera)
        return found
    if agreed:
        low, high = usual - APART_S * fps, usual + APART_S * fps
    odd = [curve for curve in voices if curve.evidence(low, high) > EVIDENCE]
    for curve in odd:
        message = f"the pictures of camera {camera} are {_words(curve.best / fps)} the joints"
        message += f", those of other episodes {_words(usual / fps)} them" if agreed else ""
        remedy = DELETE.format(curve.episode)
        report.find("video_shifted", message, remedy, episode=curve.episode, camera=camera)
    return odd


def _words(late_s: float) -> str:
    return f"{late_s:.2f} s behind" if late_s >= 0 else f"{-late_s:.2f} s ahead of"


def _weights(
    changes: Sequence[FloatArray], speeds: Sequence[FloatArray], most: int
) -> tuple[FloatArray, float]:
    """How much each joint's speed changes the picture, from all episodes at the shift that suits them best
    together, and how well that explains it.
    """
    best, weights = -1.0, np.zeros(speeds[0].shape[1])
    for shift in range(-most, most + 1):
        pairs = [_pair(c, s, shift, most) for c, s in zip(changes, speeds, strict=True)]
        change, speed = (np.concatenate(part) for part in zip(*pairs, strict=True))
        tried = _nonnegative(speed, change)
        score = _correlation(change, speed @ tried)
        if score > best:
            best, weights = score, tried
    return weights, best


def _speeds(state: FloatArray) -> FloatArray:
    """Speed of each joint, averaged over three frames: readings are rounded, and late by up to a frame."""
    speed = np.abs(np.diff(state, axis=0))
    padded = np.concatenate([speed[:1], speed, speed[-1:]])
    return np.asarray((padded[:-2] + padded[1:-1] + padded[2:]) / 3.0)


def _rise_and_fall(values: FloatArray, fps: float) -> FloatArray:
    """Logarithm of values, less its mean over a second around."""
    # A part of the median stands for what a still scene has too; without it stillness would be all.
    logs = np.log(values + 0.3 * float(np.median(values)) + 1e-6)
    half = max(1, round(fps / 2))
    padded = np.pad(logs, half, mode="edge")
    return np.asarray(logs - np.convolve(padded, np.full(2 * half + 1, 1.0 / (2 * half + 1)), "valid"))


def _pair(change: FloatArray, speed: FloatArray, shift: int, most: int) -> tuple[FloatArray, FloatArray]:
    """Change and speeds with the pictures ``shift`` frames late; the same frames of change for any shift."""
    n = len(change)
    seen, moved = change[most : n - most], speed[most - shift : n - most - shift]
    return seen - seen.mean(), moved - moved.mean(axis=0)


def _nonnegative(x: FloatArray, y: FloatArray) -> FloatArray:
    """Least squares with no coefficient under zero: the most negative is left out until none is."""
    weights = np.zeros(x.shape[1])
    kept = list(range(x.shape[1]))
    while kept:
        found = np.linalg.lstsq(x[:, kept], y, rcond=None)[0]
        if (found >= 0).all():
            weights[kept] = found
            break
        kept.pop(int(found.argmin()))
    return weights


def _correlation(a: FloatArray, b: FloatArray) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 1e-12 else 0.0
