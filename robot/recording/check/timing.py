"""Whether rows are as far apart as ``fps`` says, and how old what they hold was.

Two clocks are looked at: ``timestamp``, which writers make up from the frame's number, and, where the
recorder kept it, ``timing.time_s``, the real time of each row.
"""

from __future__ import annotations

import numpy as np

from robot.recording.check.findings import DELETE, Report
from robot.recording.check.survey import Columns, Survey
from robot.recording.meta import EpisodeMeta
from robot.seams import FloatArray

REAL_TIME = "timing.time_s"

RATE_TOLERANCE = 0.02
"""Share by which the rate may be off: LeRobot's loop holds 29.84 to 29.88 of 30 (0.5 %) on a good machine."""
STEADY_SPREAD = 0.1
"""Between the quartiles of the intervals, over their median: below it the rate was held, but is another."""
GAP_FRAMES = 1.8
"""An interval of so many frames is a gap: a picture or more was not recorded."""
STAMP_TOLERANCE_S = 1e-4
"""How far from its frame a time stamp may be: LeRobot's own ``tolerance_s``, beyond which it does not
load."""
CAMERA_AGE_S = 0.2
"""A picture that was older when its row was made: from here the policy worker counts pictures as late. A
camera at 30 frames a second gives one every 33 ms."""
STATE_AGE_S = 0.1
"""The same of joints, which are read every 17 ms: six readings."""
FEW_OLD = 0.02
"""Share of such frames up to which they are a warning: a machine that was busy for a moment."""
FUTURE_S = 1e-3
"""So much newer than its row something may seem, by the rounding of float32."""


def check_rate(seen: Survey, episode: EpisodeMeta, columns: Columns, report: Report) -> float | None:
    """Look at one episode's clocks; the rate in Hz that ``timestamp`` itself keeps, ``None`` if it has
    none.
    """
    stamps = columns.get("timestamp")
    kept = None if stamps is None or len(stamps) < 2 else _rate(stamps)
    found = False
    real = columns.get(REAL_TIME)
    if real is not None and len(real) >= 2 and np.isfinite(real).all():
        found = _real(seen.fps, episode, real.reshape(-1).astype(np.float64), report)
    if stamps is None or not np.isfinite(stamps).all() or found:
        return None if found else kept
    if kept is not None and abs(kept / seen.fps - 1.0) > RATE_TOLERANCE:
        _wrong_fps(seen.fps, kept, "timestamp", episode, report)
        return kept
    off_s = np.abs(stamps.reshape(-1).astype(np.float64) - np.arange(episode.length) / seen.fps)
    # Stamps are float32: at 1000 s they are 6e-5 s apart.
    if (off_s > STAMP_TOLERANCE_S + 1e-7 * np.arange(episode.length) / seen.fps).any():
        frame = int((off_s > STAMP_TOLERANCE_S).argmax())
        message = f"timestamp of frame {frame} is {off_s[frame]:.4f} s off its number / {seen.fps:g}"
        remedy = "`so101 dataset repair` numbers them anew; LeRobot refuses more than 0.0001 s"
        report.find("timestamps_off", message, remedy, episode=episode.index)
    return None


def check_ages(episode: EpisodeMeta, columns: Columns, report: Report) -> None:
    """Look at the ages that the recorder has kept: ``timing.state_age_s``, ``timing.<camera>_age_s``."""
    for name, values in columns.items():
        if not (name.startswith("timing.") and name.endswith("_age_s")) or not np.isfinite(values).all():
            continue
        whose = name.removeprefix("timing.").removesuffix("_age_s")
        most_s = STATE_AGE_S if whose == "state" else CAMERA_AGE_S
        camera = None if whose == "state" else whose
        ages_s = values.reshape(-1)
        what = "the joints were read" if camera is None else f"the picture of camera {camera} was taken"
        remedy = f"free the machine or the USB bus before the next recording; {DELETE.format(episode.index)}"
        if (ages_s > most_s).any():
            n_old = int((ages_s > most_s).sum())
            few = n_old <= FEW_OLD * len(ages_s)
            message = (
                f"in {n_old} frames {what} more than {most_s:g} s before, in frame {int(ages_s.argmax())} "
                f"{ages_s.max():.2f} s"
            )
            report.find(
                "too_old",
                message,
                remedy,
                episode=episode.index,
                camera=camera,
                severity="warning" if few else "error",
            )
        elif (ages_s < -FUTURE_S).any():
            message = f"in frame {int(ages_s.argmin())} {what} {-ages_s.min():.3f} s after the frame's time"
            report.find("from_future", message, remedy, episode=episode.index, camera=camera)


def _real(fps: float, episode: EpisodeMeta, times_s: FloatArray, report: Report) -> bool:
    """Whether the real times of an episode's rows tell of another rate, an uneven one, or gaps."""
    steps_s = np.diff(times_s)
    middle_s = float(np.median(steps_s))
    if middle_s <= 0 or (steps_s <= 0).any():
        frame = int((steps_s <= 0).argmax()) + 1
        message = f"{REAL_TIME} does not grow at frame {frame}"
        report.find("rate_not_held", message, DELETE.format(episode.index), episode=episode.index)
        return True
    rate = 1.0 / middle_s
    low, high = np.quantile(steps_s, [0.25, 0.75])
    if (high - low) / middle_s < STEADY_SPREAD and abs(rate / fps - 1.0) > RATE_TOLERANCE:
        _wrong_fps(fps, rate, REAL_TIME, episode, report)
        return True
    gaps = np.flatnonzero(steps_s > GAP_FRAMES / fps)
    mean = len(steps_s) / float(times_s[-1] - times_s[0])
    if len(gaps):
        frame = int(steps_s.argmax())
        message = (
            f"{len(gaps)} gaps: between frames {frame} and {frame + 1} are {steps_s[frame]:.3f} s, "
            f"{1 / fps:.3f} s is a frame"
        )
        report.find("gaps", message, DELETE.format(episode.index), episode=episode.index)
    elif abs(mean / fps - 1.0) > RATE_TOLERANCE or (high - low) * fps > 2 * STEADY_SPREAD:
        message = (
            f"the rate was not held: {mean:.2f} frames a second instead of {fps:g}, half of the "
            "intervals are "
            f"{low * 1e3:.1f} to {high * 1e3:.1f} ms"
        )
        remedy = f"record with fewer or smaller cameras; {DELETE.format(episode.index)}"
        report.find("rate_not_held", message, remedy, episode=episode.index)
    else:
        return False
    return True


def _wrong_fps(fps: float, rate: float, clock: str, episode: EpisodeMeta, report: Report) -> None:
    message = f"info.json has fps {fps:g}, {clock} goes at {rate:.2f} a second"
    remedy = (
        f"if {rate:.3g} is right write it as fps in meta/info.json: everything learned from it depends on it"
    )
    report.find("fps_wrong", message, remedy, episode=episode.index)


def _rate(stamps: FloatArray) -> float | None:
    steps = np.diff(stamps.reshape(-1).astype(np.float64))
    middle = float(np.median(steps)) if np.isfinite(steps).all() else 0.0
    if middle <= 0:
        return None
    # Over all frames, because a step of float32 stamps is rounded.
    rate = len(steps) / float(np.sum(steps)) if np.abs(steps - middle).max() < 0.2 * middle else 1.0 / middle
    return float(rate)
