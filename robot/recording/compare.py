"""What a twin's servos did with a recording's goals, beside what the recorded servos did with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.joints import GRIPPER, JOINTS, N_JOINTS
from robot.recording.replay import Episode
from robot.seams import FloatArray

MAX_LAG_FRAMES = 15
STILL_FRAMES = 15
"""A goal that has not moved for so long, half a second at 30 fps, has been reached as well as it will be."""
STILL_RANGE = 0.5
"""Recording's units within which something counts as still."""
BLOCKED_ERROR = 4.0
"""Percent by which a gripper that stands still is away from its goal when it holds something."""
BLOCKED_FRAMES = 8
MIN_MOTION = 2.0
"""Recording's units of motion below which a lag cannot be told."""


@dataclass(frozen=True, slots=True)
class JointComparison:
    """One joint, in the recording's units and frames; ``None`` where the episode does not show it."""

    rmse: float
    """Between recorded and played positions; the gripper's without the frames in which it held something."""
    rmse_all: float
    """The same over all frames."""
    blocked_frames: int
    """Frames in which the recorded gripper was kept open by a thing that the twin does not have."""
    lag_real_frames: float | None
    """From goal to position, as recorded."""
    lag_twin_frames: float | None
    """From goal to position, as played."""
    static_error_real: float | None
    """Median distance from a goal that stands still, as recorded."""
    static_error_twin: float | None
    """The same, as played."""

    def as_json(self) -> dict[str, Any]:
        """As ``so101 replay --compare`` says it: ``lag_frames`` is twin minus real, ``static_error`` the
        twin's.
        """
        lags = (self.lag_twin_frames, self.lag_real_frames)
        lag = None if lags[0] is None or lags[1] is None else lags[0] - lags[1]
        values = {
            "rmse": self.rmse,
            "lag_frames": lag,
            "static_error": self.static_error_twin,
            "rmse_all": self.rmse_all,
            "blocked_frames": self.blocked_frames,
            "lag_real_frames": self.lag_real_frames,
            "lag_twin_frames": self.lag_twin_frames,
            "static_error_real": self.static_error_real,
            "static_error_twin": self.static_error_twin,
        }
        return {key: round(v, 4) if isinstance(v, float) else v for key, v in values.items()}


@dataclass(frozen=True)
class Comparison:
    """All joints of one episode."""

    joints: dict[str, JointComparison]

    def as_json(self) -> dict[str, Any]:
        """``{"joints": {name: {...}}}``."""
        return {"joints": {name: joint.as_json() for name, joint in self.joints.items()}}


def compare(episode: Episode, played: FloatArray) -> Comparison:
    """Compare a recording with what was played from it.

    Args:
        episode: goals and positions as recorded.
        played: positions at the same frames, in the same units, shape (frames, 6).

    Raises:
        DatasetError: the shapes differ.
    """
    if played.shape != episode.state.shape:
        raise DatasetError(f"the recording has {episode.state.shape} positions, {played.shape} were played")
    joints = {}
    for i in range(N_JOINTS):
        goal, real, twin = episode.action[:, i], episode.state[:, i], played[:, i]
        blocked = blocked_frames(goal, real) if i == GRIPPER else np.zeros(episode.frames, dtype=bool)
        free = ~blocked if not blocked.all() else np.ones_like(blocked)
        error = twin - real
        joints[JOINTS[i]] = JointComparison(
            rmse=float(np.sqrt(np.mean(error[free] ** 2))),
            rmse_all=float(np.sqrt(np.mean(error**2))),
            blocked_frames=int(blocked.sum()),
            lag_real_frames=lag_frames(goal, real),
            lag_twin_frames=lag_frames(goal, twin),
            static_error_real=static_error(goal, real),
            static_error_twin=static_error(goal, twin),
        )
    return Comparison(joints)


def lag_frames(goal: FloatArray, position: FloatArray) -> float | None:
    """Frames by which a position follows its goal, shape (frames,) each; ``None`` without motion.

    The shift with the highest correlation over the frames that both have, between frames by a parabola
    through the best one and its neighbours.
    """
    most = min(MAX_LAG_FRAMES, len(goal) // 3)
    if most < 2 or np.ptp(goal) < MIN_MOTION or np.ptp(position) < MIN_MOTION:
        return None
    scores = np.array([_correlation(goal[: len(goal) - k], position[k:]) for k in range(most + 1)])
    best = int(scores.argmax())
    if best in (0, most):
        return float(best)
    before, top, after = scores[best - 1 : best + 2]
    return best + float(0.5 * (before - after) / (before - 2.0 * top + after))


def static_error(goal: FloatArray, position: FloatArray) -> float | None:
    """Median distance between goal and position where both stand still; ``None`` where they never do."""
    still = _still(goal, STILL_FRAMES) & _still(position, STILL_FRAMES // 3)
    return float(np.median(np.abs(goal - position)[still])) if still.any() else None


def blocked_frames(goal: FloatArray, position: FloatArray) -> NDArray[np.bool_]:
    """Frames in which a gripper stands still far from its goal: it holds something. Shape (frames,)."""
    apart = np.abs(goal - position) > BLOCKED_ERROR
    # Apart for some time, too: a servo that has just got a new goal still stands where it was.
    lasting = np.convolve(apart, np.ones(BLOCKED_FRAMES + 1), "full")[: len(goal)] > BLOCKED_FRAMES
    held = _still(position, BLOCKED_FRAMES) & lasting
    blocked = np.zeros(len(goal), dtype=bool)
    k = 0
    while k < len(goal):
        if not held[k]:
            k += 1
            continue
        start = max(0, k - BLOCKED_FRAMES)
        # Until it moves again: a goal on its way back passes the joint before the joint can follow.
        end = k
        while end < len(goal) and abs(position[end] - position[k]) <= STILL_RANGE:
            end += 1
        blocked[start:end] = True
        k = end
    return blocked


def _still(values: FloatArray, frames: int) -> NDArray[np.bool_]:
    """Whether a value has stayed within ``STILL_RANGE`` for the last ``frames`` frames."""
    still = np.zeros(len(values), dtype=bool)
    if len(values) > frames:
        windows = np.lib.stride_tricks.sliding_window_view(values, frames + 1)
        still[frames:] = np.ptp(windows, axis=1) <= STILL_RANGE
    return still


def _correlation(a: FloatArray, b: FloatArray) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0.0 else 0.0


def plot(path: Path, episode: Episode, played: FloatArray, comparison: Comparison, unit: str) -> None:
    """Draw goals, recorded and played positions of the six joints as a PNG; ``unit`` labels the axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    times_s = np.arange(episode.frames) / episode.fps
    figure = Figure(figsize=(12, 14), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(N_JOINTS, 1, sharex=True)
    for i, (name, joint) in enumerate(comparison.joints.items()):
        axis = axes[i]
        axis.step(times_s, episode.action[:, i], where="post", color="0.6", linewidth=0.8, label="goal")
        axis.plot(times_s, episode.state[:, i], color="tab:blue", label="recorded")
        axis.plot(times_s, played[:, i], color="tab:orange", label="played")
        lag = joint.as_json()["lag_frames"]
        lag_text = "" if lag is None else f", lag {lag:+.2f} frames"
        axis.set_title(f"{name}: rmse {joint.rmse:.2f}{lag_text}", fontsize=9)
        axis.set_ylabel(unit if name != "gripper" else "percent")
        axis.grid(alpha=0.3)
    axes[0].legend(loc="upper right")
    axes[-1].set_xlabel("seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
